"""dense: y[m, n] = b[n] + sum over k of x[m, k] * w[n, k]. x is read as [elements / K, K].

On integers the plain operator gives accumulators (i32 for i8, i64 for i16) of x - x_zero.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from midge.core.sums import signed_sums
from midge.core.types import Array, DType, TensorType
from midge.graph.attrs import number, text
from midge.graph.exporters import EXPORTERS, Exporting
from midge.graph.fixed_point import (
    ACTIVATIONS,
    accumulator,
    activation_range,
    multiplier_of,
    per_tensor,
)
from midge.graph.importers import IMPORTERS, Foreign
from midge.graph.ir import OPS, Attrs, Expansion, Node, OpDef, Sample
from midge.graph.quantizing import QUANTIZING, QuantRule
from midge.graph.real_product import first_at_least, fit_multiplier, round_product
from midge.loop import ir
from midge.lower import LOOP_RULES, LoopRule, Site, nest
from midge.ops._common import (
    arity,
    checked_int,
    fail,
    tflite_activation,
    weight_values,
)
from midge.ops._export import activation_code
from midge.ops._sums import finished, float_weights, initial
from midge.ops.conv2d import (
    channel_scales,
    check_bias,
    float_inputs,
    multiply,
    output_dtype,
)
from midge.ops.requantize import requantize_fixed
from midge.ops.requantize_real import requantize_real
from midge.ops.rescale import expand_products, is_rescaled

_MOST_BIAS = 1 << 31  # of one that is computed at run time


def infer(inputs: Sequence[TensorType], attrs: Attrs) -> tuple[TensorType, ...]:
    arity(inputs, 2, 3)
    x, w = inputs[:2]
    if len(w.shape) != 2 or w.elements == 0 or len(x.shape) != 2 or x.shape[1] != w.shape[1]:
        raise fail(f"cannot multiply {x} with weights {w}: expected [rows, K] and [N, K]")
    check_bias(inputs, w.shape[0])
    return (TensorType((x.shape[0], w.shape[0]), output_dtype(x)),)


def macs(inputs: Sequence[TensorType], outputs: Sequence[TensorType]) -> int:
    return outputs[0].elements * inputs[1].shape[1]


def reference(inputs: Sequence[Array], attrs: Attrs) -> tuple[Array, ...]:
    """Integers exactly; floats as `_sums` says."""
    if inputs[0].dtype == np.float32:
        x, w = inputs[0], float_weights(inputs[1], attrs)
        acc: Array = np.zeros((x.shape[0], w.shape[0]), np.float32)
        for k in range(x.shape[1]):
            acc += x[:, k, None] * w[:, k]
    else:
        x, w = inputs[0].astype(np.float64), weight_values(inputs[1], attrs)
        acc = (x - number(attrs, "x_zero", 0)) @ w.T
    if len(inputs) == 3:
        acc = acc + inputs[2].reshape(-1)
    return (checked_int(acc, accumulator(DType.of(inputs[0]))),)


def loops(site: Site) -> ir.Block:
    x, w = site.inputs[:2]
    m, n, k = site.axes("m n k")
    acc = site.local("acc", site.output.dtype)
    product = multiply(site, x(m, k), w(n, k))
    body = (
        acc.alloc,
        acc.set(initial(site, n)),
        *nest((k,), (w.type.shape[1],), (acc.update("+", product),)),
        *site.store((m, n), finished(site, acc(), n)),
    )
    return nest((m, n), site.output.shape, body)


def expand(node: Node, ctx: Expansion) -> None:
    """FullyConnected and FullyConnectedPerChannel in lite/kernels/internal/reference/integer_ops/
    fully_connected.h: the accumulator times a double, rounded ties away from zero, as int32."""
    if is_rescaled(node):
        expand_products(node, ctx)
        return
    attrs = {k: v for k, v in node.attrs.items() if k != "activation"}
    activation = text(node.attrs, "activation", "")
    x = ctx.inputs[0]
    if x.dtype is DType.F32:
        low, high = ACTIVATIONS[activation]
        ctx.finish(
            "clip", [ctx.emit("dense", float_inputs(ctx), attrs)], {"low": low, "high": high}
        )
        return
    _, zx = per_tensor(x, node.where)
    _, zy = per_tensor(ctx.output, node.where)
    low, high = activation_range(activation, ctx.output, node.where)
    acc = ctx.emit("dense", node.inputs, attrs | {"x_zero": zx})
    reals = channel_scales(node, ctx)
    for real in reals:
        multiplier_of(real, node.where, most=31)
    least, most = _reach(node, ctx)
    if len(reals) == 1:
        least, most = least.min(keepdims=True), most.max(keepdims=True)
    reach = list(zip(least.tolist(), most.tolist(), strict=True))
    clamp = {"zero_out": zy, "low": low, "high": high, "dtype": ctx.output.dtype.value}
    beyond = _beyond(reals, reach, zy)
    output = node.outputs[0] if beyond is None else ""
    fitted = _fitted(reals, reach, (low - zy, high - zy)) if x.dtype is DType.I8 else None
    if fitted is None:
        y = requantize_real(ctx, acc, reals, clamp, output=output)
    else:
        y = requantize_fixed(ctx, acc, *fitted, clamp, rounding="once", output=output)
    if beyond is not None:
        _finish_beyond(ctx, acc, y, beyond, low if zy >= 0 else high)


def _beyond(reals: list[float], reach: list[tuple[int, int]], zero: int) -> list[int] | None:
    """For each channel the first accumulator whose product plus zero point is no int32; None if
    there is none.

    C does not define the conversion; on x86-64 it gives the least int32, to which the zero point
    is added modulo 2^32. So with a zero point of 0 or more every great product becomes the least
    output, and no small one is unlike what a clamp makes of it; with a negative one it is the
    other way round, and the accumulators are negated here.
    """
    if zero < 0:
        reach = [(-most, -least) for least, most in reach]
    limit = (1 << 31) - zero if zero >= 0 else (1 << 31) + zero + 1
    found = [
        first_at_least(limit, real) if round_product(most, real) >= limit else most + 1
        for real, (_, most) in zip(reals, reach, strict=True)
    ]
    return None if all(f > most for f, (_, most) in zip(found, reach, strict=True)) else found


def _finish_beyond(ctx: Expansion, acc: str, y: str, beyond: list[int], value: int) -> None:
    """Finish the expansion: `value` from the accumulators of `beyond` on, else y."""
    dtype = ctx.new_types[acc].dtype
    first = np.array(beyond, np.int64)
    if ctx.output.quant is not None and ctx.output.quant.zero_point[0] < 0:
        operands = [acc, ctx.add_const((1 - first).astype(dtype.numpy), "beyond")]
    else:
        operands = [ctx.add_const((first - 1).astype(dtype.numpy), "beyond"), acc]
    constant = ctx.add_const(np.array([value], ctx.output.dtype.numpy), "wrapped")
    ctx.finish("where", [ctx.emit("less", operands), constant, y])


def _fitted(
    reals: list[float], reach: list[tuple[int, int]], results: tuple[int, int]
) -> tuple[Array, Array] | None:
    """Multipliers and shifts that give the framework's result for every accumulator there can be
    (they are i32 [1] or [N]), or None."""
    pairs = []
    for real, (least, most) in zip(reals, reach, strict=True):
        pair = fit_multiplier(real, least, most, *results)
        if pair is None:
            return None
        pairs.append(pair)
    multipliers, shifts = np.array(pairs, np.int32).T
    return np.ascontiguousarray(multipliers), np.ascontiguousarray(shifts)


def _reach(node: Node, ctx: Expansion) -> tuple[Array, Array]:
    """The least and the greatest accumulator of each output channel."""
    x, w = ctx.inputs[:2]
    _, zero = per_tensor(x, node.where)
    weights = np.full(w.shape, w.dtype.min, w.dtype.numpy)
    if ctx.is_const(node.inputs[1]):
        weights = ctx.const(node.inputs[1])
    above, below = signed_sums(weights, (1,))
    low, high = x.dtype.min - zero, x.dtype.max - zero
    least, most = above * low + below * high, above * high + below * low
    if not ctx.is_const(node.inputs[1]):
        least, most = np.minimum(least, -most), np.maximum(most, -least)
    for name in node.inputs[2:]:
        ends = np.array([[-_MOST_BIAS], [_MOST_BIAS]])
        if ctx.is_const(name):
            ends = np.stack([ctx.const(name).astype(np.int64).reshape(-1)] * 2)
        least, most = least + ends[0], most + ends[1]
    return least, most


def from_tflite(op: Foreign) -> tuple[Node, ...]:
    op.expect_inputs(2, 3)
    op.expect_dtype(0, DType.F32, DType.I8, DType.I16)
    op.expect_dtype(1, DType.F32, DType.I8)
    if op.attrs.get("weights_format", 0) != 0:
        raise op.error("shuffled weights are not supported", "convert the model again")
    x, w = op.type(0), op.type(1)
    if len(w.shape) != 2 or w.elements == 0 or x.elements % w.shape[1]:
        raise op.error(f"input {x} does not fit weights {w}")
    rows = x.elements // w.shape[1]
    flat, out = f"{op.outputs[0]}/rows", f"{op.outputs[0]}/flat"
    attrs = tflite_activation(op)
    inputs = [n for n in op.inputs if n]
    keeps = op.attrs.get("keep_num_dims") and x.shape[-1:] == w.shape[1:]
    shape = (*x.shape[:-1], w.shape[0]) if keeps else (rows, w.shape[0])
    if x.shape == (rows, w.shape[1]):
        return (op.node("dense", attrs, inputs=inputs),)
    return (
        op.node("reshape", {"shape": (rows, w.shape[1])}, inputs=inputs[:1], outputs=[flat]),
        op.node("dense", attrs, inputs=[flat, *inputs[1:]], outputs=[out]),
        op.node("reshape", {"shape": shape}, inputs=[out]),
    )


def to_tflite(op: Exporting) -> None:
    quant = op.type(1).quant
    per_channel = quant is not None and quant.axis is not None
    op.emit(
        "FULLY_CONNECTED",
        options="FullyConnectedOptions",
        version=op.version(
            i8=12 if per_channel else 6, i16=7, other=1 if len(op.inputs) > 2 else 6
        ),
        fused_activation_function=activation_code(op),
        weights_format=0,
        keep_num_dims=False,
    )


def _samples() -> tuple[Sample, ...]:
    samples = []
    for dtype in (DType.I8, DType.I16, DType.F32):
        weight = DType.F32 if dtype.is_float else DType.I8
        for m, n, k in ((1, 1, 1), (3, 4, 17), (1, 10, 8)):
            types = (TensorType((m, k), dtype), TensorType((n, k), weight))
            bias = TensorType((n,), accumulator(dtype))
            samples.append(Sample(types, {"x_zero": -7 if dtype is DType.I8 else 0}))
            samples.append(Sample((*types, bias), {}, {}, -128, 127))
    return tuple(samples)


OPS.add(
    "dense",
    OpDef(
        "dense",
        infer,
        reference,
        expand,
        activation=True,
        channel_axis=0,
        macs=macs,
        limits={"x_zero": 0},
        samples=_samples(),
    ),
)
LOOP_RULES.add("dense", LoopRule(("x", "w", "bias"), loops))
IMPORTERS["tflite"].add("FULLY_CONNECTED", from_tflite)
EXPORTERS["tflite"].add("dense", to_tflite)
QUANTIZING.add("dense", QuantRule(weighted=True))
