"""hard_swish: x * min(max(x + 3, 0), 6) / 6. On int8 a table."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from midge.core.rounding import round_shift
from midge.core.types import Array, DType, TensorType
from midge.graph.exporters import EXPORTERS, Exporting
from midge.graph.fixed_point import (
    f32,
    multiplier_of,
    per_tensor,
    reduced_multiplier,
    too_coarse,
    too_fine,
)
from midge.graph.importers import IMPORTERS, Foreign, Steps
from midge.graph.ir import OPS, Attrs, Expansion, Node, OpDef, Sample
from midge.graph.quantizing import QUANTIZING, QuantRule
from midge.loop import ir
from midge.lower import SCALAR_RULES, Element, ScalarRule
from midge.ops._common import arity, fail
from midge.ops.lookup import by_table


def infer(inputs: Sequence[TensorType], attrs: Attrs) -> tuple[TensorType, ...]:
    arity(inputs, 1)
    (x,) = inputs
    if x.quant is None and x.dtype is not DType.F32:
        raise fail(f"hard_swish of {x}, expected f32")
    return (x.plain,)


def reference(inputs: Sequence[Array], attrs: Attrs) -> tuple[Array, ...]:
    (x,) = inputs
    with np.errstate(all="ignore"):
        return (x * np.minimum(np.maximum(x + f32(3), f32(0)), f32(6)) / f32(6),)


def element(e: Element) -> ir.Expr:
    (x,) = e.args
    ramp = ir.Bin("max", ir.Bin("+", x, ir.f32(3)), ir.f32(0))
    return ir.Bin("/", ir.Bin("*", x, ir.Bin("min", ramp, ir.f32(6))), ir.f32(6))


def expand(node: Node, ctx: Expansion) -> None:
    """HardSwish in lite/kernels/internal/reference/hard_swish.h: 16-bit fixed point.

    The input has 7 more bits than given. The ramp x / 3 is scaled to -1..1 in Q15 and shifted to
    0..1; its product with the input is truncated, then shifted to the output's scale.
    """
    x, y = ctx.inputs[0], ctx.output
    (sx, zx), (sy, zy) = per_tensor(x, node.where), per_tensor(y, node.where)
    fine = f32(1 / 128) * sx
    out_multiplier, out_shift = multiplier_of(float(fine / sy), node.where)
    ramp_multiplier, ramp_shift = multiplier_of(float(fine / f32(3 / 32768)), node.where)
    if out_shift > 0:
        raise too_fine(sy, node.where)
    if out_shift < -15:
        raise too_coarse(sy, node.where)
    out_multiplier = reduced_multiplier(out_multiplier)
    ramp_multiplier = reduced_multiplier(ramp_multiplier)

    def function(q: int) -> int:
        value = (q - zx) << 7
        ramp = _ramp(value, ramp_multiplier, ramp_shift)
        product = _truncated(ramp * _high_mul16(value, out_multiplier))
        return round_shift(product, -out_shift) + zy

    by_table(ctx, function)


def _ramp(value: int, multiplier: int, shift: int) -> int:
    """clamp(value * multiplier * 2^shift, -1, 1) / 2 + 1/2 in Q15."""
    if shift > 0:
        value = _saturate(value << (shift - 1))
    value = _high_mul16(value, multiplier)
    if shift > 0:
        value = _saturate(value << 1)
    elif shift < 0:
        value = round_shift(value, -shift)
    return (value + (1 << 15)) >> 1


def _high_mul16(a: int, b: int) -> int:
    """round(a * b / 2^15), ties up, saturated to 16 bits."""
    return min((a * b + (1 << 14)) >> 15, (1 << 15) - 1)


def _truncated(product: int) -> int:
    """product / 2^15, towards zero."""
    return product >> 15 if product >= 0 else -(-product >> 15)


def _saturate(x: int) -> int:
    return max(-(1 << 15), min((1 << 15) - 1, x))


def from_tflite(op: Foreign) -> tuple[Node, ...]:
    op.expect_inputs(1)
    op.expect_dtype(0, DType.F32, DType.I8)
    return (op.node("hard_swish"),)


def from_onnx(op: Foreign) -> tuple[Node, ...]:
    """As its schema defines it; `passes.fuse_hard_swish` makes one operator of it."""
    op.expect_inputs(1)
    op.expect_dtype(0, DType.F32)
    steps = Steps(op)
    ramp = steps.emit("hard_sigmoid", op.inputs, {"alpha": 1 / 6, "beta": 0.5})
    return steps.finish("mul", [op.inputs[0], ramp])


def to_tflite(op: Exporting) -> None:
    op.emit("HARD_SWISH", options="HardSwishOptions")


_SAMPLES = tuple(Sample((TensorType(s, DType.F32),), low=-5, high=5) for s in ((2, 3), (), (40,)))
OPS.add(
    "hard_swish", OpDef("hard_swish", infer, reference, expand, elementwise=True, samples=_SAMPLES)
)
SCALAR_RULES.add("hard_swish", ScalarRule(("x",), element))
IMPORTERS["tflite"].add("HARD_SWISH", from_tflite)
EXPORTERS["tflite"].add("hard_swish", to_tflite)
QUANTIZING.add("hard_swish", QuantRule(dtypes=(DType.I8,)))
IMPORTERS["onnx"].add("HardSwish", from_onnx)
