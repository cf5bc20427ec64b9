"""The loop IR: what the C will be, minus the spelling. Seven expressions, five statements.

    e ::= Const | Var | Load | Bin | Cast | Select | Call
    s ::= Store | Loop | Guard | Alloc | Instr

A function reads and writes buffers with static shapes through index tuples. Arithmetic is done on
i32, i64 and f32 only: narrower elements are cast when they are loaded and before they are stored.
Integer arithmetic must not overflow (the C would be undefined); `evaluate` raises if it does.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import copysign, isnan, prod
from typing import Literal, TypeAlias

import numpy as np

from midge.core.types import DType

BinOp = Literal[
    "+", "-", "*", "/", "%", "<<", ">>", "&", "|", "^", "min", "max", "<", "<=", "==", "!=",
    "and", "or",
]  # fmt: skip
COMPARISONS = frozenset({"<", "<=", "==", "!="})
LOGIC = frozenset({"and", "or"})


class _Hashed:
    """What is looked up by its parts, often: its hash is found once."""

    __slots__ = ("_hash",)
    _hash: int

    def __hash__(self) -> int:
        try:
            return self._hash
        except AttributeError:
            own = hash(tuple([getattr(self, name) for name in type(self).__match_args__]))  # type: ignore[attr-defined]
            object.__setattr__(self, "_hash", own)
            return own


@dataclass(frozen=True, slots=True, eq=False)
class Const:
    """A literal; bool for BOOL, int for integers, float (a binary32 value) for F32.

    Equal are those of the same bits: 0.0 is not -0.0, and NaN is itself.
    """

    value: int | float | bool
    dtype: DType

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Const) or self.dtype is not other.dtype:
            return False
        a, b = self.value, other.value
        if a == b:
            return bool(a) or copysign(1, a) == copysign(1, b)
        return isnan(a) and isnan(b)

    def __hash__(self) -> int:
        return 0 if isnan(self.value) else hash(self.value)


@dataclass(frozen=True, slots=True)
class Var:
    """A loop variable, always i32. Names are unique within a function."""

    name: str

    def __hash__(self) -> int:
        return hash(self.name)


@dataclass(frozen=True, slots=True)
class Load(_Hashed):
    """An element of a buffer; one index expression (i32) per dimension."""

    buffer: str
    index: tuple[Expr, ...]

    __hash__ = _Hashed.__hash__


@dataclass(frozen=True, slots=True)
class Bin(_Hashed):
    """`lhs op rhs`, both of one type. "/" and "%" truncate towards zero as in C; ">>" is
    arithmetic; "min", "max" and comparisons take any arithmetic type; "and", "or" take bool and
    evaluate the right side only if needed."""

    op: BinOp
    lhs: Expr
    rhs: Expr

    __hash__ = _Hashed.__hash__


@dataclass(frozen=True, slots=True)
class Cast(_Hashed):
    """Conversion of a value. Integers must fit the narrower type (the C would be
    implementation-defined otherwise); f32 to integer truncates towards zero."""

    dtype: DType
    arg: Expr

    __hash__ = _Hashed.__hash__


@dataclass(frozen=True, slots=True)
class Select(_Hashed):
    """`then` if `cond` else `other`; only the chosen side is evaluated."""

    cond: Expr
    then: Expr
    other: Expr

    __hash__ = _Hashed.__hash__


@dataclass(frozen=True, slots=True)
class Call(_Hashed):
    """A call of an intrinsic: a pure scalar function of `loop.intrinsics`."""

    name: str
    args: tuple[Expr, ...]

    __hash__ = _Hashed.__hash__


Expr: TypeAlias = Const | Var | Load | Bin | Cast | Select | Call


@dataclass(frozen=True, slots=True)
class Store:
    """buffer[index] = value; `value` has the buffer's element type."""

    buffer: str
    index: tuple[Expr, ...]
    value: Expr


@dataclass(frozen=True, slots=True)
class Loop:
    """for var in range(extent): body. An "unrolled" one is written out when emitted."""

    var: str
    extent: int
    body: tuple[Stmt, ...]
    kind: Literal["serial", "unrolled"] = "serial"


@dataclass(frozen=True, slots=True)
class Guard:
    """if cond: body else: other."""

    cond: Expr
    body: tuple[Stmt, ...]
    other: tuple[Stmt, ...] = ()


@dataclass(frozen=True, slots=True)
class Alloc:
    """A local buffer, uninitialised, alive to the end of the enclosing block. Shape () is a
    scalar. Names are unique within a function."""

    buffer: str
    dtype: DType
    shape: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Instr:
    """A use of a target's instruction; `args` are windows of buffers, one per parameter of the
    instruction's meaning, as (buffer, index of the first element)."""

    name: str
    args: tuple[tuple[str, tuple[Expr, ...]], ...]


Stmt: TypeAlias = Store | Loop | Guard | Alloc | Instr
Block: TypeAlias = tuple[Stmt, ...]


@dataclass(frozen=True, slots=True)
class Param:
    """A buffer of the caller. "const" ones are constants known at compile time (weights), "scratch"
    ones hold nothing before and after.

    rows: the first so many axes are those of an array of pointers, to as many rows that lie
    anywhere; 0 for a buffer in one piece.
    """

    name: str
    dtype: DType
    shape: tuple[int, ...]
    mode: Literal["in", "out", "inout", "const", "scratch"]
    rows: int = 0

    @property
    def elements(self) -> int:
        return prod(self.shape)


@dataclass(frozen=True, slots=True)
class Func:
    name: str
    params: tuple[Param, ...]
    body: Block

    def __str__(self) -> str:
        from midge.loop.text import print_func

        return print_func(self)


def i32(value: int) -> Const:
    return Const(int(value), DType.I32)


def f32(value: float) -> Const:
    """The nearest value of binary32."""
    return const(value, DType.F32)


def const(value: float, dtype: DType) -> Const:
    """A constant; of floats the nearest that the type has."""
    return Const(_nearest(value, dtype) if dtype.is_float else int(value), dtype)


def _nearest(value: float, dtype: DType) -> float:
    with np.errstate(over="ignore"):
        return float(dtype.numpy.type(value))


def cast(dtype: DType, e: Expr, source: DType) -> Expr:
    """`e` of type `source` as `dtype`; constants are converted, equal types left alone."""
    if dtype is source:
        return e
    if isinstance(e, Const):
        return const(e.value, dtype)
    return Cast(dtype, e)


def add(lhs: Expr, rhs: Expr) -> Expr:
    """lhs + rhs on i32, constants folded."""
    match lhs, rhs:
        case Const(a, DType.I32), Const(b, DType.I32):
            return i32(int(a) + int(b))
        case _, Const(0, DType.I32):
            return lhs
        case Const(0, DType.I32), _:
            return rhs
        case Bin("+", inner, Const(a, DType.I32)), Const(b, DType.I32):
            return add(inner, i32(int(a) + int(b)))
        case _, Const(b, DType.I32) if b < 0:
            return Bin("-", lhs, i32(-int(b)))
    return Bin("+", lhs, rhs)


def sub(lhs: Expr, rhs: Expr) -> Expr:
    """lhs - rhs on i32, constants folded."""
    if isinstance(rhs, Const):
        return add(lhs, i32(-int(rhs.value)))
    return Bin("-", lhs, rhs)


def mul(lhs: Expr, rhs: Expr) -> Expr:
    """lhs * rhs on i32, constants folded."""
    match lhs, rhs:
        case Const(a, DType.I32), Const(b, DType.I32):
            return i32(int(a) * int(b))
        case _, Const(1, DType.I32):
            return lhs
        case Const(1, DType.I32), _:
            return rhs
        case (_, Const(0, DType.I32)) | (Const(0, DType.I32), _):
            return i32(0)
    return Bin("*", lhs, rhs)


def total(terms: Sequence[Expr]) -> Expr:
    """The sum of i32 terms; 0 if there are none."""
    result: Expr = i32(0)
    for term in terms:
        result = add(result, term)
    return result


def conjunction(conditions: Sequence[Expr]) -> Expr | None:
    """All of `conditions`, or None if there are none."""
    result: Expr | None = None
    for c in conditions:
        result = c if result is None else Bin("and", result, c)
    return result


def in_range(e: Expr, size: int) -> Expr:
    """0 <= e < size."""
    return Bin("and", Bin("<=", i32(0), e), Bin("<", e, i32(size)))
