"""Integer expressions as sums, and what is known about their values.

`Linear` is a sum of terms, coefficient times atom; an atom is a loop variable or any expression
that is not a sum itself. `Bounds` knows the ranges of loop variables and the conditions that hold
at a place, and answers with intervals that are never too narrow.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TypeAlias, assert_never

from midge.core.types import DType
from midge.loop import ir
from midge.loop.intrinsics import INTRINSICS
from midge.loop.rewrite import subexprs

Interval: TypeAlias = tuple[int, int]
"""Least and greatest value, both included."""

Terms: TypeAlias = Mapping[ir.Expr, int]

_WIDE: Interval = (DType.I64.min, DType.I64.max)
_I32: Interval = (DType.I32.min, DType.I32.max)


@dataclass(frozen=True, slots=True)
class Linear:
    """The sum of coefficient * atom over `terms`, plus `const`; no coefficient is 0.

    Two are equal when they are the same sum, in whatever order.
    """

    terms: Terms
    const: int

    def __add__(self, other: Linear) -> Linear:
        return Linear(_merged(self.terms, other.terms, 1), self.const + other.const)

    def __sub__(self, other: Linear) -> Linear:
        return Linear(_merged(self.terms, other.terms, -1), self.const - other.const)

    def __mul__(self, factor: int) -> Linear:
        terms = {a: c * factor for a, c in self.terms.items()} if factor else {}
        return Linear(terms, self.const * factor)

    def coefficient(self, var: str) -> int:
        return self.terms.get(ir.Var(var), 0)

    def part(self, names: frozenset[str]) -> Linear:
        """The terms whose atoms mention one of the variables `names`, without the constant."""
        return Linear({a: c for a, c in self.terms.items() if _mentions(a, names)}, 0)

    def expr(self) -> ir.Expr:
        """The sum as an expression; terms in their order, a positive one first if there is one."""
        terms = sorted(self.terms.items(), key=lambda t: t[1] < 0)
        if not terms or (terms[0][1] < 0 < self.const):
            result: ir.Expr = ir.i32(self.const)
            rest = 0
        else:
            atom, c = terms.pop(0)
            result, rest = ir.mul(atom, ir.i32(c)), self.const
        for atom, c in terms:
            term = ir.mul(atom, ir.i32(abs(c)))
            result = ir.Bin("-" if c < 0 else "+", result, term)
        return ir.add(result, ir.i32(rest))


def _merged(a: Terms, b: Terms, sign: int) -> Terms:
    result = dict(a)
    for atom, c in b.items():
        total = result.get(atom, 0) + sign * c
        if total:
            result[atom] = total
        else:
            result.pop(atom, None)
    return result


def _mentions(e: ir.Expr, names: frozenset[str]) -> bool:
    return any(isinstance(x, ir.Var) and x.name in names for x in subexprs(e))


def constant(value: int) -> Linear:
    return Linear({}, value)


def linear(e: ir.Expr) -> Linear:
    """An integer expression as a sum."""
    if isinstance(e, ir.Const):
        return Linear({}, int(e.value))
    if isinstance(e, ir.Bin) and e.op in ("+", "-", "*"):
        a, b = linear(e.lhs), linear(e.rhs)
        if e.op != "*":
            return a + b if e.op == "+" else a - b
        if not b.terms:
            return a * b.const
        if not a.terms:
            return b * a.const
    return Linear({e: 1}, 0)


@dataclass(frozen=True, slots=True)
class Bounds:
    """What is known at a place of a function. Values are immutable: entering a loop or a
    condition gives another one.

    ranges: of atoms. facts: sums known to be at most the given value.
    buffers: element types, which bound what is loaded.
    """

    ranges: Mapping[ir.Expr, Interval] = field(default_factory=dict)
    facts: tuple[tuple[Terms, int], ...] = ()
    buffers: Mapping[str, DType] = field(default_factory=dict)
    # Intervals found so far: a sum asks twice for each of its terms, and so do theirs.
    _found: dict[ir.Expr, Interval] = field(
        init=False, default_factory=dict, compare=False, repr=False
    )

    def loop(self, var: str, extent: int) -> Bounds:
        """Inside `for var in extent`."""
        return Bounds({**self.ranges, ir.Var(var): (0, extent - 1)}, self.facts, self.buffers)

    def assuming(self, cond: ir.Expr) -> Bounds:
        """Where `cond` holds. Only what does not read memory is kept, since that may change."""
        match cond:
            case ir.Bin("and", lhs, rhs):
                return self.assuming(lhs).assuming(rhs)
            case ir.Bin("<" | "<=" | "==" as op, lhs, rhs) if reads_nothing(cond):
                gap = linear(lhs) - linear(rhs)
                known = self._at_most(gap.terms, -gap.const - (op == "<"))
                return known._at_most((gap * -1).terms, gap.const) if op == "==" else known
        return self

    def _at_most(self, terms: Terms, limit: int) -> Bounds:
        if len(terms) != 1:
            return (
                Bounds(self.ranges, (*self.facts, (terms, limit)), self.buffers) if terms else self
            )
        [(atom, c)] = terms.items()
        low, high = self.atom(atom)
        if c > 0:
            high = min(high, limit // c)
        else:
            low = max(low, -(limit // -c))
        return Bounds({**self.ranges, atom: (low, high)}, self.facts, self.buffers)

    def of(self, e: ir.Expr) -> Interval:
        """The least and greatest value of an integer expression."""
        return self.sum(linear(e))

    def sum(self, s: Linear) -> Interval:
        """The least and greatest value of a sum."""
        if not s.terms:
            return s.const, s.const
        low = -self._upper({a: -c for a, c in s.terms.items()}, 2)
        return low + s.const, self._upper(s.terms, 2) + s.const

    def _upper(self, terms: Terms, depth: int) -> int:
        """The greatest value of a sum: term by term, or a known fact and the rest."""
        best = 0
        for atom, c in terms.items():
            low, high = self.atom(atom)
            best += c * high if c > 0 else c * low
        if depth:
            for fact, limit in self.facts:
                if all(terms.get(a, 0) * c > 0 for a, c in fact.items()):
                    rest = _merged(terms, fact, -1)
                    best = min(best, limit + self._upper(rest, depth - 1))
        return best

    def atom(self, e: ir.Expr) -> Interval:
        """The interval of an expression that is not a sum."""
        found = self._found.get(e)
        if found is not None:
            return found
        interval = self._structural(e)
        known = self.ranges.get(e)
        if known is not None and not isinstance(e, ir.Var):
            interval = max(known[0], interval[0]), min(known[1], interval[1])
        self._found[e] = interval
        return interval

    def _structural(self, e: ir.Expr) -> Interval:
        match e:
            case ir.Const(value):
                return int(value), int(value)
            case ir.Var():
                return self.ranges.get(e, _I32)
            case ir.Load(buffer, _):
                return _type_range(self.buffers.get(buffer, DType.I64))
            case ir.Cast(dtype, arg):
                return self._cast(dtype, arg)
            case ir.Select(_, then, other):
                return _union(self.of(then), self.of(other))
            case ir.Call(name, _):
                return _type_range(INTRINSICS[name].result)
            case ir.Bin(op, lhs, rhs):
                return self._bin(op, lhs, rhs)
            case _:
                assert_never(e)

    def _cast(self, dtype: DType, arg: ir.Expr) -> Interval:
        limits = _type_range(dtype)
        if not is_integer(arg, self.buffers):
            return limits
        low, high = self.of(arg)
        low, high = max(low, limits[0]), min(high, limits[1])
        return (low, high) if low <= high else limits

    def _bin(self, op: ir.BinOp, lhs: ir.Expr, rhs: ir.Expr) -> Interval:
        if op in ir.COMPARISONS or op in ir.LOGIC:
            return 0, 1
        if not is_integer(lhs, self.buffers):
            return _WIDE
        return _combined(op, self.of(lhs), self.of(rhs))

    def proves(self, cond: ir.Expr) -> bool | None:
        """Whether a condition on integers always holds, never holds, or neither is known."""
        match cond:
            case ir.Const(value):
                return bool(value)
            case ir.Bin("and" | "or" as op, lhs, rhs):
                return _logic(op, self.proves(lhs), self.proves(rhs))
            case ir.Bin("<" | "<=" | "==" | "!=" as op, lhs, rhs):
                if is_integer(lhs, self.buffers):
                    return _compare(op, *self.sum(linear(lhs) - linear(rhs)))
        return None


def _combined(op: ir.BinOp, lhs: Interval, rhs: Interval) -> Interval:
    """The interval of `lhs op rhs`; that of i64 where nothing better is known."""
    (a, b), (c, d) = lhs, rhs
    match op:
        case "min" | "max":
            pick = min if op == "min" else max
            return pick(a, c), pick(b, d)
        case "%" if c > 0:
            return (max(a, 1 - d) if a < 0 else 0), (min(b, d - 1) if b > 0 else 0)
        case "&" if c >= 0:
            return 0, d
        case "*":
            corners = [x * y for x in lhs for y in rhs]
        case "/" if c > 0:
            corners = [_div(x, y) for x in lhs for y in rhs]
        case ">>" if c >= 0 and d < 64:
            corners = [x >> y for x in lhs for y in rhs]
        case "<<" if c >= 0 and d < 64:
            corners = [x << y for x in lhs for y in rhs]
        case _:
            return _WIDE
    return min(corners), max(corners)


def _logic(op: str, a: bool | None, b: bool | None) -> bool | None:
    decisive = op == "or"
    if decisive in (a, b):
        return decisive
    return None if None in (a, b) else not decisive


def _compare(op: str, low: int, high: int) -> bool | None:
    """`gap op 0` for a gap in [low, high]."""
    match op:
        case "<":
            return True if high < 0 else False if low >= 0 else None
        case "<=":
            return True if high <= 0 else False if low > 0 else None
    equal = True if low == high == 0 else False if low > 0 or high < 0 else None
    return equal if op == "==" or equal is None else not equal


def _div(a: int, b: int) -> int:
    return a // b if a >= 0 else -(-a // b)


def _union(a: Interval, b: Interval) -> Interval:
    return min(a[0], b[0]), max(a[1], b[1])


def _type_range(dtype: DType) -> Interval:
    if dtype is DType.BOOL:
        return 0, 1
    return (dtype.min, dtype.max) if dtype.is_integer else _WIDE


def is_integer(e: ir.Expr, buffers: Mapping[str, DType]) -> bool:
    """Whether `e` is of an integer type; its leftmost typed leaf says so."""
    match e:
        case ir.Const(_, dtype) | ir.Cast(dtype, _):
            return dtype.is_integer
        case ir.Var():
            return True
        case ir.Load(buffer, _):
            return buffer in buffers and buffers[buffer].is_integer
        case ir.Bin(op, lhs, _):
            return op not in ir.COMPARISONS and op not in ir.LOGIC and is_integer(lhs, buffers)
        case ir.Select(_, then, _):
            return is_integer(then, buffers)
        case ir.Call(name, _):
            return INTRINSICS[name].result.is_integer
        case _:
            assert_never(e)


def reads_nothing(e: ir.Expr) -> bool:
    """Whether `e` loads nothing, so that its value depends on loop variables only."""
    return not any(isinstance(x, ir.Load) for x in subexprs(e))
