"""Index arithmetic: sums of loop variables with divisions and remainders by constants.

    (i_o * 4 + i_i) / 4          ->  i_o          for 0 <= i_i < 4
    (i_o * 4 + i_i) % 4          ->  i_i
    f / 3 * 3 + f % 3            ->  f
    2 * (i + 1) - 2              ->  i * 2

All of it keeps C's meaning: "/" and "%" truncate towards zero.
"""

from __future__ import annotations

from midge.core.types import DType
from midge.loop import ir
from midge.loop.affine import Bounds, Linear, constant, linear

_LIMIT = DType.I32.max
_OPERATIONS = frozenset({"+", "-", "*", "/", "%", "min", "max"})


def is_index(e: ir.Expr) -> bool:
    """Whether `e` is integer arithmetic on loop variables and i32 constants alone."""
    if isinstance(e, ir.Bin):
        return e.op in _OPERATIONS and is_index(e.lhs) and is_index(e.rhs)
    return isinstance(e, ir.Var) or (isinstance(e, ir.Const) and e.dtype is DType.I32)


def collect(e: ir.Expr, bounds: Bounds) -> ir.Expr:
    """An index expression as one sum, unless some part of it could then overflow."""
    result = _sum(e, bounds)
    reach = abs(result.const)
    for atom, c in result.terms.items():
        low, high = bounds.atom(atom)
        reach += abs(c) * max(abs(low), abs(high))
    return result.expr() if reach <= _LIMIT else e


def _sum(e: ir.Expr, bounds: Bounds) -> Linear:
    match e:
        case ir.Const(value):
            return constant(int(value))
        case ir.Var():
            low, high = bounds.atom(e)
            return constant(low) if low == high else linear(e)
        case ir.Bin("+", lhs, rhs):
            return _rejoined(_sum(lhs, bounds) + _sum(rhs, bounds))
        case ir.Bin("-", lhs, rhs):
            return _rejoined(_sum(lhs, bounds) - _sum(rhs, bounds))
        case ir.Bin(op, lhs, rhs):
            a, b = _sum(lhs, bounds), _sum(rhs, bounds)
            return _operation(op, a, b, bounds)
    raise AssertionError(f"not an index expression: {e}")


def _operation(op: ir.BinOp, a: Linear, b: Linear, bounds: Bounds) -> Linear:
    match op:
        case "*" if not b.terms:
            return a * b.const
        case "*" if not a.terms:
            return b * a.const
        case "/" if not b.terms and b.const > 0:
            return _quotient(a, b.const, bounds)
        case "%" if not b.terms and b.const > 0:
            return _remainder(a, b.const, bounds)
        case "min" | "max":
            low, high = bounds.sum(a - b)
            if high <= 0 or low >= 0:
                return a if (high <= 0) == (op == "min") else b
    return linear(ir.Bin(op, a.expr(), b.expr()))


def _split(a: Linear, divisor: int) -> tuple[Linear, Linear]:
    """(q, r) with a = divisor * q + r, as much as possible in q."""
    whole = {x: c // divisor for x, c in a.terms.items() if c % divisor == 0}
    rest = {x: c for x, c in a.terms.items() if c % divisor}
    return Linear(whole, a.const // divisor), Linear(rest, a.const % divisor)


def _only_quotient(a: Linear, divisor: int, bounds: Bounds) -> int | None:
    """What a / divisor is whatever the loop variables are; None if that differs."""
    low, high = (abs(v) // divisor * (-1 if v < 0 else 1) for v in bounds.sum(a))
    return low if low == high else None


def _quotient(a: Linear, divisor: int, bounds: Bounds) -> Linear:
    q, r = _split(a, divisor)
    if not r.terms and r.const == 0:
        return q
    if (only := _only_quotient(a, divisor, bounds)) is not None:
        return constant(only)
    if bounds.sum(a)[0] < 0:
        return linear(ir.Bin("/", a.expr(), ir.i32(divisor)))
    low, high = bounds.sum(r)
    if low // divisor == high // divisor:
        return q + constant(low // divisor)
    if low < 0:
        return linear(ir.Bin("/", a.expr(), ir.i32(divisor)))
    match r.expr():
        case ir.Bin("/", x, ir.Const(first, _)) if first > 0 and first * divisor <= _LIMIT:
            return q + _quotient(linear(x), int(first) * divisor, bounds)
        case rest:
            return q + linear(ir.Bin("/", rest, ir.i32(divisor)))


def _remainder(a: Linear, divisor: int, bounds: Bounds) -> Linear:
    _, r = _split(a, divisor)
    if not r.terms and r.const == 0:
        return r
    if (only := _only_quotient(a, divisor, bounds)) is not None:
        return a - constant(only * divisor)
    if bounds.sum(a)[0] < 0:
        return linear(ir.Bin("%", a.expr(), ir.i32(divisor)))
    low, high = bounds.sum(r)
    if low // divisor == high // divisor:
        return r + constant(-(low // divisor) * divisor)
    if low < 0:
        return linear(ir.Bin("%", a.expr(), ir.i32(divisor)))
    match r.expr():
        case ir.Bin("%", x, ir.Const(first, _)) if first > 0 and first % divisor == 0:
            return _remainder(linear(x), divisor, bounds)
        case rest:
            return linear(ir.Bin("%", rest, ir.i32(divisor)))


def _rejoined(s: Linear) -> Linear:
    """x / c * c + x % c as x, wherever it stands in a sum."""
    for atom, c in s.terms.items():
        match atom:
            case ir.Bin("/", x, ir.Const(divisor, _)) if divisor > 0 and c % int(divisor) == 0:
                part = _partner(s, x, int(divisor), c // int(divisor))
                if part is not None:
                    factor = c // int(divisor)
                    whole = linear(x) - linear(part)
                    # x - x % d is what x / d * d was
                    gone = Linear({atom: c}, 0)
                    return _rejoined(s - gone + whole * factor)
    return s


def _partner(s: Linear, x: ir.Expr, divisor: int, factor: int) -> ir.Expr | None:
    """The term `x % divisor` of a sum, possibly with an outer remainder of x taken off."""
    for atom, c in s.terms.items():
        match atom:
            case ir.Bin("%", y, ir.Const(d, _)) if d == divisor and c == factor:
                if x == y:
                    return atom
                match x:
                    case ir.Bin("%", z, ir.Const(m, _)) if z == y and int(m) % divisor == 0:
                        return atom
    return None
