"""depthwise_conv2d: each channel convolved alone; M = multiplier outputs per input channel.

y[n, oh, ow, o] = b[o] + sum over kh, kw of x[n, ih, iw, c] * w[0, kh, kw, o], o = c * M + m.
x [N, H, W, C], w [1, KH, KW, C * M]. Accumulators, `pad_value` and `x_zero` as in conv2d.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from midge.core.types import Array, DType, TensorType
from midge.graph.attrs import number
from midge.graph.exporters import EXPORTERS, Exporting
from midge.graph.fixed_point import accumulator
from midge.graph.importers import IMPORTERS, Foreign
from midge.graph.ir import OPS, Attrs, Expansion, Node, OpDef
from midge.graph.quantizing import QUANTIZING, QuantRule
from midge.loop import ir
from midge.lower import LOOP_RULES, LoopRule, Site, nest
from midge.ops._common import (
    arity,
    checked_int,
    fail,
    image,
    taps,
    tflite_activation,
    tflite_window,
    weight_values,
    window_output,
)
from midge.ops._sums import finished, float_weights, initial, taps_of
from midge.ops.conv2d import (
    WINDOWS,
    check_bias,
    expand_conv,
    guarded,
    multiply,
    output_dtype,
    padding_product,
    rows,
    window_samples,
    write_conv,
)


def infer(inputs: Sequence[TensorType], attrs: Attrs) -> tuple[TensorType, ...]:
    arity(inputs, 2, 3)
    x, w = inputs[:2]
    n, h, width, c = image(x)
    one, kh, kw, oc = image(w)
    if one != 1 or oc % c:
        raise fail(f"weights {w} do not fit input {x}: expected [1, kh, kw, multiple of {c}]")
    check_bias(inputs, oc)
    oh, ow = window_output((h, width), (kh, kw), attrs)
    return (TensorType((n, oh, ow, oc), output_dtype(x)),)


def macs(inputs: Sequence[TensorType], outputs: Sequence[TensorType]) -> int:
    _, kh, kw, _ = inputs[1].shape
    return outputs[0].elements * kh * kw


def reference(inputs: Sequence[Array], attrs: Attrs) -> tuple[Array, ...]:
    """Integers exactly; floats as `_sums` says."""
    exact = inputs[0].dtype == np.float32
    w = float_weights(inputs[1], attrs) if exact else weight_values(inputs[1], attrs)
    x = inputs[0] if exact else inputs[0].astype(np.float64) - number(attrs, "x_zero", 0)
    _, kh, kw, oc = w.shape
    x = np.repeat(x, oc // x.shape[3], axis=3)
    parts = list(taps_of(x, (kh, kw), attrs))
    acc = np.zeros(parts[0][2].shape, x.dtype)
    for r, s, part in parts:
        acc += part * w[0, r, s]
    if len(inputs) == 3:
        acc = acc + inputs[2].reshape(-1)
    return (checked_int(acc, accumulator(DType.of(inputs[0]))),)


def loops(site: Site) -> ir.Block:
    x, w = site.inputs[:2]
    n, oh, ow, oc, kh, kw = site.axes("n oh ow oc kh kw")
    _, rows, cols, channels = w.type.shape
    multiplier = channels // x.type.shape[3]
    c = oc if multiplier == 1 else ir.Bin("/", oc, ir.i32(multiplier))
    acc = site.local("acc", site.output.dtype)
    ih, iw = taps(site, oh, ow, kh, kw)
    weight = w(ir.i32(0), kh, kw, oc)
    tap = (acc.update("+", multiply(site, x(n, ih, iw, c), weight)),)

    def border(r: ir.Expr, c: ir.Expr) -> ir.Block:
        return (acc.update("+", padding_product(site, w(ir.i32(0), r, c, oc))),)

    body = (
        acc.alloc,
        acc.set(initial(site, oc)),
        *guarded(site, (rows, cols), (kh, kw), (ih, iw), tap, border),
        *site.store((n, oh, ow, oc), finished(site, acc(), oc)),
    )
    return nest((n, oh, ow, oc), site.output.shape, body)


def expand(node: Node, ctx: Expansion) -> None:
    """DepthwiseConvPerChannel in lite/kernels/internal/reference/integer_ops/depthwise_conv.h."""
    expand_conv(node, ctx)


def from_tflite(op: Foreign) -> tuple[Node, ...]:
    op.expect_inputs(2, 3)
    op.expect_dtype(0, DType.F32, DType.I8, DType.I16)
    op.expect_dtype(1, DType.F32, DType.I8)
    _, h, w, _ = image(op.type(0))
    _, kh, kw, _ = image(op.type(1))
    attrs = {**tflite_window(op, (h, w), (kh, kw)), **tflite_activation(op)}
    return (op.node("depthwise_conv2d", attrs, inputs=[n for n in op.inputs if n]),)


def to_tflite(op: Exporting) -> None:
    _, kh, kw, oc = op.type(1).shape
    multiplier = oc // op.type(0).shape[3]
    version = op.version(i8=3, i16=5, other=2)
    options = "DepthwiseConv2DOptions"
    kind = "DEPTHWISE_CONV_2D"
    write_conv(op, (kh, kw), kind, options, version, depth_multiplier=multiplier)


_SAMPLES = window_samples(
    (
        ((1, 4, 5, 3), (1, 3, 2, 3), WINDOWS[0]),
        ((2, 5, 4, 2), (1, 3, 3, 6), WINDOWS[1]),
        ((1, 5, 6, 1), (1, 2, 3, 2), WINDOWS[2]),
        ((1, 1, 1, 4), (1, 1, 1, 4), WINDOWS[0]),
    ),
    3,
)
OPS.add(
    "depthwise_conv2d",
    OpDef(
        "depthwise_conv2d",
        infer,
        reference,
        expand,
        activation=True,
        channel_axis=3,
        macs=macs,
        rows=rows,
        limits={"x_zero": 0, "pad_value": 0},
        samples=_SAMPLES,
    ),
)
LOOP_RULES.add("depthwise_conv2d", LoopRule(("x", "w", "bias"), loops))
IMPORTERS["tflite"].add("DEPTHWISE_CONV_2D", from_tflite)
EXPORTERS["tflite"].add("depthwise_conv2d", to_tflite)
QUANTIZING.add("depthwise_conv2d", QuantRule(weighted=True))
