"""rescale: integers to other integers by a product in binary32, rounded half to even.

y = clamp(rint(f32(x) * scale + offset), low - zero, high - zero) + zero

x i32 or i64; scale f32, per channel (last axis) or of one element; offset likewise, optional. This
is how ONNX Runtime's kernels requantise (MlasRequantizeOutput in onnxruntime/core/mlas), and, with
an offset, what QuantizeLinear makes of a float sum. Steps that integers climb at the same places
replace it (`passes.fit_requantize`).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from midge.core.errors import ModelError
from midge.core.types import Array, DType, TensorType
from midge.graph.attrs import ZERO_POINT, integer, text
from midge.graph.fixed_point import MOST_SHIFT, beyond, f32, per_tensor
from midge.graph.ir import OPS, Attr, Attrs, Expansion, Node, OpDef, Sample
from midge.loop import ir
from midge.lower import SCALAR_RULES, Element, ScalarRule
from midge.ops._common import arity, broadcast, fail, shifted


def infer(inputs: Sequence[TensorType], attrs: Attrs) -> tuple[TensorType, ...]:
    arity(inputs, 2, 3)
    x, *floats = inputs
    if x.dtype not in (DType.I32, DType.I64) or any(t.dtype is not DType.F32 for t in floats):
        raise fail(f"cannot rescale {x} by {', '.join(map(str, floats))}")
    return (TensorType(broadcast(*inputs), DType(text(attrs, "dtype"))),)


def reference(inputs: Sequence[Array], attrs: Attrs) -> tuple[Array, ...]:
    x, scale, *offset = inputs
    y = x.astype(np.float32) * scale
    if offset:
        y = y + offset[0]
    zero = integer(attrs, "zero_out")
    low, high = (np.float32(integer(attrs, n) - zero) for n in ("low", "high"))
    result = np.rint(np.clip(y, low, high)).astype(np.int64) + zero
    return (result.astype(DType(text(attrs, "dtype")).numpy),)


def element(e: Element) -> ir.Expr:
    x, scale, *offset = e.args
    y: ir.Expr = ir.Bin("*", ir.cast(DType.F32, x, e.inputs[0].dtype), scale)
    for value in offset:
        y = ir.Bin("+", y, value)
    limits = integer(e.attrs, "low"), integer(e.attrs, "high")
    return rounded(y, integer(e.attrs, "zero_out"), limits)


def rounded(y: ir.Expr, zero: int, limits: tuple[int, int]) -> ir.Expr:
    """min(max(rint(y) + zero, low), high) as i32, limited first, where nothing can overflow."""
    low, high = limits
    y = ir.Bin("min", ir.Bin("max", y, ir.f32(low - zero)), ir.f32(high - zero))
    return ir.add(ir.Call("round_even", (y,)), ir.i32(zero))


def rescale(
    ctx: Expansion,
    value: str,
    scale: Array,
    attrs: Attrs,
    *,
    offset: Array | None = None,
    output: str = "",
) -> str:
    """Emit the node. scale, offset: f32 [1] or [channels].  attrs: zero_out, low, high, dtype.

    ModelError for an offset that binary32 does not hold.
    """
    if offset is not None and not np.isfinite(offset).all():
        raise ModelError(
            "the bias in units of the output's scale leaves binary32",
            where=ctx.node.where,
            hint="check the scale of the output tensor",
        )
    inputs = [value, ctx.add_const(scale.astype(np.float32), "scale")]
    if offset is not None:
        inputs.append(ctx.add_const(offset.astype(np.float32), "offset"))
    return ctx.emit("rescale", inputs, attrs, output=output)


_MOST_UNIT = np.float32(2.0**96)  # sums of 31 bits of it are binary32 numbers


def factor(ctx: Expansion, units: Sequence[np.float32], scale: np.float32) -> Array:
    """What brings sums of integers in `units` to the output's scale: f32 [1] or [channels].

    ModelError where the sums of reals that are meant leave binary32, or the factor 30 bits.
    """
    result = np.array([unit / scale for unit in units], np.float32)
    if not (np.array(units, np.float32) <= _MOST_UNIT).all():
        raise ModelError(
            "the scales of the operands are so great that sums leave binary32",
            where=ctx.node.where,
            hint="check the scales of the input and weight tensors",
        )
    if not (result < np.float32(1 << MOST_SHIFT)).all():
        raise beyond(MOST_SHIFT, ctx.node.where)
    return result


_OWN = ("scaling", "low", "high", "bias")  # attributes of quantised nodes that end in a rescale


def is_rescaled(node: Node) -> bool:
    """Whether a quantised node's sums are rescaled in binary32 (`passes.fuse_quantized`), not as
    TensorFlow Lite does it."""
    return "scaling" in node.attrs


def expand_rescaled(
    node: Node, ctx: Expansion, sums: str, scale: Array, offset: Array | None
) -> None:
    """Emit what makes the output of `sums`. scale: of the sums, in units of the output's."""
    attrs: dict[str, Attr] = {
        "zero_out": per_tensor(ctx.output, node.where)[1],
        "low": integer(node.attrs, "low"),
        "high": integer(node.attrs, "high"),
        "dtype": ctx.output.dtype.value,
    }
    rescale(ctx, sums, scale, attrs, offset=offset, output=node.outputs[0])


def plain_attrs(node: Node) -> dict[str, Attr]:
    """The attributes without those that say how sums are rescaled."""
    return {k: v for k, v in node.attrs.items() if k not in _OWN}


def expand_products(node: Node, ctx: Expansion) -> None:
    """Sums of products with constant weights, rescaled: QLinearConv and QLinearMatMul of ONNX
    Runtime, whose scale is x_scale * w_scale / y_scale in binary32."""
    x, w = ctx.inputs[:2]
    (sx, zx), (sy, _) = per_tensor(x, node.where), per_tensor(ctx.output, node.where)
    assert w.quant is not None
    assert not any(w.quant.zero_point)
    scale = factor(ctx, [sx * f32(s) for s in w.quant.scale], sy)
    value, attrs = node.inputs[0], plain_attrs(node)
    if w.dtype is DType.I16 and x.dtype is DType.I8:
        value, zx = ctx.emit("cast", [shifted(ctx, value, zx)], {"dtype": "i16"}), 0
    attrs |= {"x_zero": zx} | ({"pad_value": zx} if "padding" in attrs else {})
    sums = ctx.emit(node.op, [value, *node.inputs[1:]], attrs)
    bias = node.attrs.get("bias")
    offset = None if bias is None else np.asarray(bias, np.float32) / sy
    expand_rescaled(node, ctx, sums, scale, offset)


def _samples() -> tuple[Sample, ...]:
    attrs: dict[str, Attr] = {"zero_out": -3, "low": -128, "high": 127, "dtype": "i8"}
    samples = []
    for scales in ([0.5], [1e-7, 0.0123, 1.5, 1 / 3, 0.25]):
        scale = np.array(scales, np.float32)
        channels = TensorType(scale.shape, DType.F32)
        for dtype, most in ((DType.I32, 300), (DType.I32, 1 << 30), (DType.I64, 1 << 40)):
            x = TensorType((40, 5), dtype)
            offset = {2: np.linspace(-3, 3.5, len(scales), dtype=np.float32)}
            for more in ({}, offset):
                types = (x, *[channels] * (1 + len(more)))
                samples.append(Sample(types, attrs, {1: scale, **more}, -most, most))
    return tuple(samples)


_EXACT = (-(2**22), 2**22)  # in binary32, also once a zero point is taken off
_LIMITS = {"zero_out": ZERO_POINT, "low": _EXACT, "high": _EXACT}
OPS.add(
    "rescale",
    OpDef("rescale", infer, reference, elementwise=True, limits=_LIMITS, samples=_samples()),
)
SCALAR_RULES.add("rescale", ScalarRule(("x", "scale", "offset"), element))
