"""conv2d: y[n, oh, ow, oc] = b[oc] + sum over kh, kw, ic of x[n, ih, iw, ic] * w[oc, kh, kw, ic].

x [N, H, W, IC], w [OC, KH, KW, IC / groups], b [OC] (optional). The plain operator on integers
gives accumulators (i32 for i8, i64 for i16); outside the image x counts as `pad_value`, and
`x_zero` is subtracted from every x, padding included (so padding is nothing while they are equal).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from midge.core.errors import ModelError
from midge.core.types import Array, DType, TensorType
from midge.graph.attrs import integer, integers, number, text
from midge.graph.exporters import EXPORTERS, Exporting
from midge.graph.fixed_point import (
    ACTIVATIONS,
    accumulator,
    activation_range,
    bias_quant,
    dequantize,
    f32,
    per_tensor,
)
from midge.graph.importers import IMPORTERS, Foreign
from midge.graph.ir import OPS, Attrs, Expansion, Node, OpDef, Rows, Sample
from midge.graph.quantizing import QUANTIZING, QuantRule
from midge.loop import ir
from midge.lower import LOOP_RULES, LoopRule, Operand, Site, nest
from midge.ops._common import (
    arity,
    checked_int,
    fail,
    image,
    inside,
    negate,
    taps,
    tflite_activation,
    tflite_window,
    weight_factor,
    weight_values,
    window_output,
    window_rows,
)
from midge.ops._export import activation_code, window
from midge.ops._sums import finished, float_weights, initial, taps_of
from midge.ops.requantize import requantize
from midge.ops.rescale import expand_products, is_rescaled


def infer(inputs: Sequence[TensorType], attrs: Attrs) -> tuple[TensorType, ...]:
    arity(inputs, 2, 3)
    x, w = inputs[:2]
    n, h, width, c = image(x)
    oc, kh, kw, ic = image(w)
    if c % ic or oc % (c // ic):
        raise fail(f"input {x} has {c} channels, weights {w} want a multiple of {ic}")
    check_bias(inputs, oc)
    oh, ow = window_output((h, width), (kh, kw), attrs)
    return (TensorType((n, oh, ow, oc), output_dtype(x)),)


def check_bias(inputs: Sequence[TensorType], channels: int) -> None:
    """VerifyError unless weights and bias have types and sizes that belong to the input's."""
    x, w = inputs[:2]
    if w.dtype.is_float and not x.dtype.is_float:
        raise fail(f"weights are {w} for an input {x}")
    if len(inputs) < 3:
        return
    bias = inputs[2]
    wanted = {accumulator(x.dtype), DType.I32} if x.dtype is DType.I16 else {accumulator(x.dtype)}
    if bias.elements != channels or bias.dtype not in wanted:
        names = " or ".join(sorted(d.value for d in wanted))
        raise fail(f"bias is {bias}, expected {channels} elements of {names}")


def output_dtype(x: TensorType) -> DType:
    """Quantised operators keep the type, plain ones give accumulators."""
    return x.dtype if x.quant is not None else accumulator(x.dtype)


def rows(attrs: Attrs, inputs: Sequence[TensorType]) -> Rows | None:
    """As `OpDef.rows`; also of the other convolutions, whose weights are [.., KH, KW, ..]."""
    kernel = inputs[1].shape[1]
    return window_rows(kernel, attrs, number(attrs, "pad_value", 0))


def macs(inputs: Sequence[TensorType], outputs: Sequence[TensorType]) -> int:
    _, kh, kw, ic = inputs[1].shape
    return outputs[0].elements * kh * kw * ic


def reference(inputs: Sequence[Array], attrs: Attrs) -> tuple[Array, ...]:
    """Integers exactly; floats as `_sums` says."""
    exact = inputs[0].dtype == np.float32
    w = float_weights(inputs[1], attrs) if exact else weight_values(inputs[1], attrs)
    x = inputs[0] if exact else inputs[0].astype(np.float64) - number(attrs, "x_zero", 0)
    oc, kh, kw, ic = w.shape
    parts = list(taps_of(x, (kh, kw), attrs))
    groups = x.shape[3] // ic
    shape = (*parts[0][2].shape[:3], oc)
    acc = np.zeros((*shape[:3], groups, oc // groups), x.dtype)
    for r, s, part in parts:
        part = part.reshape(*shape[:3], groups, ic)
        kernel = w[:, r, s].reshape(groups, oc // groups, ic)
        if exact:
            for i in range(ic):
                acc += part[..., i, None] * kernel[..., i]
        else:
            acc += np.einsum("nhwgi,goi->nhwgo", part, kernel, optimize=True)
    acc = acc.reshape(shape)
    if len(inputs) == 3:
        acc = acc + inputs[2].reshape(-1)
    return (checked_int(acc, accumulator(DType.of(inputs[0]))),)


def loops(site: Site) -> ir.Block:
    x, w = site.inputs[:2]
    n, oh, ow, oc, kh, kw, ic = site.axes("n oh ow oc kh kw ic")
    batch, height, width, channels = site.output.shape
    _, rows, cols, depth = w.type.shape
    acc = site.local("acc", site.output.dtype)
    ih, iw = taps(site, oh, ow, kh, kw)
    channel = ir.add(group_start(x, w, oc), ic)
    product = multiply(site, x(n, ih, iw, channel), w(oc, kh, kw, ic))
    inner = nest((ic,), (depth,), (acc.update("+", product),))

    def border(r: ir.Expr, c: ir.Expr) -> ir.Block:
        (ip,) = site.axes("ip")
        return nest((ip,), (depth,), (acc.update("+", padding_product(site, w(oc, r, c, ip))),))

    body = (
        acc.alloc,
        acc.set(initial(site, oc)),
        *guarded(site, (rows, cols), (kh, kw), (ih, iw), inner, border),
        *site.store((n, oh, ow, oc), finished(site, acc(), oc)),
    )
    return nest((n, oh, ow, oc), (batch, height, width, channels), body)


def group_start(x: Operand, w: Operand, oc: ir.Expr) -> ir.Expr:
    """The first input channel that output channel `oc` reads."""
    ic, channels = w.type.shape[3], x.type.shape[3]
    per_group = w.type.shape[0] // (channels // ic)
    if channels == ic:
        return ir.i32(0)
    return ir.mul(ir.Bin("/", oc, ir.i32(per_group)), ir.i32(ic))


def multiply(site: Site, x: ir.Expr, w: ir.Expr) -> ir.Expr:
    """(x - x_zero) * w in the accumulator's type."""
    dtype = site.output.dtype
    sx, sw = site.inputs[0].type.dtype, site.inputs[1].type.dtype
    if dtype.is_float:
        return ir.Bin("*", x, weight_factor(site, w))
    wide = ir.cast(DType.I32, x, sx)
    if zero := integer(site.attrs, "x_zero", 0):
        wide = ir.Bin("-" if zero > 0 else "+", wide, ir.i32(abs(zero)))
    return ir.cast(dtype, ir.Bin("*", wide, ir.cast(DType.I32, w, sw)), DType.I32)


def padding_product(site: Site, w: ir.Expr) -> ir.Expr:
    """(pad_value - x_zero) * w in the accumulator's type."""
    dtype = site.output.dtype
    if dtype.is_float:
        return ir.Bin("*", ir.f32(number(site.attrs, "pad_value", 0)), weight_factor(site, w))
    value = ir.i32(integer(site.attrs, "pad_value", 0) - integer(site.attrs, "x_zero", 0))
    product = ir.Bin("*", value, ir.cast(DType.I32, w, site.inputs[1].type.dtype))
    return ir.cast(dtype, product, DType.I32)


def guarded(
    site: Site,
    extents: tuple[int, int],
    axes: tuple[ir.Var, ir.Var],
    position: tuple[ir.Expr, ir.Expr],
    body: ir.Block,
    border: Callable[[ir.Expr, ir.Expr], ir.Block],
) -> ir.Block:
    """Loops over the window's taps: `body` where a tap is in the image, else `border(kh, kw)`,
    which is nothing where padding counts as zero. The test per row is outside the loop over
    columns."""
    rows, cols = inside(site, site.inputs[0].type, extents, *position)
    kh, kw = axes
    silent = number(site.attrs, "pad_value", 0) == number(site.attrs, "x_zero", 0)
    if silent:
        row = nest((kw,), extents[1:], when(cols, body))
        return nest((kh,), extents[:1], when(rows, row))
    row = nest((kw,), extents[1:], split(cols, body, border(kh, kw)) if cols else body)
    if rows:
        (kp,) = site.axes("kp")
        row = split(rows, row, nest((kp,), extents[1:], border(kh, kp)))
    return nest((kh,), extents[:1], row)


def split(conditions: Sequence[ir.Expr], body: ir.Block, other: ir.Block) -> ir.Block:
    """`body` under all of `conditions`, else `other`."""
    return (*when(conditions, body), ir.Guard(negate(conditions), other))


def when(conditions: Sequence[ir.Expr], body: ir.Block) -> ir.Block:
    """`body` under all of `conditions`."""
    cond = ir.conjunction(conditions)
    return body if cond is None else (ir.Guard(cond, body),)


def expand(node: Node, ctx: Expansion) -> None:
    """ConvPerChannel in lite/kernels/internal/reference/integer_ops/conv.h."""
    expand_conv(node, ctx)


def expand_conv(node: Node, ctx: Expansion) -> None:
    """A convolution with its activation as accumulators and a requantisation (or a clip)."""
    if is_rescaled(node):
        expand_products(node, ctx)
        return
    attrs = {k: v for k, v in node.attrs.items() if k != "activation"}
    activation = text(node.attrs, "activation", "")
    x = ctx.inputs[0]
    if x.dtype is DType.F32:
        acc = ctx.emit(node.op, float_inputs(ctx), attrs)
        low, high = ACTIVATIONS[activation]
        ctx.finish("clip", [acc], {"low": low, "high": high})
        return
    _, zx = per_tensor(x, node.where)
    attrs |= {"x_zero": zx} | ({"pad_value": zx} if "padding" in attrs else {})
    acc = ctx.emit(node.op, node.inputs, attrs)
    finish_requantized(node, ctx, acc, channel_scales(node, ctx), activation)


def float_inputs(ctx: Expansion) -> list[str]:
    """The node's inputs; quantised constants of a hybrid layer as the floats they stand for."""
    names = list(ctx.node.inputs)
    for i, (name, t) in enumerate(zip(names, ctx.inputs, strict=True)):
        if t.quant is not None and not t.dtype.is_float:
            names[i] = ctx.add_const(dequantize(ctx.const(name, "weights"), t), f"float{i}")
    return names


def channel_scales(node: Node, ctx: Expansion) -> list[float]:
    """input scale * weight scale / output scale, in double, per output channel or one."""
    w, axis = ctx.inputs[1], OPS[node.op].channel_axis
    assert axis is not None, f"{node.op} has no weights"
    sx, _ = per_tensor(ctx.inputs[0], node.where)
    sy, _ = per_tensor(ctx.output, node.where)
    quant = w.quant
    if quant is None or any(quant.zero_point):
        raise ModelError(
            "weights must be quantised symmetrically (zero point 0)",
            where=node.where,
            hint="convert the model with TFLite's int8 quantisation scheme",
        )
    if quant.axis is not None and (quant.axis != axis or len(quant.scale) != w.shape[axis]):
        raise ModelError(
            f"weights have {len(quant.scale)} scales on axis {quant.axis}, "
            f"expected {w.shape[axis]} on axis {axis}",
            where=node.where,
        )
    return [float(sx) * float(f32(s)) / float(sy) for s in quant.scale]


def finish_requantized(
    node: Node,
    ctx: Expansion,
    acc: str,
    reals: list[float],
    activation: str,
) -> None:
    """Emit the requantisation of accumulators to the node's output, its activation as the clamp."""
    y = ctx.output
    _, zy = per_tensor(y, node.where)
    low, high = activation_range(activation, y, node.where)
    attrs = {"zero_out": zy, "low": low, "high": high, "dtype": y.dtype.value}
    wide = ctx.new_types[acc].dtype is DType.I64
    if wide and len(ctx.inputs) == 3 and ctx.inputs[2].dtype is DType.I32:
        # With a 32-bit bias the framework sums in 32 bits, which is the same unless it overflows.
        acc = ctx.emit("cast", [acc], {"dtype": "i32"})
        wide = False
    rounding = "wide" if wide else "twice"
    requantize(ctx, acc, reals, attrs, rounding=rounding, output=node.outputs[0])


def from_tflite(op: Foreign) -> tuple[Node, ...]:
    op.expect_inputs(2, 3)
    op.expect_dtype(0, DType.F32, DType.I8, DType.I16)
    op.expect_dtype(1, DType.F32, DType.I8)
    _, h, w, _ = image(op.type(0))
    _, kh, kw, _ = image(op.type(1))
    attrs = {**tflite_window(op, (h, w), (kh, kw)), **tflite_activation(op)}
    return (op.node("conv2d", attrs, inputs=[n for n in op.inputs if n]),)


def to_tflite(op: Exporting) -> None:
    _, kh, kw, _ = op.type(1).shape
    write_conv(op, (kh, kw), "CONV_2D", "Conv2DOptions", op.version(i8=3, i16=4))


def write_conv(
    op: Exporting, kernel: tuple[int, int], kind: str, options: str, version: int, **fields: Any
) -> None:
    """A convolution: SAME or VALID (else with a PAD before it), always with a bias."""
    x, w = op.type(0), op.type(1)
    zero = 0 if x.quant is None else x.quant.zero_point[0]
    image_name, padding = window(op, kernel, zero)
    bias = op.inputs[2] if len(op.inputs) == 3 else _no_bias(op, x, w)
    (sh, sw), (dh, dw) = integers(op.attrs, "strides", 2), integers(op.attrs, "dilations", 2)
    op.emit(
        kind,
        [image_name, op.inputs[1], bias],
        options=options,
        version=version,
        stride_h=sh,
        stride_w=sw,
        dilation_h_factor=dh,
        dilation_w_factor=dw,
        padding=padding,
        fused_activation_function=activation_code(op),
        **fields,
    )


def _no_bias(op: Exporting, x: TensorType, w: TensorType) -> str:
    """The framework refuses a convolution without a bias."""
    quant = None
    if x.quant is not None and w.quant is not None:
        quant = bias_quant(x.quant, w.quant)
    return op.const(np.zeros(op.output.shape[-1], accumulator(x.dtype).numpy), "bias", quant)


def window_samples(
    cases: Sequence[tuple[tuple[int, ...], tuple[int, ...], Attrs]], channel_axis: int
) -> tuple[Sample, ...]:
    """Uses of a convolution, (input shape, weight shape, attributes), in every element type."""
    samples = []
    for dtype in (DType.I8, DType.I16, DType.F32):
        weight = DType.F32 if dtype.is_float else DType.I8
        for x, w, attrs in cases:
            types = [TensorType(x, dtype), TensorType(w, weight)]
            zero = 0 if dtype is not DType.I8 else -7
            samples.append(Sample(tuple(types), {**attrs, "x_zero": zero, "pad_value": zero}))
            bias = TensorType((w[channel_axis],), accumulator(dtype))
            samples.append(Sample((*types, bias), {**attrs, "pad_value": 3}, {}, -128, 127))
    bits = np.linspace(-2, 2, int(np.prod(w)), dtype=np.float16).view(np.int16).reshape(w)
    halves = TensorType(w, DType.I16)
    samples.append(
        Sample((TensorType(x, DType.F32), halves), {**attrs, "halves": 1}, {1: bits}, -9, 9)
    )
    return tuple(samples)


WINDOWS: tuple[Attrs, ...] = (
    {"strides": (1, 1), "dilations": (1, 1), "padding": (0, 0, 0, 0)},
    {"strides": (2, 1), "dilations": (1, 1), "padding": (1, 0, 1, 1)},
    {"strides": (1, 2), "dilations": (2, 1), "padding": (2, 2, 0, 1)},
)
_SAMPLES = window_samples(
    (
        ((1, 4, 5, 3), (4, 3, 2, 3), WINDOWS[0]),
        ((2, 5, 4, 4), (6, 3, 3, 2), WINDOWS[1]),
        ((1, 5, 6, 1), (2, 2, 3, 1), WINDOWS[2]),
        ((1, 1, 1, 5), (3, 1, 1, 5), WINDOWS[0]),
    ),
    0,
)
OPS.add(
    "conv2d",
    OpDef(
        "conv2d",
        infer,
        reference,
        expand,
        activation=True,
        channel_axis=0,
        macs=macs,
        rows=rows,
        limits={"x_zero": 0, "pad_value": 0},
        samples=_SAMPLES,
    ),
)
LOOP_RULES.add("conv2d", LoopRule(("x", "w", "bias"), loops))
IMPORTERS["tflite"].add("CONV_2D", from_tflite)
EXPORTERS["tflite"].add("conv2d", to_tflite)
QUANTIZING.add("conv2d", QuantRule(weighted=True))
