"""Run a loop function in Python: slow, obvious, the oracle for schedules, instructions and C.

What C leaves undefined or implementation-defined raises here: an index outside its buffer, integer
overflow, a cast that does not fit, a shift out of range, division by zero, reading a local element
before it is written.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import EllipsisType
from typing import assert_never

import numpy as np

from midge.core.types import Array, DType
from midge.loop import ir
from midge.loop.intrinsics import INTRINSICS

Number = int | float


class EvaluationError(AssertionError):
    """The function did what C does not define: a bug of whoever built it."""


@dataclass(frozen=True, slots=True)
class Window:
    """`shape` elements of `data` from `base` on; `written` marks the elements of a local buffer."""

    data: Array
    base: tuple[int, ...]
    shape: tuple[int, ...]
    written: Array | None = None

    def at(self, index: tuple[int, ...]) -> tuple[int, ...]:
        if len(index) != len(self.shape):
            raise EvaluationError(f"{len(index)} indices for {len(self.shape)} dimensions")
        for i, n in zip(index, self.shape, strict=True):
            if not 0 <= i < n:
                raise EvaluationError(f"index {index} is outside {self.shape}")
        return tuple(b + i for b, i in zip(self.base, index, strict=True))


def evaluate(
    func: ir.Func, memory: Mapping[str, Array], meanings: Mapping[str, ir.Func] | None = None
) -> None:
    """Execute `func` on `memory` (parameter name -> array of its shape and type) in place.

    Instructions run through their meaning, by name in `meanings`.
    """
    windows = {}
    for p in func.params:
        array = memory[p.name]
        if array.shape != p.shape or DType.of(array) is not p.dtype:
            raise EvaluationError(f"{func.name}: {p.name} is {array.dtype}{array.shape}")
        windows[p.name] = Window(array, (0,) * array.ndim, array.shape)
    _Machine(windows, meanings or {}).block(func.body)


@dataclass(slots=True)
class _Machine:
    memory: dict[str, Window]
    meanings: Mapping[str, ir.Func]
    env: dict[str, int] = field(default_factory=dict)

    def block(self, body: ir.Block) -> None:
        for s in body:
            self.run(s)

    def run(self, s: ir.Stmt) -> None:
        match s:
            case ir.Store(buffer, index, value):
                self.store(buffer, index, self.value(value))
            case ir.Loop(var, extent, body):
                for self.env[var] in range(extent):
                    self.block(body)
            case ir.Guard(cond, body, other):
                self.block(body if self.value(cond) else other)
            case ir.Alloc(buffer, dtype, shape):
                data = np.zeros(shape, dtype.numpy)
                self.memory[buffer] = Window(data, (0,) * len(shape), shape, np.zeros(shape, bool))
            case ir.Instr(name, args):
                self.call(self.meanings[name], args)
            case _:
                assert_never(s)

    def store(self, buffer: str, index: tuple[ir.Expr, ...], value: Number) -> None:
        w = self.memory[buffer]
        at = w.at(tuple(int(self.value(i)) for i in index))
        w.data[at] = value
        if w.written is not None:
            w.written[at] = True

    def call(self, meaning: ir.Func, args: tuple[tuple[str, tuple[ir.Expr, ...]], ...]) -> None:
        windows = {}
        for param, (buffer, index) in zip(meaning.params, args, strict=True):
            w = self.memory[buffer]
            first = w.at(tuple(int(self.value(i)) for i in index))
            shape = (1,) * (len(w.shape) - len(param.shape)) + param.shape
            # the ellipsis keeps an element of a scalar buffer an array
            spans = (slice(f, f + n) for f, n in zip(first, shape, strict=True))
            box: tuple[slice | EllipsisType, ...] = (*spans, ...)
            data = w.data[box]
            if data.shape != shape:
                raise EvaluationError(f"{meaning.name}: {param.name} reaches outside {buffer}")
            windows[param.name] = data.reshape(param.shape)
            if w.written is not None and param.mode != "in":
                w.written[box] = True
        evaluate(meaning, windows, self.meanings)

    def value(self, e: ir.Expr) -> Number:
        match e:
            case ir.Const(value):
                return value
            case ir.Var(name):
                return self.env[name]
            case ir.Load(buffer, index):
                return self.load(buffer, index)
            case ir.Bin("and", lhs, rhs):
                return bool(self.value(lhs)) and bool(self.value(rhs))
            case ir.Bin("or", lhs, rhs):
                return bool(self.value(lhs)) or bool(self.value(rhs))
            case ir.Bin(op, lhs, rhs):
                return arithmetic(op, self.value(lhs), self.value(rhs), self.wide(e))
            case ir.Cast(dtype, arg):
                return convert(dtype, self.value(arg))
            case ir.Select(cond, then, other):
                return self.value(then if self.value(cond) else other)
            case ir.Call(name, args):
                return INTRINSICS[name].meaning(*(self.value(a) for a in args))
            case _:
                assert_never(e)

    def load(self, buffer: str, index: tuple[ir.Expr, ...]) -> Number:
        w = self.memory[buffer]
        at = w.at(tuple(int(self.value(i)) for i in index))
        if w.written is not None and not w.written[at]:
            raise EvaluationError(f"{buffer}{list(at)} is read before it is written")
        value: Number = w.data[at].item()
        return value

    def wide(self, e: ir.Expr) -> bool:
        """Whether the expression is 64 bits wide (its leftmost typed leaf says so)."""
        match e:
            case ir.Const(_, dtype) | ir.Cast(dtype, _):
                return dtype is DType.I64
            case ir.Var():
                return False
            case ir.Load(buffer, _):
                return self.memory[buffer].data.dtype == np.int64
            case ir.Bin(_, lhs, _):
                return self.wide(lhs)
            case ir.Select(_, then, _):
                return self.wide(then)
            case ir.Call(name, _):
                return INTRINSICS[name].result is DType.I64
            case _:
                assert_never(e)


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
