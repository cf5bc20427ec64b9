"""What every schedule step shares: its text form, its refusal, and finding its loop."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import MISSING, dataclass, fields, replace
from typing import Any

from midge.core.types import DType
from midge.loop import ir
from midge.loop.affine import Bounds
from midge.loop.rewrite import loops_in, map_stmts
from midge.loop.types import buffer_types


class Refused(Exception):  # noqa: N818 (an answer, not an error: `apply` makes a ScheduleError)
    """A step does not apply here. what: why.  hint: what to do instead."""

    def __init__(self, what: str, hint: str = "") -> None:
        self.what, self.hint = what, hint
        super().__init__(what)


@dataclass(frozen=True, slots=True)
class StepText:
    """Prints a step as `Split(oc, 4, tail=guard)`: fields in order, defaults left out."""

    def __str__(self) -> str:
        parts = []
        for f in fields(self):
            value = getattr(self, f.name)
            if f.default is MISSING:
                parts.append(_text(value))
            elif value != f.default:
                parts.append(f"{f.name}={_text(value)}")
        return f"{type(self).__name__}({', '.join(parts)})"


def _text(value: Any) -> str:
    if isinstance(value, tuple):
        return f"({', '.join(map(_text, value))}{',' if len(value) == 1 else ''})"
    return str(value.value if isinstance(value, DType) else value)


_TOKEN = re.compile(r"\s*(-?\d+|\w+|[(),=])")


class TextError(ValueError):
    """The text of a step cannot be read."""


def read_call(text: str) -> tuple[str, list[Any], dict[str, Any]]:
    """Name, positional and named arguments of `Name(value, ..., key=value, ...)`; a value is a
    word, an integer or a tuple of values. TextError if it is anything else."""
    tokens = _TOKEN.findall(text)
    if "".join(tokens) != re.sub(r"\s", "", text):
        raise TextError(f"cannot read {text!r}")
    stream = _Stream([*tokens, ""])
    name = stream.next()
    stream.expect("(")
    args: list[Any] = []
    named: dict[str, Any] = {}
    while not stream.accept(")"):
        value = stream.value()
        if stream.accept("="):
            named[str(value)] = stream.value()
        else:
            args.append(value)
        if stream.peek() != ")":
            stream.expect(",")
    stream.expect("")
    return name, args, named


@dataclass(slots=True)
class _Stream:
    tokens: list[str]
    position: int = 0

    def peek(self) -> str:
        return self.tokens[self.position]

    def next(self) -> str:
        token = self.peek()
        self.position += bool(token)
        return token

    def accept(self, token: str) -> bool:
        hit = self.peek() == token
        self.position += hit and bool(token)
        return hit

    def expect(self, token: str) -> None:
        if not self.accept(token):
            raise TextError(f"expected {token or 'the end'!r}, found {self.peek()!r}")

    def value(self) -> Any:
        if self.accept("("):
            items = []
            while not self.accept(")"):
                items.append(self.value())
                if self.peek() != ")":
                    self.expect(",")
            return tuple(items)
        token = self.next()
        if not token or token in "(),=":
            raise TextError(f"expected a value, found {token or 'the end'!r}")
        return int(token) if token.lstrip("-").isdigit() else token


@dataclass(frozen=True, slots=True)
class Place:
    """A loop and what encloses it, outermost first."""

    loop: ir.Loop
    outer: tuple[ir.Loop | ir.Guard, ...]

    def bounds(self, func: ir.Func) -> Bounds:
        """What holds just outside the loop."""
        return enclosing_bounds(func, self.outer)


def enclosing_bounds(func: ir.Func, outer: Sequence[ir.Loop | ir.Guard]) -> Bounds:
    """What holds inside the statements `outer`, outermost first."""
    bounds = Bounds(buffers=buffer_types(func))
    for s in outer:
        is_loop = isinstance(s, ir.Loop)
        bounds = bounds.loop(s.var, s.extent) if is_loop else bounds.assuming(s.cond)  # type: ignore[union-attr]
    return bounds


def find(func: ir.Func, name: str) -> Place:
    """The loop called `name`."""
    for place in _places(func.body, ()):
        if place.loop.var == name:
            return place
    known = ", ".join(x.var for x in loops_in(func.body))
    raise Refused(f"there is no loop {name!r}", f"loops: {known}" if known else "")


def _places(body: ir.Block, outer: tuple[ir.Loop | ir.Guard, ...]) -> Iterator[Place]:
    """Loops that steps can name: not those after an `else`, where nobody knows what holds."""
    for s in body:
        if isinstance(s, ir.Loop):
            yield Place(s, outer)
        if isinstance(s, ir.Loop | ir.Guard):
            yield from _places(s.body, (*outer, s))


def put(func: ir.Func, target: ir.Stmt, now: ir.Stmt | ir.Block) -> ir.Func:
    """`func` with one statement (that very object) replaced."""
    return replace(func, body=map_stmts(func.body, lambda s: now if s is target else s))


def sum_of(var: str, factor: int, rest: ir.Expr) -> ir.Expr:
    """var * factor + rest."""
    return ir.add(ir.mul(ir.Var(var), ir.i32(factor)), rest)
