"""The tokens of a line of the loop IR's text, and what they spell: `text` reads lines with them."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import NoReturn, TypeVar, cast

import numpy as np

from midge.core.errors import VerifyError
from midge.core.types import DType
from midge.loop import ir

DTYPES = {d.value: d for d in DType}
NAME = r"[A-Za-z_]\w*"
PRECEDENCE = {
    "or": 1, "and": 2, "<": 3, "<=": 3, "==": 3, "!=": 3, "|": 4, "^": 5, "&": 6,
    "<<": 7, ">>": 7, "+": 8, "-": 8, "*": 9, "/": 9, "%": 9,
}  # fmt: skip
COMPARISON = 3


def fail(number: int, expected: str, found: str) -> NoReturn:
    raise VerifyError(f"expected {expected}, found {found!r}", where=f"line {number}")


_NUMBER = r"(?:inf|nan|\d+(?:\.\d+)?(?:e[+-]?\d+)?)(?!\w)"
_TOKEN = re.compile(
    rf"\s*(?:(?P<number>{_NUMBER})|(?P<name>{NAME})"
    r"|(?P<sign><<|>>|<=|==|!=|[-+*/%<&|^=,:()\[\]]))"
)
_T = TypeVar("_T")


@dataclass(slots=True)
class Tokens:
    """One line's tokens, read by recursive descent with precedence climbing."""

    tokens: list[tuple[str, str]]
    number: int
    buffers: set[str]
    position: int = 0

    @staticmethod
    def read(text: str, number: int, buffers: set[str]) -> Tokens:
        tokens, at = [], 0
        while at < len(text.rstrip()):
            found = _TOKEN.match(text, at)
            if found is None:
                fail(number, "an expression", text[at:].strip())
            tokens.append((found.lastgroup or "", found[found.lastgroup or 0]))
            at = found.end()
        return Tokens([*tokens, ("end", "the end of the line")], number, buffers)

    def all(self, rule: Callable[[Tokens], _T]) -> _T:
        result = rule(self)
        if self.kind != "end":
            self.fail("the end of the line")
        return result

    @property
    def kind(self) -> str:
        return self.tokens[self.position][0]

    @property
    def text(self) -> str:
        return self.tokens[self.position][1]

    def fail(self, expected: str) -> NoReturn:
        fail(self.number, expected, self.text)

    def accept(self, text: str) -> bool:
        hit = self.kind in ("sign", "name") and self.text == text
        self.position += hit
        return hit

    def expect(self, text: str) -> None:
        if not self.accept(text):
            self.fail(repr(text))

    def take(self, kind: str, expected: str) -> str:
        if self.kind != kind:
            self.fail(expected)
        self.position += 1
        return self.tokens[self.position - 1][1]

    def simple(self) -> ir.Stmt:
        """buffer[index] = value, or instruction(windows)."""
        name = self.take("name", "a statement")
        if self.accept("("):
            return ir.Instr(name, tuple(self.list(")", Tokens.window)))
        index = self.index()
        self.expect("=")
        return ir.Store(name, index, self.expr())

    def window(self) -> tuple[str, tuple[ir.Expr, ...]]:
        return self.take("name", "a buffer"), self.index()

    def index(self) -> tuple[ir.Expr, ...]:
        return tuple(self.list("]", Tokens.expr)) if self.accept("[") else ()

    def list(self, close: str, item: Callable[[Tokens], _T]) -> list[_T]:
        items: list[_T] = []
        while not self.accept(close):
            if items:
                self.expect(",")
            items.append(item(self))
        return items

    def expr(self, least: int = 1) -> ir.Expr:
        lhs = self.atom()
        while (level := PRECEDENCE.get(self.text, 0)) >= least and self.kind != "end":
            op = self.tokens[self.position][1]
            self.position += 1
            lhs = ir.Bin(cast(ir.BinOp, op), lhs, self.expr(level + 1))
            if level == COMPARISON and PRECEDENCE.get(self.text) == COMPARISON:
                self.fail("no second comparison (use `and`)")
        return lhs

    def atom(self) -> ir.Expr:
        if self.accept("("):
            inner = self.expr()
            self.expect(")")
            return inner
        negative = self.accept("-")
        if self.kind == "number" or negative:
            return self.const("-" if negative else "")
        name = self.take("name", "an expression")
        if name in ("true", "false"):
            return ir.Const(name == "true", DType.BOOL)
        if self.accept("("):
            return self.call(name, tuple(self.list(")", Tokens.expr)))
        if self.accept("["):
            return ir.Load(name, tuple(self.list("]", Tokens.expr)))
        return ir.Load(name, ()) if name in self.buffers else ir.Var(name)

    def const(self, sign: str) -> ir.Const:
        text = sign + self.take("number", "a number")
        is_float = not text.removeprefix("-").isdigit()
        dtype = DType.F32 if is_float else DType.I32
        if self.accept(":"):
            name = self.take("name", "a type")
            dtype = DTYPES.get(name, dtype)
            if name not in DTYPES or dtype.is_float != is_float:
                fail(self.number, f"a type that suits {text}", name)
        if not is_float:
            return ir.Const(int(text), dtype)
        if text == "nan":
            return ir.Const(math.nan, dtype)
        with np.errstate(over="ignore"):
            return ir.Const(float(dtype.numpy.type(text)), dtype)

    def call(self, name: str, args: tuple[ir.Expr, ...]) -> ir.Expr:
        arity = 1 if name in DTYPES else {"min": 2, "max": 2, "select": 3}.get(name, len(args))
        if len(args) != arity:
            fail(self.number, f"{arity} arguments of {name}", str(len(args)))
        if name in DTYPES:
            return ir.Cast(DTYPES[name], args[0])
        if name in ("min", "max"):
            return ir.Bin(cast(ir.BinOp, name), *args)
        return ir.Select(*args) if name == "select" else ir.Call(name, args)
