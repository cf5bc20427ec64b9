"""Operators that read integers as the reals that they stand for: attributes `scale` and `zero`.

(x - zero) * scale in binary32, where it is read: what a dequantisation before them would have
written, without the memory for it.
"""

from __future__ import annotations

import numpy as np

from midge.core.types import Array, DType, TensorType
from midge.graph.attrs import integer, number
from midge.graph.ir import Attrs
from midge.loop import ir
from midge.lower import Operand, Site
from midge.ops._common import fail


def reads_integers(attrs: Attrs) -> bool:
    return "scale" in attrs


def without_quant(x: TensorType, attrs: Attrs) -> None:
    """VerifyError unless x is float, or integers that `attrs` say the meaning of."""
    if x.dtype is DType.F32 and not reads_integers(attrs):
        return
    if x.dtype not in (DType.I8, DType.I16) or not reads_integers(attrs):
        raise fail(f"{x} is neither f32 nor integers with a scale")


def reals_of(x: Array, attrs: Attrs) -> Array:
    """x as binary32."""
    if not reads_integers(attrs):
        return x
    whole = (x.astype(np.int32) - integer(attrs, "zero")).astype(np.float32)
    result: Array = whole * np.float32(number(attrs, "scale"))
    return result


def real_element(site: Site, x: Operand, *index: ir.Expr) -> ir.Expr:
    """The element as f32."""
    if not reads_integers(site.attrs):
        return x(*index)
    zero = integer(site.attrs, "zero")
    whole = x.wide(*index)
    if zero:
        whole = ir.Bin("-" if zero > 0 else "+", whole, ir.i32(abs(zero)))
    scale = ir.f32(float(np.float32(number(site.attrs, "scale"))))
    return ir.Bin("*", ir.cast(DType.F32, whole, DType.I32), scale)
