"""cast: another element type; integers are saturated, floats truncated towards zero."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from midge.core.types import Array, DType, TensorType
from midge.graph.attrs import text
from midge.graph.ir import OPS, Attrs, OpDef, Sample
from midge.loop import ir
from midge.lower import SCALAR_RULES, Element, ScalarRule, arithmetic
from midge.ops._common import arity


def infer(inputs: Sequence[TensorType], attrs: Attrs) -> tuple[TensorType, ...]:
    arity(inputs, 1)
    return (TensorType(inputs[0].shape, DType(text(attrs, "dtype"))),)


def reference(inputs: Sequence[Array], attrs: Attrs) -> tuple[Array, ...]:
    dtype = DType(text(attrs, "dtype"))
    x = inputs[0]
    if dtype.is_integer:
        x = np.clip(x, dtype.min, dtype.max)
    return (x.astype(dtype.numpy),)


def element(e: Element) -> ir.Expr:
    (x,) = e.args
    source, dtype = e.inputs[0].dtype, e.output.dtype
    wide = arithmetic(source)
    if dtype.is_integer and source.is_integer and dtype.size < source.size:
        x = ir.Bin("min", ir.Bin("max", x, ir.const(dtype.min, wide)), ir.const(dtype.max, wide))
    return ir.cast(arithmetic(dtype), x, wide)


_SAMPLES = (
    Sample((TensorType((2, 3), DType.I32),), {"dtype": "i8"}),
    Sample((TensorType((2, 3), DType.I8),), {"dtype": "f32"}),
    Sample((TensorType((4,), DType.I16),), {"dtype": "i32"}),
)
OPS.add("cast", OpDef("cast", infer, reference, elementwise=True, samples=_SAMPLES))
SCALAR_RULES.add("cast", ScalarRule(("x",), element))
