"""Run a loop function in Python, line by line: the oracle for schedules, instructions and C.

What C leaves undefined or implementation-defined raises here: an index outside its buffer, integer
overflow, a cast that does not fit, a shift out of range, division by zero, reading a local element
before it is written.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import EllipsisType
from typing import Any, NoReturn, assert_never

import numpy as np

from midge.core.types import Array, DType
from midge.loop import ir
from midge.loop.intrinsics import INTRINSICS
from midge.loop.types import buffer_types

Number = int | float

_MOST_KNOWN = 256  # translated functions that are kept


class EvaluationError(AssertionError):
    """The function did what C does not define: a bug of whoever built it."""


def evaluate(
    func: ir.Func, memory: Mapping[str, Array], meanings: Mapping[str, ir.Func] | None = None
) -> None:
    """Execute `func` on `memory` (parameter name -> array of its shape and type) in place.

    Instructions run through their meaning, by name in `meanings`.
    """
    arrays = [memory[p.name] for p in func.params]
    for p, array in zip(func.params, arrays, strict=True):
        if array.shape != p.shape or DType.of(array) is not p.dtype:
            raise EvaluationError(f"{func.name}: {p.name} is {array.dtype}{array.shape}")
    _translated(func)(meanings or {}, *arrays)


_Run = Callable[..., None]
_known: dict[int, tuple[ir.Func, _Run]] = {}  # by id, which the function keeps


def _translated(func: ir.Func) -> _Run:
    """What a function does, as Python."""
    if id(func) not in _known:
        if len(_known) >= _MOST_KNOWN:
            _known.clear()
        _known[id(func)] = func, _Translator(func).function()
    return _known[id(func)][1]


class _Translator:
    """Writes a Python function, one line for each expression: nothing nests, whatever the IR does.

    Buffers are arrays, `b0`; local ones have a second one, `w0`, of what has been written. All
    that C leaves open is looked for on the way.
    """

    def __init__(self, func: ir.Func) -> None:
        self.func = func
        self.lines: list[str] = []
        self.indent = 1
        self.types = buffer_types(func)
        self.shapes = {p.name: p.shape for p in func.params}
        self.buffers = {p.name: f"b{i}" for i, p in enumerate(func.params)}
        self.written: dict[str, str] = {}
        self.vars: dict[str, str] = {}
        self.count = len(self.buffers)
        self.outside: dict[str, Any] = {
            "np": np, "calculated": arithmetic, "convert": convert, "refused": _refused,
            "call": _call, "div": _truncating_div,
        }  # fmt: skip

    def function(self) -> _Run:
        self.block(self.func.body)
        params = "".join(f", {self.buffers[p.name]}" for p in self.func.params)
        head = f"def run(meanings{params}):"
        text = "\n".join([head, *self.lines, " return"])
        exec(compile(text, f"<{self.func.name}>", "exec"), self.outside)
        made: _Run = self.outside["run"]
        return made

    def line(self, text: str) -> None:
        self.lines.append(" " * self.indent + text)

    def name(self, letter: str) -> str:
        self.count += 1
        return f"{letter}{self.count}"

    def let(self, text: str) -> str:
        name = self.name("t")
        self.line(f"{name} = {text}")
        return name

    def other(self, value: Any) -> str:
        """A name for what has no spelling."""
        name = self.name("k")
        self.outside[name] = value
        return name

    def block(self, body: ir.Block) -> None:
        for s in body:
            self.stmt(s)

    def nested(self, head: str, body: ir.Block) -> None:
        self.line(head)
        self.indent += 1
        self.line("pass")
        self.block(body)
        self.indent -= 1

    def stmt(self, s: ir.Stmt) -> None:
        match s:
            case ir.Store(buffer, index, value):
                v = self.value(value)
                at = self.at(buffer, index)
                self.line(f"{self.buffers[buffer]}[{at}] = {v}")
                if buffer in self.written:
                    self.line(f"{self.written[buffer]}[{at}] = True")
            case ir.Loop(var, extent, body):
                self.vars[var] = self.name("v")
                self.nested(f"for {self.vars[var]} in range({extent}):", body)
            case ir.Guard(cond, body, other):
                self.nested(f"if {self.value(cond)}:", body)
                self.nested("else:", other)
            case ir.Alloc(buffer, dtype, shape):
                self.buffers[buffer], self.written[buffer] = self.name("b"), self.name("w")
                self.shapes[buffer] = shape
                kind = self.other(dtype.numpy)
                self.line(f"{self.buffers[buffer]} = np.zeros({shape}, {kind})")
                self.line(f"{self.written[buffer]} = np.zeros({shape}, bool)")
            case ir.Instr(name, args):
                windows = [
                    f"({self.buffers[b]}, {self.written.get(b)}, ({self.at(b, index)}))"
                    for b, index in args
                ]
                self.line(f"call(meanings, {name!r}, [{', '.join(windows)}])")
            case _:
                assert_never(s)

    def at(self, buffer: str, index: tuple[ir.Expr, ...]) -> str:
        """The index of an element, which is in the buffer."""
        shape = self.shapes[buffer]
        if len(index) != len(shape):
            raise EvaluationError(f"{len(index)} indices for {len(shape)} dimensions")
        found = [self.value(i) for i in index]
        text = "".join(f"{i}, " for i in found)
        inside = " and ".join(f"0 <= {i} < {n}" for i, n in zip(found, shape, strict=True))
        if inside:
            self.line(f"if not ({inside}): refused(f'index {{({text})}} is outside {shape}')")
        return text or "()"

    def value(self, e: ir.Expr) -> str:
        """The name, or the spelling, of an expression's value."""
        match e:
            case ir.Const(value, dtype):
                return self.other(value) if dtype.is_float else repr(value)
            case ir.Var(name):
                return self.vars[name]
            case ir.Load(buffer, index):
                return self.load(buffer, index)
            case ir.Bin("and", lhs, rhs):
                return self.chosen(lhs, rhs, ir.Const(False, DType.BOOL))
            case ir.Bin("or", lhs, rhs):
                return self.chosen(lhs, ir.Const(True, DType.BOOL), rhs)
            case ir.Bin(op, lhs, rhs):
                return self.binary(op, self.value(lhs), self.value(rhs), self.type(lhs))
            case ir.Cast(dtype, arg):
                return self.let(f"convert({self.other(dtype)}, {self.value(arg)})")
            case ir.Select(cond, then, other):
                return self.chosen(cond, then, other)
            case ir.Call(name, args):
                values = ", ".join([self.value(a) for a in args])
                return self.let(f"{self.other(INTRINSICS[name].meaning)}({values})")
            case _:
                assert_never(e)

    def load(self, buffer: str, index: tuple[ir.Expr, ...]) -> str:
        at = self.at(buffer, index)
        if buffer in self.written:
            text = f"{buffer}[{at}] is read before it is written"
            self.line(f"if not {self.written[buffer]}[{at}]: refused({text!r})")
        return self.let(f"{self.buffers[buffer]}[{at}].item()")

    def chosen(self, cond: ir.Expr, then: ir.Expr, other: ir.Expr) -> str:
        """`then` or `other`; only one of them is evaluated."""
        name = self.name("t")
        for head, value in ((f"if {self.value(cond)}:", then), ("else:", other)):
            self.line(head)
            self.indent += 1
            self.line(f"{name} = {self.value(value)}")
            self.indent -= 1
        return name

    def binary(self, op: str, a: str, b: str, dtype: DType) -> str:
        if dtype.is_float:
            return self.let(f"calculated({op!r}, {a}, {b}, False)")
        if op in ir.COMPARISONS or op in "&|^":
            return self.let(f"{a} {op} {b}")
        if op in ("min", "max"):
            return self.let(f"{op}({a}, {b})")
        match op:
            case "/":
                name = self.let(f"div({a}, {b})")
            case "%":
                name = self.let(f"{a} - {b} * div({a}, {b})")
            case "<<" | ">>":
                self.line(f"if not 0 <= {b} < 64: refused(f'shift by {{{b}}}')")
                name = self.let(f"{a} {op} {b}")
            case _:
                name = self.let(f"{a} {op} {b}")
        limit = 1 << (63 if dtype is DType.I64 else 31)
        text = f"f'{{{a}}} {op} {{{b}}} overflows'"
        self.line(f"if not {-limit} <= {name} < {limit}: refused({text})")
        return name

    def type(self, e: ir.Expr) -> DType:
        """The type of what an operation computes with: of its leftmost typed leaf."""
        match e:
            case ir.Const(_, dtype) | ir.Cast(dtype, _):
                return dtype
            case ir.Var():
                return DType.I32
            case ir.Load(buffer, _):
                return self.types[buffer]
            case ir.Bin(_, lhs, _):
                return self.type(lhs)
            case ir.Select(_, then, _):
                return self.type(then)
            case ir.Call(name, _):
                return INTRINSICS[name].result
            case _:
                assert_never(e)


def _refused(what: str) -> NoReturn:
    raise EvaluationError(what)


def _call(
    meanings: Mapping[str, ir.Func],
    name: str,
    args: Sequence[tuple[Array, Array | None, tuple[int, ...]]],
) -> None:
    """Run an instruction; args: buffer, what of it is written, the first element of a window."""
    meaning = meanings[name]
    windows = {}
    for param, (buffer, written, first) in zip(meaning.params, args, strict=True):
        shape = (1,) * (buffer.ndim - len(param.shape)) + param.shape
        # the ellipsis keeps an element of a scalar buffer an array
        spans = (slice(f, f + n) for f, n in zip(first, shape, strict=True))
        box: tuple[slice | EllipsisType, ...] = (*spans, ...)
        data = buffer[box]
        if data.shape != shape:
            raise EvaluationError(f"{meaning.name}: {param.name} reaches outside its buffer")
        windows[param.name] = data.reshape(param.shape)
        if written is not None and param.mode != "in":
            written[box] = True
    evaluate(meaning, windows, meanings)


def arithmetic(op: str, a: Number, b: Number, wide: bool) -> Number:
    """`a op b` on f32, or on i64 if `wide`, else on i32; EvaluationError where C is undefined."""
    if isinstance(a, float) or isinstance(b, float):
        return _float_arithmetic(op, float(a), float(b))
    result = _INTEGER[op](int(a), int(b))
    limit = 1 << (63 if wide else 31)
    if not -limit <= result < limit:
        raise EvaluationError(f"{a} {op} {b} overflows")
    return result


def _truncating_div(a: int, b: int) -> int:
    if b == 0:
        raise EvaluationError("division by zero")
    return abs(a) // abs(b) * (1 if (a < 0) == (b < 0) else -1)


def _shift(a: int, b: int, op: Callable[[int, int], int]) -> int:
    if not 0 <= b < 64:
        raise EvaluationError(f"shift by {b}")
    return op(a, b)


_INTEGER: dict[str, Callable[[int, int], int]] = {
    "+": lambda a, b: a + b,
    "-": lambda a, b: a - b,
    "*": lambda a, b: a * b,
    "/": _truncating_div,
    "%": lambda a, b: a - b * _truncating_div(a, b),
    "<<": lambda a, b: _shift(a, b, lambda x, y: x << y),
    ">>": lambda a, b: _shift(a, b, lambda x, y: x >> y),
    "&": lambda a, b: a & b,
    "|": lambda a, b: a | b,
    "^": lambda a, b: a ^ b,
    "min": min,
    "max": max,
    "<": lambda a, b: a < b,
    "<=": lambda a, b: a <= b,
    "==": lambda a, b: a == b,
    "!=": lambda a, b: a != b,
}


def _float_arithmetic(op: str, a: float, b: float) -> Number:
    """IEEE binary32: every result is rounded once."""
    x, y = np.float32(a), np.float32(b)
    with np.errstate(all="ignore"):
        match op:
            case "+":
                return float(x + y)
            case "-":
                return float(x - y)
            case "*":
                return float(x * y)
            case "/":
                return float(x / y)
            case "min":
                return float(y if y < x else x)
            case "max":
                return float(y if y > x else x)
            case "<" | "<=" | "==" | "!=":
                return bool(_INTEGER[op](x, y))  # type: ignore[arg-type]
    raise EvaluationError(f"{op!r} is not defined on f32")


def convert(dtype: DType, value: Number) -> Number:
    """`value` as `dtype`; EvaluationError if it does not fit."""
    if dtype.is_float:
        return float(np.float32(value))
    if dtype is DType.BOOL:
        return bool(value)
    if isinstance(value, float) and not np.isfinite(value):
        raise EvaluationError(f"{value} does not fit {dtype.value}")
    result = int(value)
    if not dtype.min <= result <= dtype.max:
        raise EvaluationError(f"{result} does not fit {dtype.value}")
    return result
