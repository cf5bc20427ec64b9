"""Depthwise convolutions by the micro-kernel `plane`."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

import numpy as np

from midge.core.target import Target
from midge.core.types import DType
from midge.graph.attrs import integer, integers
from midge.graph.ir import Graph
from midge.kernels.arm_dsp.kernel import Int8Writer
from midge.kernels.arm_dsp.plane import Plane, fits, pack
from midge.kernels.arm_dsp.scaling import constants_fit, constants_of, scaling_of
from midge.loop import ir
from midge.lower.candidates import LOWERINGS, Candidate, Request
from midge.lower.fuse import Group
from midge.lower.layouts import CHANNELS_FIRST, WANTED, Layouts
from midge.lower.writer import Place


def plane_of(graph: Graph, group: Group, layouts: Layouts) -> Plane | None:
    """The group as one use of the micro-kernel; None if it does not fit it."""
    node = group.anchor
    assert node is not None
    scale = scaling_of(graph, group) if len(group.nodes) == 2 else None
    x, w, y = (graph.types[v] for v in (*node.inputs[:2], node.outputs[0]))
    if scale is None or x.dtype is not DType.I8 or node.inputs[1] not in graph.consts:
        return None
    sums = 128 * np.abs(graph.consts[node.inputs[1]].astype(np.int64)).sum((0, 1, 2))
    if not constants_fit(graph, group, scale, sums):
        return None
    simple = tuple(integers(node.attrs, "dilations")) == (1, 1) and x.shape[0] == 1
    if not simple or x.shape[3] != w.shape[3] or 0 in (*x.shape, *y.shape):
        return None
    _, height, width, channels = x.shape
    top, _, left, _ = integers(node.attrs, "padding")
    (kh, kw), (sh, sw) = w.shape[1:3], integers(node.attrs, "strides")
    x_strides = (width * channels, channels, 1)
    if node.inputs[0] in layouts:
        x_strides = (width, 1, height * width)
    y_strides = (channels, 1)
    if group.output in layouts:
        y_strides = (1, y.shape[1] * y.shape[2])
    oh, ow = y.shape[1:3]
    if width == kw == ow == 1 and left == 0:
        # A column of pixels is a row for a window of one column.
        height, width, oh, ow, kh, kw, sh, sw = width, height, ow, oh, kw, kh, sw, sh
        x_strides = (x_strides[1], x_strides[0], x_strides[2])
        top, left = left, top
    plane = Plane(
        channels, height, width, x_strides, oh, ow, (kh, kw), (sh, sw), top, left,
        integer(node.attrs, "pad_value", 0), *y_strides, scale,
    )  # fmt: skip
    return plane if fits(plane) else None


def depthwise(request: Request) -> Iterable[Candidate]:
    """int8 layers with constant weights and one output channel per input channel, followed by
    nothing but what makes their sums int8."""
    graph, group = request.graph, request.group
    if "dsp" not in request.target.features:
        return ()
    plane = plane_of(graph, group, request.layouts)
    if plane is None:
        return ()
    straight = {"speed": (8, 16, 4), "balanced": (4, 8)}.get(request.optimize, (2, 4))
    return (_candidate(request, replace(plane, straight=n)) for n in straight)


def _candidate(request: Request, plane: Plane) -> Candidate:
    graph, group = request.graph, request.group
    node, scale = group.nodes
    kernel = Int8Writer(request, plane.scaling)
    w = graph.consts[node.inputs[1]][0]
    if plane.taps != w.shape[:2]:
        w = w.transpose(1, 0, 2)
    label = " ".join((*node.inputs[1:], *scale.inputs[1:], "by threes"))
    kernel.constant("w", label, pack(w, constants_of(graph, group, plane.channels)))
    kernel.buffer("plane", DType.I8, plane.scratch)
    zero = ir.i32(0)
    places: dict[str, Place] = {name: (name, zero) for name in ("w", "x", "plane", "y")}
    return kernel.finish("planes", kernel.use(plane.instruction(), places))


def wanted(graph: Graph, group: Group, target: Target) -> tuple[int, ...] | None:
    """Planes are copied a word at a time if they lie one after the other."""
    usable = "dsp" in target.features and plane_of(graph, group, {}) is not None
    return CHANNELS_FIRST if usable else None


LOWERINGS.add("depthwise_conv2d/arm_dsp", depthwise)
WANTED.add("depthwise_conv2d", wanted)
