"""The type of an expression, and of every buffer of a function."""

from __future__ import annotations

from collections.abc import Mapping
from typing import assert_never

from midge.core.errors import VerifyError
from midge.core.types import DType
from midge.loop import ir
from midge.loop.intrinsics import INTRINSICS
from midge.loop.text import print_expr

ARITHMETIC = (DType.I32, DType.I64, DType.F32)
_INTEGER_ONLY = frozenset({"%", "<<", ">>", "&", "|", "^"})


def buffer_types(func: ir.Func) -> dict[str, DType]:
    """Element type of every parameter and local buffer."""
    types = {p.name: p.dtype for p in func.params}

    def visit(body: ir.Block) -> None:
        for s in body:
            match s:
                case ir.Alloc(buffer, dtype):
                    types[buffer] = dtype
                case ir.Loop(_, _, inner):
                    visit(inner)
                case ir.Guard(_, inner, other):
                    visit(inner)
                    visit(other)

    visit(func.body)
    return types


def expr_type(e: ir.Expr, buffers: Mapping[str, DType]) -> DType:
    """The type of `e`; VerifyError, with the expression as its place, if it has none."""
    match e:
        case ir.Const(_, dtype):
            return dtype
        case ir.Var():
            return DType.I32
        case ir.Load(buffer, _):
            if buffer not in buffers:
                raise VerifyError(f"unknown buffer {buffer!r}", where=print_expr(e))
            return buffers[buffer]
        case ir.Bin(op, lhs, rhs):
            return _bin_type(e, op, expr_type(lhs, buffers), expr_type(rhs, buffers))
        case ir.Cast(dtype, arg):
            expr_type(arg, buffers)
            return dtype
        case ir.Select(cond, then, other):
            return _select_type(e, *(expr_type(x, buffers) for x in (cond, then, other)))
        case ir.Call(name, args):
            return _call_type(e, name, tuple(expr_type(a, buffers) for a in args))
        case _:
            assert_never(e)


def _bin_type(e: ir.Expr, op: ir.BinOp, lhs: DType, rhs: DType) -> DType:
    if lhs is not rhs:
        raise _error(e, f"{op!r} has operands of types {lhs.value} and {rhs.value}")
    if op in ir.LOGIC:
        _require(lhs is DType.BOOL, e, op, lhs)
        return DType.BOOL
    _require(lhs in ARITHMETIC, e, op, lhs)
    _require(lhs is not DType.F32 or op not in _INTEGER_ONLY, e, op, lhs)
    return DType.BOOL if op in ir.COMPARISONS else lhs


def _require(condition: bool, e: ir.Expr, op: str, dtype: DType) -> None:
    if not condition:
        raise _error(e, f"{op!r} is not defined on {dtype.value}")


def _select_type(e: ir.Expr, cond: DType, then: DType, other: DType) -> DType:
    if cond is not DType.BOOL:
        raise _error(e, f"the condition of select is {cond.value}, expected bool")
    if then is not other:
        raise _error(e, f"select has values of types {then.value} and {other.value}")
    return then


def _call_type(e: ir.Expr, name: str, args: tuple[DType, ...]) -> DType:
    intrinsic = INTRINSICS.get(name)
    if intrinsic is None:
        raise _error(e, f"unknown intrinsic {name!r}")
    if args != intrinsic.args:
        given, wanted = (", ".join(d.value for d in types) for types in (args, intrinsic.args))
        raise _error(e, f"{name} takes ({wanted}), not ({given})")
    return intrinsic.result


def _error(e: ir.Expr, what: str) -> VerifyError:
    return VerifyError(what, where=print_expr(e))
