"""prelu: x where x >= 0, else x * slope; the slope is broadcast to the shape of x.

Quantised: either branch is requantised from x - zero point by a multiplier of its own.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from midge.core.types import Array, DType, TensorType
from midge.graph.exporters import EXPORTERS
from midge.graph.fixed_point import per_tensor
from midge.graph.importers import IMPORTERS, Foreign, Steps
from midge.graph.ir import OPS, Attr, Attrs, Expansion, Node, OpDef, Sample
from midge.graph.quantizing import QUANTIZING, QuantRule
from midge.loop import ir
from midge.lower import SCALAR_RULES, Element, ScalarRule
from midge.ops import _onnx
from midge.ops._common import arity, broadcast, fail, shifted
from midge.ops._export import plain
from midge.ops.arithmetic import narrowed, widened
from midge.ops.requantize import requantize

_WIDE = (DType.F32, DType.I32, DType.I64)


def infer(inputs: Sequence[TensorType], attrs: Attrs) -> tuple[TensorType, ...]:
    arity(inputs, 2)
    x, slope = inputs
    plain = x.quant is None
    if x.dtype is not slope.dtype or (plain and x.dtype not in _WIDE):
        raise fail(f"prelu of {x} with slope {slope}")
    if broadcast(x, slope) != x.shape:
        raise fail(f"the slope {slope} does not broadcast to {x}")
    return (x.plain,)


def reference(inputs: Sequence[Array], attrs: Attrs) -> tuple[Array, ...]:
    x, slope = inputs
    with np.errstate(all="ignore"):
        return (np.where(x < 0, x * slope, x).astype(x.dtype),)


def element(e: Element) -> ir.Expr:
    x, slope = e.args
    return ir.Select(ir.Bin("<", x, ir.const(0, e.output.dtype)), ir.Bin("*", x, slope), x)


def expand(node: Node, ctx: Expansion) -> None:
    """BroadcastPrelu4DSlow in lite/kernels/internal/reference/prelu.h."""
    (sx, zx), (sa, za) = (per_tensor(t, node.where) for t in ctx.inputs)
    y = ctx.output
    sy, zy = per_tensor(y, node.where)
    x, slope = node.inputs
    attrs: dict[str, Attr] = {
        "zero_out": zy, "low": y.dtype.min, "high": y.dtype.max, "dtype": y.dtype.value,
    }  # fmt: skip
    above = requantize(ctx, x, [float(sx / sy)], {**attrs, "zero_in": zx})
    product = ctx.emit("mul", [shifted(ctx, x, zx), shifted(ctx, slope, za)])
    below = requantize(ctx, product, [float(sx * sa / sy)], attrs)
    ctx.finish("select_sign", [x, above, below], {"zero": zx})


def from_tflite(op: Foreign) -> tuple[Node, ...]:
    op.expect_inputs(2)
    for i in (0, 1):
        op.expect_dtype(i, DType.F32, DType.I8)
    return (op.node("prelu"),)


def from_onnx(op: Foreign) -> tuple[Node, ...]:
    _onnx.same_types(op, *_onnx.NUMBERS, least=2, most=2)
    steps = Steps(op)
    return narrowed(steps, steps.emit("prelu", [widened(steps, n) for n in op.inputs]))


_SAMPLES = tuple(
    Sample((TensorType(x, d), TensorType(s, d)), low=-30, high=30)
    for d in _WIDE
    for x, s in (((2, 3), (3,)), ((), ()), ((2, 3, 2), (3, 1)))
)
OPS.add("prelu", OpDef("prelu", infer, reference, expand, elementwise=True, samples=_SAMPLES))
SCALAR_RULES.add("prelu", ScalarRule(("x", "slope"), element))
IMPORTERS["tflite"].add("PRELU", from_tflite)
IMPORTERS["onnx"].add("PRelu", from_onnx)
EXPORTERS["tflite"].add("prelu", plain("PRELU"))
QUANTIZING.add("prelu", QuantRule(dtypes=(DType.I8,)))
