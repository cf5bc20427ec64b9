"""average: a sum as the average of its elements, element by element.

Attributes: count (elements of each sum), dtype (of the result). Integers round half away from
zero, as lite/kernels/internal/reference/integer_ops/pooling.h does.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from midge.core.types import Array, DType, TensorType
from midge.graph.attrs import integer, text
from midge.graph.ir import OPS, Attrs, OpDef, Sample
from midge.loop import ir
from midge.lower import SCALAR_RULES, Element, ScalarRule
from midge.lower.averages import average
from midge.ops._common import arity, fail

_MOST = 1 << 22  # elements of a sum that fits 32 bits


def infer(inputs: Sequence[TensorType], attrs: Attrs) -> tuple[TensorType, ...]:
    arity(inputs, 1)
    (x,) = inputs
    dtype = DType(text(attrs, "dtype"))
    if (x.dtype, dtype) not in ((DType.I32, DType.I8), (DType.F32, DType.F32)):
        raise fail(f"an average of {x} as {dtype.value}, expected i32 as i8, or f32 as f32")
    if not 1 <= integer(attrs, "count") <= _MOST:
        raise fail(f"an average of {integer(attrs, 'count')} elements, expected 1..{_MOST}")
    return (TensorType(x.shape, dtype),)


def reference(inputs: Sequence[Array], attrs: Attrs) -> tuple[Array, ...]:
    (x,) = inputs
    count = integer(attrs, "count")
    if DType.of(x).is_float:
        return ((x / np.float32(count)).astype(np.float32),)
    wide = x.astype(np.int64)
    return ((np.sign(wide) * ((np.abs(wide) + count // 2) // count)).astype(np.int8),)


def element(e: Element) -> ir.Expr:
    (x,) = e.args
    count = integer(e.attrs, "count")
    if e.output.dtype.is_float:
        return ir.Bin("/", x, ir.f32(count))
    return average(x, count, e.output.dtype)


_SAMPLES = (
    Sample((TensorType((1, 1, 1, 5), DType.I32),), {"count": 7, "dtype": "i8"}, {}, -889, 889),
    Sample((TensorType((2, 3), DType.I32),), {"count": 64, "dtype": "i8"}, {}, -8191, 8128),
    Sample((TensorType((2, 3), DType.F32),), {"count": 9, "dtype": "f32"}),
)
OPS.add("average", OpDef("average", infer, reference, elementwise=True, samples=_SAMPLES))
SCALAR_RULES.add("average", ScalarRule(("x",), element))
