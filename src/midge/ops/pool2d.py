"""avg_pool2d and max_pool2d over NHWC images; windows are cut off at the border.

The average divides by the taps inside the image: on integers rounded to nearest, ties away from
zero, in the scale of the input (AveragePool in lite/kernels/internal/reference/integer_ops).

Floats are added row by row, or as attribute `order` says, which is how ONNX Runtime's kernels add
(MlasPool2DVectorKernel and MlasPoolGlobalKernel in onnxruntime/core/mlas/lib/pooling.cpp):
"columns", each column of the window apart and then their sums; "lanes", for a window that is the
image, every fourth element apart. With attributes `scale` and `zero` the average is one of the
reals that integers stand for.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from midge.core.types import Array, DType, TensorType
from midge.graph.attrs import SCALE, Limits, integers, text
from midge.graph.exporters import EXPORTERS, Exporting
from midge.graph.fixed_point import ACTIVATIONS, activation_range
from midge.graph.importers import IMPORTERS, Foreign
from midge.graph.ir import OPS, Attrs, Expansion, Node, OpDef, Rows, Sample
from midge.graph.quantizing import QUANTIZING, SAME
from midge.loop import ir
from midge.lower import LOOP_RULES, LoopRule, Site, arithmetic, nest
from midge.lower.averages import average
from midge.ops._common import (
    arity,
    image,
    inside,
    reach,
    taps,
    tflite_activation,
    tflite_window,
    window_output,
    window_rows,
)
from midge.ops._export import activation_code, window
from midge.ops._reals import reads_integers, real_element, reals_of, without_quant
from midge.ops._sums import summed
from midge.ops.conv2d import when

ORDERS = ("rows", "columns", "lanes")
LANES = 4


def infer(inputs: Sequence[TensorType], attrs: Attrs) -> tuple[TensorType, ...]:
    arity(inputs, 1)
    (x,) = inputs
    n, h, w, c = image(x)
    kernel = integers(attrs, "window", 2)
    oh, ow = window_output((h, w), (kernel[0], kernel[1]), attrs)
    if reads_integers(attrs):
        without_quant(x, attrs)
        return (TensorType((n, oh, ow, c), DType.F32),)
    return (TensorType((n, oh, ow, c), x.dtype),)


def windows(x: Array, attrs: Attrs, outside: float) -> tuple[Array, Array]:
    """Values under each window, taps last, as float64 (exact), and which taps are in the image."""
    top, bottom, left, right = integers(attrs, "padding", 4)
    (kh, kw), (sh, sw) = integers(attrs, "window", 2), integers(attrs, "strides", 2)
    dh, dw = integers(attrs, "dilations", 2)
    pad = ((0, 0), (top, bottom), (left, right), (0, 0))
    padded = np.pad(x.astype(np.float64), pad, constant_values=outside)
    mask = np.pad(np.ones(x.shape, bool), pad)
    view = np.lib.stride_tricks.sliding_window_view
    reach = ((kh - 1) * dh + 1, (kw - 1) * dw + 1)
    values = view(padded, reach, (1, 2))[:, ::sh, ::sw, :, ::dh, ::dw]
    valid = view(mask, reach, (1, 2))[:, ::sh, ::sw, :, ::dh, ::dw]
    flat = (*values.shape[:4], kh * kw)
    return values.reshape(flat), valid.reshape(flat)


def avg_reference(inputs: Sequence[Array], attrs: Attrs) -> tuple[Array, ...]:
    x = reals_of(inputs[0], attrs)
    values, valid = windows(x, attrs, 0.0)
    count = valid.sum(-1)
    if DType.of(x).is_float:
        total = _float_total(values.astype(np.float32), attrs)
        return (total / count.astype(np.float32),)
    acc = values.sum(-1).astype(np.int64)
    half = count // 2
    mean = np.where(acc > 0, (acc + half) // count, -((half - acc) // count))
    return (mean.astype(inputs[0].dtype),)


def _float_total(values: Array, attrs: Attrs) -> Array:
    """The sum of each window, taps last, in its order."""
    match text(attrs, "order", ORDERS[0]):
        case "columns":
            columns = values.reshape(*values.shape[:-1], *integers(attrs, "window"))
            return summed(summed(columns, (4,)), (5,))[..., 0, 0]
        case "lanes":
            whole = values.shape[-1] // LANES * LANES
            lanes = values[..., :whole].reshape(*values.shape[:-1], -1, LANES)
            a, b, c, d = np.moveaxis(summed(lanes, (4,))[..., 0, :], -1, 0)
            total: Array = (a + c) + (b + d)
            for i in range(whole, values.shape[-1]):
                total = total + values[..., i]
            return total
        case _:
            return summed(values, (4,))[..., 0]


def max_reference(inputs: Sequence[Array], attrs: Attrs) -> tuple[Array, ...]:
    """Of floats the greatest that is a number, -inf where none is."""
    values = windows(inputs[0], attrs, -np.inf)[0]
    return (np.fmax.reduce(values, -1, initial=-np.inf).astype(inputs[0].dtype),)


def _border(site: Site) -> list[bool]:
    (x,) = site.inputs
    kh, kw = integers(site.attrs, "window")
    return list(reach(x.type, (kh, kw), site))


def avg_loops(site: Site) -> ir.Block:
    (x,) = site.inputs
    if text(site.attrs, "order", ORDERS[0]) == "lanes":
        return _lanes(site)
    n, oh, ow, c, kh, kw = site.axes("n oh ow c kh kw")
    rows, cols = integers(site.attrs, "window")
    dtype = arithmetic(site.output.dtype)
    acc, count = site.local("acc", dtype), site.local("count", DType.I32)
    clipped = any(_border(site))
    ih, iw = taps(site, oh, ow, kh, kw)
    value = real_element(site, x, n, ih, iw, c) if dtype.is_float else x.wide(n, ih, iw, c)
    tap: ir.Block = (acc.update("+", value),)
    start: ir.Block = (acc.alloc, acc.set(ir.const(0, dtype)))
    if clipped:
        tap = (*tap, count.update("+", ir.i32(1)))
        start = (*start, count.alloc, count.set(ir.i32(0)))
    row_ok, col_ok = inside(site, x.type, (rows, cols), ih, iw)
    if text(site.attrs, "order", ORDERS[0]) == "columns":
        column = site.local("column", dtype)
        one = (column.update("+", value), *tap[1:])
        inner = (
            column.alloc,
            column.set(ir.const(0, dtype)),
            *nest((kh,), (rows,), when(row_ok, one)),
            acc.update("+", column()),
        )
        window = nest((kw,), (cols,), when(col_ok, inner))
    else:
        window = nest((kh,), (rows,), when(row_ok, nest((kw,), (cols,), when(col_ok, tap))))
    body = (
        *start,
        *window,
        *site.store((n, oh, ow, c), mean(acc(), count() if clipped else rows * cols, site)),
    )
    return nest((n, oh, ow, c), site.output.shape, body)


def _lanes(site: Site) -> ir.Block:
    """The average of the whole image: four sums of every fourth element, the rest one by one."""
    (x,) = site.inputs
    n, oh, ow, c, i = site.axes("n oh ow c i")
    rows, cols = integers(site.attrs, "window")
    lanes = [site.local(f"lane{k}", DType.F32) for k in range(LANES)]
    whole = rows * cols // LANES

    def element(at: ir.Expr) -> ir.Expr:
        row, column = ir.Bin("/", at, ir.i32(cols)), ir.Bin("%", at, ir.i32(cols))
        return real_element(site, x, n, row, column, c)

    start = tuple(s for lane in lanes for s in (lane.alloc, lane.set(ir.f32(0))))
    first = ir.mul(i, ir.i32(LANES))
    adds = tuple(
        lane.update("+", element(ir.add(first, ir.i32(k)))) for k, lane in enumerate(lanes)
    )
    a, b, c_, d = (lane() for lane in lanes)
    total: ir.Expr = ir.Bin("+", ir.Bin("+", a, c_), ir.Bin("+", b, d))
    for k in range(whole * LANES, rows * cols):
        total = ir.Bin("+", total, element(ir.i32(k)))
    body = (
        *start,
        *(nest((i,), (whole,), adds) if whole else ()),
        *site.store((n, oh, ow, c), mean(total, rows * cols, site)),
    )
    return nest((n, oh, ow, c), site.output.shape, body)


def mean(total: ir.Expr, count: ir.Expr | int, site: Site) -> ir.Expr:
    """total / count, rounded as the operator rounds, as the type of the output's elements."""
    dtype = site.output.dtype
    divisor = ir.i32(count) if isinstance(count, int) else count
    if dtype.is_float:
        return ir.Bin("/", total, ir.cast(dtype, divisor, DType.I32))
    if isinstance(count, int):
        return ir.cast(dtype, average(total, count, dtype), DType.I32)
    half = ir.Bin("/", divisor, ir.i32(2))
    rounding = ir.Select(ir.Bin("<", ir.i32(0), total), half, ir.Bin("-", ir.i32(0), half))
    return ir.cast(dtype, ir.Bin("/", ir.Bin("+", total, rounding), divisor), DType.I32)


def max_loops(site: Site) -> ir.Block:
    (x,) = site.inputs
    n, oh, ow, c, kh, kw = site.axes("n oh ow c kh kw")
    rows, cols = integers(site.attrs, "window")
    element = site.output.dtype
    dtype = arithmetic(element)
    least = -math.inf if dtype.is_float else element.min
    best = site.local("best", dtype)
    ih, iw = taps(site, oh, ow, kh, kw)
    row_ok, col_ok = inside(site, x.type, (rows, cols), ih, iw)
    tap = (best.update("max", x.wide(n, ih, iw, c)),)
    body = (
        best.alloc,
        best.set(ir.const(least, dtype)),
        *nest((kh,), (rows,), when(row_ok, nest((kw,), (cols,), when(col_ok, tap)))),
        *site.store((n, oh, ow, c), ir.cast(element, best(), dtype)),
    )
    return nest((n, oh, ow, c), site.output.shape, body)


def expand(node: Node, ctx: Expansion) -> None:
    """The pool on plain integers, then the activation's clamp; scales are those of the input."""
    attrs = {k: v for k, v in node.attrs.items() if k != "activation"}
    activation = text(node.attrs, "activation", "")
    y = ctx.output
    if y.dtype.is_float:
        low, high = ACTIVATIONS[activation]
    else:
        low, high = activation_range(activation, y, node.where)
    if activation == "":
        ctx.finish(node.op, node.inputs, attrs)
        return
    pooled = ctx.emit(node.op, node.inputs, attrs)
    ctx.finish("clip", [pooled], {"low": float(low), "high": float(high)})


def from_tflite(name: str):  # type: ignore[no-untyped-def]
    def importer(op: Foreign) -> tuple[Node, ...]:
        op.expect_inputs(1)
        op.expect_dtype(0, DType.F32, DType.I8, DType.I16)
        x, y = op.type(0), op.output
        if x.quant != y.quant:
            raise op.error("input and output have different scales", "TFLite pools keep the scale")
        window = (op.attrs["filter_height"], op.attrs["filter_width"])
        _, h, w, _ = image(x)
        attrs = {**tflite_window(op, (h, w), window), **tflite_activation(op), "window": window}
        return (op.node(name, attrs),)

    return importer


def to_tflite(op: Exporting) -> None:
    (kh, kw), (sh, sw) = integers(op.attrs, "window", 2), integers(op.attrs, "strides", 2)
    if integers(op.attrs, "dilations", 2) != (1, 1):
        raise op.error("TFLite has no dilated pools", "use a pool without dilation")
    outside = max_rows(op.attrs, [op.type()]).outside if op.node.op == "max_pool2d" else None
    if outside == -math.inf:  # constants of TFLite are finite
        outside = -float(np.finfo(np.float32).max)
    image_name, padding = window(op, (kh, kw), outside)
    op.emit(
        "MAX_POOL_2D" if op.node.op == "max_pool2d" else "AVERAGE_POOL_2D",
        [image_name],
        options="Pool2DOptions",
        version=op.version(i8=2, i16=3),
        padding=padding,
        stride_h=sh,
        stride_w=sw,
        filter_height=kh,
        filter_width=kw,
        fused_activation_function=activation_code(op),
    )


def max_rows(attrs: Attrs, inputs: Sequence[TensorType]) -> Rows:
    """Rows beyond the image hold what is the maximum of nothing."""
    dtype = inputs[0].dtype
    least = -math.inf if dtype.is_float else dtype.min
    return window_rows(integers(attrs, "window")[0], attrs, least)


def avg_rows(attrs: Attrs, inputs: Sequence[TensorType]) -> Rows | None:
    """Only without rows beyond the image: an average leaves them out."""
    top, bottom, _, _ = integers(attrs, "padding")
    return window_rows(integers(attrs, "window")[0], attrs, 0) if top == bottom == 0 else None


def _samples() -> tuple[Sample, ...]:
    plain = {"strides": (1, 1), "dilations": (1, 1), "padding": (0, 0, 0, 0), "window": (2, 2)}
    border = {"strides": (2, 2), "dilations": (1, 1), "padding": (1, 1, 1, 1), "window": (3, 3)}
    wide = {"strides": (1, 2), "dilations": (2, 3), "padding": (1, 1, 0, 1), "window": (2, 2)}
    cases = (
        ((1, 2, 2, 1), plain),
        ((2, 5, 4, 3), plain),
        ((1, 5, 5, 2), border),
        ((1, 4, 6, 3), wide),
    )
    return tuple(
        Sample((TensorType(shape, dtype),), attrs)
        for dtype in (DType.I8, DType.I16, DType.F32)
        for shape, attrs in cases
    )


def _ordered_samples() -> tuple[Sample, ...]:
    """In the other orders, and of integers with a scale."""
    whole = {"strides": (1, 1), "dilations": (1, 1), "padding": (0, 0, 0, 0), "window": (3, 5)}
    found = []
    for sample in _samples()[-4:]:
        found.append(replace(sample, attrs={**sample.attrs, "order": "columns"}))
    for size in ((3, 5), (1, 3), (4, 4)):
        x = TensorType((2, *size, 3), DType.F32)
        found.append(Sample((x,), {**whole, "window": size, "order": "lanes"}))
    integers_ = {"scale": 0.037, "zero": -3}
    for sample in (*_samples()[-4:], *tuple(found)):
        x = TensorType(sample.inputs[0].shape, DType.I8)
        found.append(replace(sample, inputs=(x,), attrs={**sample.attrs, **integers_}))
    return tuple(found)


_LIMITS: Limits = {"scale": SCALE, "zero": 0}
for _name, _reference, _loops, _rows, _kind, _more in (
    ("avg_pool2d", avg_reference, avg_loops, avg_rows, "AVERAGE_POOL_2D", _ordered_samples()),
    ("max_pool2d", max_reference, max_loops, max_rows, "MAX_POOL_2D", ()),
):
    _all = (*_samples(), *_more)
    _op = OpDef(
        _name, infer, _reference, expand, activation=True, rows=_rows, limits=_LIMITS, samples=_all
    )
    OPS.add(_name, _op)
    LOOP_RULES.add(_name, LoopRule(("x",), _loops))
    IMPORTERS["tflite"].add(_kind, from_tflite(_name))
    EXPORTERS["tflite"].add(_name, to_tflite)
    QUANTIZING.add(_name, SAME)
