"""clip: min(max(x, low), high), element by element; RELU, RELU6 and RELU_N1_TO_1 are clips.

On quantised tensors `low` and `high` are real numbers; the plain operator clips what it is given.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from midge.core.types import Array, DType, TensorType
from midge.graph.attrs import number
from midge.graph.fixed_point import f32, per_tensor, quantize_value
from midge.graph.importers import IMPORTERS, Foreign
from midge.graph.ir import OPS, Attrs, Expansion, Node, OpDef, Sample
from midge.loop import ir
from midge.lower import SCALAR_RULES, Element, ScalarRule, arithmetic
from midge.ops._common import arity
from midge.ops.requantize import requantize


def infer(inputs: Sequence[TensorType], attrs: Attrs) -> tuple[TensorType, ...]:
    arity(inputs, 1)
    return (inputs[0].plain,)


def reference(inputs: Sequence[Array], attrs: Attrs) -> tuple[Array, ...]:
    (x,) = inputs
    dtype = x.dtype.type
    with np.errstate(all="ignore"):
        y = x
        if math.isfinite(low := number(attrs, "low")):
            y = np.maximum(y, dtype(low))
        if math.isfinite(high := number(attrs, "high")):
            y = np.minimum(y, dtype(high))
    return (y,)


def element(e: Element) -> ir.Expr:
    (x,) = e.args
    dtype = arithmetic(e.output.dtype)
    if math.isfinite(low := number(e.attrs, "low")):
        x = ir.Bin("max", x, ir.const(low, dtype))
    if math.isfinite(high := number(e.attrs, "high")):
        x = ir.Bin("min", x, ir.const(high, dtype))
    return x


def expand(node: Node, ctx: Expansion) -> None:
    """QuantizedReluX in lite/kernels/activations.cc: requantise, then clamp."""
    x, y = ctx.inputs[0], ctx.output
    sx, zx = per_tensor(x, node.where)
    sy, zy = per_tensor(y, node.where)
    low = max(y.dtype.min, quantize_value(number(node.attrs, "low"), sy, zy))
    high = y.dtype.max
    if math.isfinite(most := number(node.attrs, "high")):
        high = min(high, quantize_value(most, sy, zy))
    attrs = {"zero_in": zx, "zero_out": zy, "low": low, "high": high, "dtype": y.dtype.value}
    requantize(ctx, node.inputs[0], [float(f32(sx / sy))], attrs, output=node.outputs[0])


def from_tflite(low: float, high: float):  # type: ignore[no-untyped-def]
    def importer(op: Foreign) -> tuple[Node, ...]:
        op.expect_inputs(1)
        dtypes = (DType.F32, DType.I8, DType.I16)
        op.expect_dtype(0, *(dtypes[:2] if op.kind == "RELU_N1_TO_1" else dtypes))
        return (op.node("clip", {"low": low, "high": high}),)

    return importer


_SAMPLES = tuple(
    Sample((TensorType(s, d),), {"low": low, "high": high})
    for d in (DType.F32, DType.I32, DType.I8, DType.I64)
    for s, low, high in (
        ((2, 3), 0.0, math.inf),
        ((7,), -1.0, 1.0),
        ((), 0.0, 6.0),
        ((2, 1, 3), -math.inf, 2.0),
        ((40,), -math.inf, math.inf),
    )
)
OPS.add("clip", OpDef("clip", infer, reference, expand, elementwise=True, samples=_SAMPLES))
SCALAR_RULES.add("clip", ScalarRule(("x",), element))
for _kind, _low, _high in (
    ("RELU", 0.0, math.inf),
    ("RELU6", 0.0, 6.0),
    ("RELU_N1_TO_1", -1.0, 1.0),
):
    IMPORTERS["tflite"].add(_kind, from_tflite(_low, _high))
