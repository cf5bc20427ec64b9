"""conv_transpose2d: a convolution backwards: every input pixel adds a scaled window to the output.

y[n, oh, ow, oc] = b[oc] + sum over kh, kw, ic of x[n, ih, iw, ic] * w[oc, kh, kw, ic] for those
taps where oh + top = ih * stride + kh * dilation, and the same in width.

x [N, H, W, IC], w [OC, KH, KW, IC / groups], b [OC] (optional). Attributes: strides, dilations,
origin (top, left: the rows and columns of the full result that are cut off), size (height, width).
The plain operator on integers gives accumulators; `x_zero` is subtracted from every x.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import gcd

import numpy as np

from midge.core.types import Array, DType, TensorType
from midge.graph.attrs import integer, integers
from midge.graph.fixed_point import accumulator
from midge.graph.importers import CONV_TRANSPOSE_3D, IMPORTERS, Foreign, Steps
from midge.graph.ir import OPS, Attr, Attrs, Expansion, Node, OpDef, Sample
from midge.loop import ir
from midge.lower import LOOP_RULES, LoopRule, Site, nest
from midge.ops._common import (
    MAX_EXTENT,
    arity,
    checked_int,
    fail,
    image,
    tflite_activation,
    tflite_window,
)
from midge.ops._sums import finished, initial
from midge.ops.conv2d import check_bias, expand_conv, group_start, multiply, output_dtype, when
from midge.ops.onnx_window import FLAT, Axis, from_image, spatial_of, to_image


def infer(inputs: Sequence[TensorType], attrs: Attrs) -> tuple[TensorType, ...]:
    arity(inputs, 2, 3)
    x, w = inputs[:2]
    n, _, _, c = image(x)
    oc, _, _, ic = image(w)
    if c % ic or oc % (c // ic):
        raise fail(f"input {x} has {c} channels, weights {w} want a multiple of {ic}")
    check_bias(inputs, oc)
    steps = integers(attrs, "strides", 2) + integers(attrs, "dilations", 2)
    height, width = integers(attrs, "size", 2)
    if not all(1 <= v <= MAX_EXTENT for v in (*steps, height, width)) or not all(
        abs(v) <= MAX_EXTENT for v in integers(attrs, "origin", 2)
    ):
        raise fail(f"attributes {dict(attrs)} are out of range")
    return (TensorType((n, height, width, oc), output_dtype(x)),)


def macs(inputs: Sequence[TensorType], outputs: Sequence[TensorType]) -> int:
    """Those of the full result."""
    oc, kh, kw, ic = inputs[1].shape
    n, h, w, _ = inputs[0].shape
    return n * h * w * oc * kh * kw * ic


def reference(inputs: Sequence[Array], attrs: Attrs) -> tuple[Array, ...]:
    """Integers exactly; floats as `_sums` says."""
    exact = inputs[0].dtype == np.float32
    x, w = (a if exact else a.astype(np.float64) for a in inputs[:2])
    x = x - x.dtype.type(integer(attrs, "x_zero", 0))
    n, h, width, c = x.shape
    oc, kh, kw, ic = w.shape
    groups = c // ic
    (sh, sw), (dh, dw) = integers(attrs, "strides"), integers(attrs, "dilations")
    (top, left), (oh, ow) = integers(attrs, "origin"), integers(attrs, "size")
    margin_h, margin_w = max(-top, 0), max(-left, 0)
    size = (
        n, margin_h + max((h - 1) * sh + (kh - 1) * dh + 1, top + oh),
        margin_w + max((width - 1) * sw + (kw - 1) * dw + 1, left + ow), oc,
    )  # fmt: skip
    full = np.zeros(size, x.dtype)
    grouped = x.reshape(n, h, width, groups, ic)
    for r in range(kh):
        for s in range(kw):
            kernel = w[:, r, s].reshape(groups, oc // groups, ic)
            rows = slice(margin_h + r * dh, margin_h + r * dh + (h - 1) * sh + 1, sh)
            cols = slice(margin_w + s * dw, margin_w + s * dw + (width - 1) * sw + 1, sw)
            if exact:
                for i in range(ic):
                    part = grouped[..., i, None] * kernel[..., i]
                    full[:, rows, cols] += part.reshape(n, h, width, oc)
            else:
                part = np.einsum("nhwgi,goi->nhwgo", grouped, kernel, optimize=True)
                full[:, rows, cols] += part.reshape(n, h, width, oc)
    first_h, first_w = top + margin_h, left + margin_w
    acc = full[:, first_h : first_h + oh, first_w : first_w + ow]
    if len(inputs) == 3:
        acc = acc + inputs[2].reshape(-1)
    return (checked_int(acc, accumulator(DType.of(inputs[0]))),)


@dataclass(frozen=True, slots=True)
class _Phase:
    """Every `stride`th output row from `first` on, `count` of them; output row number q of these
    reads input row q + start - tap * back through filter row tap0 + tap * step, for `taps` taps."""

    first: int
    stride: int
    count: int
    tap0: int
    step: int
    taps: int
    start: int
    back: int

    def row(self, q: ir.Expr) -> ir.Expr:
        return ir.add(ir.mul(q, ir.i32(self.stride)), ir.i32(self.first))

    def tap(self, k: ir.Expr) -> ir.Expr:
        return ir.add(ir.mul(k, ir.i32(self.step)), ir.i32(self.tap0))

    def source(self, q: ir.Expr, k: ir.Expr) -> ir.Expr:
        moved = ir.sub(q, ir.mul(k, ir.i32(self.back)))
        if self.start < 0:
            return ir.sub(moved, ir.i32(-self.start))
        return ir.add(moved, ir.i32(self.start))

    def guards(self, size: int, source: ir.Expr) -> list[ir.Expr]:
        """The conditions under which `source` is a row of `size`; those that always hold not."""
        conditions: list[ir.Expr] = []
        if self.start - (self.taps - 1) * self.back < 0:
            conditions.append(ir.Bin("<=", ir.i32(0), source))
        if self.count - 1 + self.start >= size:
            conditions.append(ir.Bin("<", source, ir.i32(size)))
        return conditions


def _phases(kernel: int, stride: int, dilation: int, origin: int, size: int) -> Iterator[_Phase]:
    """The outputs of one axis by their remainder modulo the stride: each reads its own taps."""
    step = stride // gcd(stride, dilation)
    for first in range(min(stride, size)):
        count = -(-(size - first) // stride)
        fits = [
            k for k in range(min(step, kernel)) if (first + origin - k * dilation) % stride == 0
        ]
        if not fits:
            yield _Phase(first, stride, count, 0, 1, 0, 0, 0)
            continue
        taps = -(-(kernel - fits[0]) // step)
        start = (first + origin - fits[0] * dilation) // stride
        yield _Phase(first, stride, count, fits[0], step, taps, start, step * dilation // stride)


def loops(site: Site) -> ir.Block:
    """One nest per phase: no tap is tried that falls between input pixels."""
    w = site.inputs[1].type
    strides, dilations = integers(site.attrs, "strides"), integers(site.attrs, "dilations")
    origin, size = integers(site.attrs, "origin"), integers(site.attrs, "size")
    specs = list(zip(w.shape[1:3], strides, dilations, origin, size, strict=True))
    body: ir.Block = ()
    for rows in _phases(*specs[0]):
        for cols in _phases(*specs[1]):
            body += _nest(site, rows, cols)
    return body


def _nest(site: Site, rows: _Phase, cols: _Phase) -> ir.Block:
    x, w = site.inputs[:2]
    n, qh, qw, oc, kh, kw, ic = site.axes("n oh ow oc kh kw ic")
    batch, height, width, _ = x.type.shape
    acc = site.local("acc", site.output.dtype)
    ih, iw = rows.source(qh, kh), cols.source(qw, kw)
    channel = ir.add(group_start(x, w, oc), ic)
    product = multiply(site, x(n, ih, iw, channel), w(oc, rows.tap(kh), cols.tap(kw), ic))
    depth = nest((ic,), w.type.shape[3:], (acc.update("+", product),))
    inner = nest((kw,), (cols.taps,), when(cols.guards(width, iw), depth))
    taps = nest((kh,), (rows.taps,), when(rows.guards(height, ih), inner))
    body = (
        acc.alloc,
        acc.set(initial(site, oc)),
        *(taps if rows.taps and cols.taps else ()),
        *site.store((n, rows.row(qh), cols.row(qw), oc), finished(site, acc(), oc)),
    )
    return nest((n, qh, qw, oc), (batch, rows.count, cols.count, w.type.shape[0]), body)


def expand(node: Node, ctx: Expansion) -> None:
    """TransposeConv in lite/kernels/internal/reference/integer_ops/transpose_conv.h."""
    expand_conv(node, ctx)


def from_tflite(op: Foreign) -> tuple[Node, ...]:
    """TRANSPOSE_CONV: the output's shape, weights, input and bias (lite/kernels/
    transpose_conv.cc); SAME and VALID are of the convolution that it is the inverse of."""
    op.expect_inputs(3, 4)
    op.expect_dtype(2, DType.F32, DType.I8, DType.I16)
    op.expect_dtype(1, DType.F32, DType.I8)
    if op.type(2).dtype is DType.I16 and op.has(3):
        op.expect_dtype(3, DType.I64)
    shape = op.output.shape
    if op.inputs[0] in op.consts or op.outputs[0] in op.open:
        shape = tuple(int(d) for d in op.const(0, "output shape").reshape(-1))
    batch, _, _, _ = image(op.type(2))
    oc, *kernel, _ = image(op.type(1))
    if len(shape) != 4 or shape[::3] != (batch, oc) or min(shape) < 1:
        raise op.error(f"output shape {shape} does not fit {op.type(2)} and weights {op.type(1)}")
    size = shape[1], shape[2]
    window = tflite_window(op, size, (kernel[0], kernel[1]))
    top, _, left, _ = integers(window, "padding", 4)
    attrs: dict[str, Attr] = {
        "strides": window["strides"],
        "dilations": (1, 1),
        "origin": (top, left),
        "size": size,
        **tflite_activation(op),
    }
    inputs = (op.inputs[2], op.inputs[1], *filter(None, op.inputs[3:]))
    return (op.node("conv_transpose2d", attrs, inputs=inputs),)


def from_onnx(op: Foreign) -> tuple[Node, ...]:
    """ConvTranspose of one or two spatial dimensions."""
    op.expect_inputs(2, 3)
    op.expect_dtype(0, DType.F32)
    op.expect_dtype(1, DType.F32)
    x, w = op.type(0), op.type(1)
    spatial = spatial_of(op, x)
    groups = int(op.attrs.get("group", 1))
    if len(w.shape) != len(x.shape) or w.elements == 0 or groups < 1:
        raise op.error(f"weights are {w} for an input {x} and {groups} groups")
    if w.shape[0] != x.shape[1] or x.shape[1] % groups:
        raise op.error(f"weights {w} and {groups} groups do not fit an input {x}")
    axes, sizes = _axes(op, spatial, w.shape[2:])
    steps = Steps(op)
    inputs = [to_image(steps, op.inputs[0]), _weights(steps, op.inputs[1], groups)]
    inputs += op.inputs[2:3] if op.has(2) else ()
    h, v = (*axes, FLAT)[:2]
    attrs: dict[str, Attr] = {
        "strides": (h.stride, v.stride),
        "dilations": (h.dilation, v.dilation),
        "origin": (h.before, v.before),
        "size": (*sizes, 1)[:2],
    }
    return from_image(steps, steps.emit("conv_transpose2d", inputs, attrs), len(x.shape))


def _axes(
    op: Foreign, spatial: Sequence[int], kernel: Sequence[int]
) -> tuple[list[Axis], tuple[int, ...]]:
    """The window along each axis (what is cut off as its padding) and the sizes of the result."""
    rank = len(spatial)
    strides, dilations = (op.attrs.get(n, (1,) * rank) for n in ("strides", "dilations"))
    extra = op.attrs.get("output_padding", (0,) * rank)
    pads = op.attrs.get("pads", (0,) * (2 * rank))
    stated = op.attrs.get("kernel_shape", tuple(kernel))
    if (
        rank > 2
        or tuple(stated) != tuple(kernel)
        or not (len(strides) == len(dilations) == len(extra) == rank and len(pads) == 2 * rank)
    ):
        raise op.error(
            f"kernel {stated}, strides, dilations or pads do not fit {rank} spatial dimensions",
            "one (signals) or two (images) are supported"
            + (f"; {CONV_TRANSPOSE_3D}" if rank == 3 else ""),
        )
    if not all(1 <= v <= MAX_EXTENT for v in (*strides, *dilations, *kernel, *spatial)):
        raise op.error(f"strides {strides} or dilations {dilations} are out of range")
    if not all(abs(v) <= MAX_EXTENT for v in (*pads, *extra)):
        raise op.error(f"pads {pads} or output_padding {extra} are out of range")
    axes, sizes = [], []
    for i, (n, k, s, d) in enumerate(zip(spatial, kernel, strides, dilations, strict=True)):
        full = (n - 1) * s + extra[i] + (k - 1) * d + 1
        before, size = _cut(op, i, full, n * s, (pads[i], pads[rank + i]))
        if size < 1 or size > MAX_EXTENT:
            raise op.error(f"the result would have {size} elements along an axis")
        axes.append(Axis(n, k, s, d, before, full - before - size))
        sizes.append(size)
    return axes, tuple(sizes)


def _cut(op: Foreign, i: int, full: int, same: int, pads: tuple[int, int]) -> tuple[int, int]:
    """How much of the `full` result is cut off in front, and the size that is left."""
    mode = op.attrs.get("auto_pad", "NOTSET")
    if mode not in ("NOTSET", "VALID", "SAME_UPPER", "SAME_LOWER"):
        raise op.error(f"auto_pad {mode} is not supported")
    wanted = op.attrs.get("output_shape")
    if wanted is None and mode in ("NOTSET", "VALID"):
        before, after = pads if mode == "NOTSET" else (0, 0)
        return before, full - before - after
    size = same if wanted is None else int(wanted[i - len(op.type(0).shape[2:])])
    total = full - size
    return (total // 2 if mode == "SAME_UPPER" else total - total // 2), size


def _weights(steps: Steps, w: str, groups: int) -> str:
    """[IC, OC / groups, H, W] (or without W) as [OC, H, W, IC / groups]."""
    channels, each, *kernel = steps.type(w).shape
    height, width = (*kernel, 1)[:2]
    shape = (groups, channels // groups, each, height, width)
    parts = steps.emit("reshape", [w], {"shape": shape})
    turned = steps.emit("transpose", [parts], {"perm": (0, 2, 3, 4, 1)})
    final = (groups * each, height, width, channels // groups)
    return steps.emit("reshape", [turned], {"shape": final})


def _samples() -> tuple[Sample, ...]:
    cases: tuple[tuple[tuple[int, ...], tuple[int, ...], tuple[tuple[int, int], ...]], ...] = (
        ((1, 3, 4, 2), (3, 3, 2, 2), ((2, 2), (1, 1), (1, 0), (6, 8))),
        ((2, 2, 3, 4), (6, 2, 3, 2), ((1, 3), (2, 1), (0, 1), (4, 9))),
        ((1, 3, 1, 1), (1, 4, 1, 1), ((3, 1), (2, 1), (-1, 0), (14, 2))),
    )
    samples = []
    for x, w, values in cases:
        names = ("strides", "dilations", "origin", "size")
        attrs: Attrs = dict(zip(names, values, strict=True))
        types = (TensorType(x, DType.F32), TensorType(w, DType.F32))
        bias = TensorType((w[0],), DType.F32)
        samples += [Sample(types, attrs), Sample((*types, bias), attrs)]
        types = (TensorType(x, DType.I8), TensorType(w, DType.I8))
        samples.append(Sample(types, {**attrs, "x_zero": -7}))
        bias = TensorType((w[0],), DType.I32)
        samples.append(Sample((*types, bias), attrs, {}, -128, 127))
    return tuple(samples)


OPS.add(
    "conv_transpose2d",
    OpDef(
        "conv_transpose2d",
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
LOOP_RULES.add("conv_transpose2d", LoopRule(("x", "w", "bias"), loops))
IMPORTERS["tflite"].add("TRANSPOSE_CONV", from_tflite)
IMPORTERS["onnx"].add("ConvTranspose", from_onnx)
