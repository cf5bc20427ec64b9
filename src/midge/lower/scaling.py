"""How the operator `scale` and kernels that do its work bring sums to another scale."""

from __future__ import annotations

from midge.core.types import DType
from midge.loop import ir


def scaled(
    x: ir.Expr, multiplier: ir.Expr, offset: ir.Expr, *, up: int, down: int, low: int, high: int
) -> ir.Expr:
    """clamp(((x * 2^up + offset) * multiplier) >> (32 + down), low, high), all i32."""
    wide = ir.Bin("+", ir.mul(x, ir.i32(1 << up)), offset)
    product = ir.Bin("*", ir.Cast(DType.I64, wide), ir.cast(DType.I64, multiplier, DType.I32))
    upper: ir.Expr = ir.Cast(DType.I32, ir.Bin(">>", product, ir.const(32, DType.I64)))
    if down:
        upper = ir.Bin(">>", upper, ir.i32(down))
    return clamped(upper, low, high)


def clamped(x: ir.Expr, low: int, high: int) -> ir.Expr:
    """x limited to low..high, i32."""
    return ir.Bin("min", ir.Bin("max", x, ir.i32(low)), ir.i32(high))
