"""Make a function smaller without changing what it does.

Constants are folded, sums of loop variables collected, divisions and conditions settled by
interval analysis, loops that run once or never dissolved, conditions merged. Float arithmetic is
folded on constants only: nothing that could change a bit is done to it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import assert_never, cast

from midge.core.types import DType
from midge.loop import ir
from midge.loop.affine import Bounds
from midge.loop.evaluate import EvaluationError, arithmetic, convert
from midge.loop.indices import collect, is_index
from midge.loop.intrinsics import INTRINSICS
from midge.loop.rewrite import (
    touched,
)
from midge.loop.types import buffer_types

_TRUE, _FALSE = ir.Const(True, DType.BOOL), ir.Const(False, DType.BOOL)


class Simple:
    """Statements that were simplified where they stand. The steps of a schedule leave most of a
    function as it was."""

    def __init__(self) -> None:
        self._places: dict[object, int] = {}
        self._found: dict[tuple[int, int], ir.Stmt] = {}  # which keeps them, and so their id

    def place(self, bounds: Bounds, keep_unit_loops: bool) -> int:
        """A number for all that is known at a place."""
        facts = tuple((frozenset(terms.items()), limit) for terms, limit in bounds.facts)
        what = frozenset(bounds.ranges.items()), facts, frozenset(bounds.buffers.items())
        return self._places.setdefault((*what, keep_unit_loops), len(self._places))

    def has(self, s: ir.Stmt, place: int) -> bool:
        return (id(s), place) in self._found

    def add(self, made: ir.Block, place: int) -> None:
        self._found.update(((id(s), place), s) for s in made)


def simplify(
    func: ir.Func, *, keep_unit_loops: bool = False, simple: Simple | None = None
) -> ir.Func:
    """An equal, smaller function. Applying it again changes nothing.

    keep_unit_loops: loops that run once stay as shells (their variable is 0 inside), so that
    schedule steps can still name them.  simple: what needs nothing more; grows.
    """
    buffers = buffer_types(func)
    own = Simplifier(buffers, keep_unit_loops, simple or Simple())
    body = own.block(func.body, Bounds(buffers=buffers))
    return replace(func, body=_without_unused(body, touched(body)))


def simplify_expr(e: ir.Expr, bounds: Bounds) -> ir.Expr:
    """An equal, smaller expression at a place where `bounds` holds."""
    return Simplifier(dict(bounds.buffers), False, Simple()).expr(e, bounds)


def _without_unused(body: ir.Block, used: frozenset[str]) -> ir.Block:
    """Drop local buffers that nothing touches, and the loops and conditions left empty by it."""
    result: list[ir.Stmt] = []
    for s in body:
        match s:
            case ir.Alloc(buffer) if buffer not in used:
                continue
            case ir.Loop(_, _, inner):
                kept = _without_unused(inner, used)
                if kept:
                    result.append(s if kept is inner else replace(s, body=kept))
            case ir.Guard(_, inner, other):
                kept, left = _without_unused(inner, used), _without_unused(other, used)
                if kept or left:
                    same = kept is inner and left is other
                    result.append(s if same else replace(s, body=kept, other=left))
            case _:
                result.append(s)
    return body if tuple(result) == body else tuple(result)


@dataclass(frozen=True, slots=True)
class Simplifier:
    """buffers: element types.  The others as in `simplify`."""

    buffers: dict[str, DType]
    keep_unit_loops: bool
    simple: Simple

    def block(self, body: ir.Block, bounds: Bounds) -> ir.Block:
        place = self.simple.place(bounds, self.keep_unit_loops)
        result: list[ir.Stmt] = []
        for s in body:
            if self.simple.has(s, place):
                result.append(s)
                continue
            made = self.stmt(s, bounds)
            self.simple.add(made, place)
            result.extend(made)
        return tuple(result)

    def stmt(self, s: ir.Stmt, bounds: Bounds) -> ir.Block:
        match s:
            case ir.Store(buffer, index, value):
                at = tuple(self.expr(i, bounds) for i in index)
                return (ir.Store(buffer, at, self.expr(value, bounds)),)
            case ir.Loop():
                return self.loop(s, bounds)
            case ir.Guard(cond, body, ()):
                return self.guard(self.expr(cond, bounds), body, bounds)
            case ir.Guard():
                return self.branches(s, bounds)
            case ir.Alloc():
                return (s,)
            case ir.Instr(name, args):
                windows = tuple((b, tuple(self.expr(i, bounds) for i in at)) for b, at in args)
                return (ir.Instr(name, windows),)
            case _:
                assert_never(s)

    def loop(self, s: ir.Loop, bounds: Bounds) -> ir.Block:
        if s.extent <= 0:
            return ()
        body = self.block(s.body, bounds.loop(s.var, s.extent))
        if all(isinstance(x, ir.Alloc) for x in body):
            return ()
        if s.extent == 1 and not self.keep_unit_loops:
            return body
        return (replace(s, body=body),)

    def guard(self, cond: ir.Expr, body: ir.Block, bounds: Bounds) -> ir.Block:
        if cond == _FALSE:
            return ()
        inner = self.block(body, bounds.assuming(cond))
        if cond == _TRUE:
            return inner
        match inner:
            case (ir.Guard(second, innermost, ()),):
                return (ir.Guard(_chained("and", cond, second), innermost),)
        if all(isinstance(x, ir.Alloc) for x in inner):
            return ()
        return (ir.Guard(cond, inner),)

    def branches(self, s: ir.Guard, bounds: Bounds) -> ir.Block:
        cond = self.expr(s.cond, bounds)
        if cond == _FALSE:
            return self.block(s.other, bounds)
        body = self.block(s.body, bounds.assuming(cond))
        return body if cond == _TRUE else (ir.Guard(cond, body, self.block(s.other, bounds)),)

    def expr(self, e: ir.Expr, bounds: Bounds) -> ir.Expr:
        match e:
            case ir.Const():
                return e
            case ir.Var() | ir.Bin() if is_index(e):
                return collect(e, bounds)
            case ir.Var():
                return e
            case ir.Load(buffer, index):
                return ir.Load(buffer, tuple(self.expr(i, bounds) for i in index))
            case ir.Bin("and" | "or" as op, lhs, rhs):
                return self.logic(op, lhs, rhs, bounds)
            case ir.Bin(op, lhs, rhs):
                return self.binary(op, self.expr(lhs, bounds), self.expr(rhs, bounds), bounds)
            case ir.Cast(dtype, arg):
                return self.cast(dtype, self.expr(arg, bounds))
            case ir.Select(cond, then, other):
                return self.select(self.expr(cond, bounds), then, other, bounds)
            case ir.Call(name, args):
                return ir.Call(name, tuple(self.expr(a, bounds) for a in args))
            case _:
                assert_never(e)

    def logic(self, op: str, lhs: ir.Expr, rhs: ir.Expr, bounds: Bounds) -> ir.Expr:
        left = self.expr(lhs, bounds)
        decisive = ir.Const(op == "or", DType.BOOL)
        if left == decisive:
            return decisive
        right = self.expr(rhs, bounds.assuming(left) if op == "and" else bounds)
        if isinstance(left, ir.Const):
            return right
        if isinstance(right, ir.Const):
            return decisive if right == decisive else left
        return _chained(op, left, right)

    def select(self, cond: ir.Expr, then: ir.Expr, other: ir.Expr, bounds: Bounds) -> ir.Expr:
        if cond == _FALSE:
            return self.expr(other, bounds)
        chosen = self.expr(then, bounds.assuming(cond))
        return chosen if cond == _TRUE else ir.Select(cond, chosen, self.expr(other, bounds))

    def cast(self, dtype: DType, arg: ir.Expr) -> ir.Expr:
        """Conversions that keep every value are dropped when another follows."""
        source = self.type(arg)
        if dtype is source:
            return arg
        if isinstance(arg, ir.Const) and dtype is not DType.F16:
            folded = _converted(dtype, arg)
            return folded or ir.Cast(dtype, arg)
        if isinstance(arg, ir.Cast) and dtype.is_integer and source.is_integer:
            inner = self.type(arg.arg)
            if inner.is_integer and source.min <= inner.min and inner.max <= source.max:
                return self.cast(dtype, arg.arg)
        return ir.Cast(dtype, arg)

    def binary(self, op: ir.BinOp, lhs: ir.Expr, rhs: ir.Expr, bounds: Bounds) -> ir.Expr:
        if isinstance(lhs, ir.Const) and isinstance(rhs, ir.Const):
            return _folded(op, lhs, rhs)
        result = ir.Bin(op, lhs, rhs)
        if not self.type(lhs).is_integer:
            return result
        if op in ir.COMPARISONS:
            known = bounds.proves(result)
            return result if known is None else ir.Const(known, DType.BOOL)
        if op in ("min", "max"):
            return _extreme(op, lhs, rhs, bounds)
        return _identity(op, lhs, rhs) or _regrouped(op, lhs, rhs) or result

    def type(self, e: ir.Expr) -> DType:
        """The type of a valid expression, from its leftmost typed leaf."""
        match e:
            case ir.Const(_, dtype) | ir.Cast(dtype, _):
                return dtype
            case ir.Var():
                return DType.I32
            case ir.Load(buffer, _):
                return self.buffers[buffer]
            case ir.Bin(op, lhs, _):
                is_bool = op in ir.COMPARISONS or op in ir.LOGIC
                return DType.BOOL if is_bool else self.type(lhs)
            case ir.Select(_, then, _):
                return self.type(then)
            case ir.Call(name, _):
                return INTRINSICS[name].result
            case _:
                assert_never(e)


def _chained(op: str, lhs: ir.Expr, rhs: ir.Expr) -> ir.Expr:
    """a and (b and c) as (a and b) and c."""
    if isinstance(rhs, ir.Bin) and rhs.op == op:
        return ir.Bin(rhs.op, _chained(op, lhs, rhs.lhs), rhs.rhs)
    return ir.Bin(cast(ir.BinOp, op), lhs, rhs)


def _converted(dtype: DType, e: ir.Const) -> ir.Const | None:
    """A constant of another type; None where C leaves the result open."""
    try:
        return ir.Const(convert(dtype, e.value), dtype)
    except EvaluationError:
        return None


def _folded(op: ir.BinOp, lhs: ir.Const, rhs: ir.Const) -> ir.Expr:
    wide = lhs.dtype is DType.I64
    try:
        value = arithmetic(op, lhs.value, rhs.value, wide)
    except EvaluationError:
        return ir.Bin(op, lhs, rhs)
    if op in ir.COMPARISONS:
        return ir.Const(bool(value), DType.BOOL)
    return ir.Const(value, lhs.dtype)


def _extreme(op: ir.BinOp, lhs: ir.Expr, rhs: ir.Expr, bounds: Bounds) -> ir.Expr:
    if bounds.proves(ir.Bin("<=", lhs, rhs)):
        return lhs if op == "min" else rhs
    if bounds.proves(ir.Bin("<=", rhs, lhs)):
        return rhs if op == "min" else lhs
    return ir.Bin(op, lhs, rhs)


def _identity(op: ir.BinOp, lhs: ir.Expr, rhs: ir.Expr) -> ir.Expr | None:
    """Integer operations that do nothing, or give 0 whatever the other operand."""
    if isinstance(rhs, ir.Const):
        if rhs.value == 0 and op in ("+", "-", "<<", ">>", "|", "^"):
            return lhs
        if rhs.value == 1 and op in ("*", "/"):
            return lhs
        if rhs.value == 0 and op in ("*", "&"):
            return rhs
    if isinstance(lhs, ir.Const):
        if (lhs.value == 0 and op in ("+", "|", "^")) or (lhs.value == 1 and op == "*"):
            return rhs
        if lhs.value == 0 and op in ("*", "&"):
            return lhs
    return None


def _regrouped(op: ir.BinOp, lhs: ir.Expr, rhs: ir.Expr) -> ir.Expr | None:
    """(x + a) + b as x + (a + b); no overflow comes in, since the sum of both is what is added."""
    match op, lhs, rhs:
        case "+" | "-", ir.Bin("+" | "-" as inner, x, ir.Const(a, dtype)), ir.Const(b, _):
            total = (int(a) if inner == "+" else -int(a)) + (int(b) if op == "+" else -int(b))
            if total == 0:
                return x
            if abs(total) > dtype.max:
                return None
            sign: ir.BinOp = "+" if total > 0 else "-"
            return ir.Bin(sign, x, ir.Const(abs(total), dtype))
        case "+" | "-", _, ir.Const(b, dtype) if dtype.min < b < 0:
            return ir.Bin("-" if op == "+" else "+", lhs, ir.Const(-int(b), dtype))
    return None
