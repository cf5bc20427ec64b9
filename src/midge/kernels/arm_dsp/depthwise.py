"""Depthwise convolutions by the micro-kernels `plane` and `column`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Literal

import numpy as np

from midge.core.sums import magnitudes
from midge.core.target import Target
from midge.core.types import DType
from midge.graph.attrs import integer, integers
from midge.graph.ir import Graph
from midge.kernels.arm_dsp.column import Column
from midge.kernels.arm_dsp.column import fits as column_fits
from midge.kernels.arm_dsp.column import pack as pack_column
from midge.kernels.arm_dsp.kernel import Int8Writer
from midge.kernels.arm_dsp.plane import Plane, borders, direct_fits, fits, pack
from midge.kernels.arm_dsp.scaling import constants_fit, constants_of, scaling_of
from midge.loop import ir
from midge.lower.candidates import TEMPLATES, Candidate, Request, Template
from midge.lower.fuse import Group
from midge.lower.layouts import CHANNELS_FIRST, WANTED
from midge.lower.space import Constraint, Goal, Point, Value
from midge.lower.writer import Place

# Of assembler, for kernels that are straight code.
_MOST_LINES = {"speed": 800, "balanced": 320, "size": 150}
_LINES_OF_A_STEP = 32


def plane_of(request: Request) -> Plane | None:
    """The group as one use of the micro-kernel; None if it does not fit it."""
    graph, group, layouts = request.graph, request.group, request.layouts
    node = group.anchor
    assert node is not None
    source = node.inputs[0]
    scale = scaling_of(graph, group) if len(group.nodes) == 2 else None
    x, w, y = (graph.types[v] for v in (*node.inputs[:2], node.outputs[0]))
    if scale is None or x.dtype is not DType.I8:
        return None
    sums = 128 * magnitudes(graph.consts[node.inputs[1]], (0, 1, 2))
    if not constants_fit(graph, group, scale, sums):
        return None
    simple = tuple(integers(node.attrs, "dilations")) == (1, 1) and x.shape[0] == 1
    if not simple or x.shape[3] != w.shape[3] or 0 in (*x.shape, *y.shape):
        return None
    _, height, width, channels = x.shape
    top, _, left, _ = integers(node.attrs, "padding")
    (kh, kw), (sh, sw) = w.shape[1:3], integers(node.attrs, "strides")
    x_strides = (width * channels, channels, 1)
    if source in layouts:
        x_strides = (width, 1, request.planes.get(source, height * width))
    y_strides = (request.pitches.get(group.output, channels), 1)
    if group.output in layouts:
        y_strides = (1, request.planes.get(group.output, y.shape[1] * y.shape[2]))
    oh, ow = y.shape[1:3]
    pointers: Literal["", "rows", "columns"] = "rows" if source in request.rows else ""
    if width == kw == ow == 1 and left == 0:
        # A column of pixels is a row for a window of one column.
        height, width, oh, ow, kh, kw, sh, sw = width, height, ow, oh, kw, kh, sw, sh
        x_strides = (x_strides[1], x_strides[0], x_strides[2])
        top, left = left, top
        pointers = "columns" if pointers else ""
    plane = Plane(
        channels, height, width, x_strides, oh, ow, (kh, kw), (sh, sw), top, left,
        integer(node.attrs, "pad_value", 0), *y_strides, scale, pointers,
    )  # fmt: skip
    return plane if fits(plane) else None


class Columns(Template):
    """Bands of a column of pixels, channels side by side."""

    name = "arm_dsp.column"
    ops = ("depthwise_conv2d",)
    priority = 10

    def __init__(self, request: Request, column: Column) -> None:
        super().__init__(self.name, {})
        self.request, self.column = request, column

    @classmethod
    def of(cls, request: Request) -> Columns | None:
        plane = plane_of(request)
        if plane is None or not plane.pointers or plane.x_strides[2] != 1:
            return None
        column = column_of(plane)
        return None if column is None else cls(request, column)

    def usual(self, goal: Goal) -> Iterator[Point]:
        yield self.point()

    def build(self, point: Point) -> Candidate:
        return _column_candidate(self.request, self.column)


class Planes(Template):
    """int8 layers with constant weights and one output channel per input channel, followed by
    nothing but what makes their sums int8.

    form: whether rows are read from a padded copy of a channel's plane, or where they are, as
    straight code.  straight: outputs of a row that are written out, of copies.  rows: of outputs
    at a time, of 2 where the window allows it.
    """

    name = "arm_dsp.planes"
    ops = ("depthwise_conv2d",)
    priority = 20

    def __init__(self, request: Request, plane: Plane) -> None:
        self.lines = 0
        forms = ["copied"]
        if direct_fits(plane):
            self.lines = len(replace(plane, direct=True).instruction().asm)
            if self.lines <= _LINES_OF_A_STEP * request.target.straight:
                forms.append("direct")
        straight = request.straight((8, 16, 4, 2), 2)
        whole = Constraint(
            ("form", "straight"),
            lambda form, n: form == "copied" or n == straight[0],
            "rows that are read where they are are written out whole",
        )
        knobs: dict[str, Sequence[Value]]
        knobs = {"form": forms, "straight": straight, "rows": (2, 1)}
        super().__init__(self.name, knobs, [whole])
        self.request, self.plane = request, plane

    @classmethod
    def of(cls, request: Request) -> Planes | None:
        plane = plane_of(request)
        return None if plane is None else cls(request, plane)

    def usual(self, goal: Goal) -> Iterator[Point]:
        if "direct" in self.knobs["form"] and self.lines <= _MOST_LINES[goal.optimize]:
            yield self.point(form="direct", straight=self.knobs["straight"][0], rows=2)
        straight = self.request.straight(goal.pick((8, 16, 4), (4, 8), (2, 4)), 2)
        for n in straight[:1] if self.request.small else straight:
            yield self.point(form="copied", straight=n, rows=2)

    def build(self, point: Point) -> Candidate:
        plane = replace(self.plane, twins=point["rows"] == 2)
        if point["form"] == "direct":
            return _candidate(self.request, replace(plane, direct=True))
        return _candidate(self.request, replace(plane, straight=point.number("straight")))


def column_of(plane: Plane) -> Column | None:
    """A band of a column of pixels; None if the plane is none, or too large for that."""
    p = plane
    few = p.height == p.out_height == p.taps[0] == 1 and p.top == p.left == 0
    if not few or p.width != p.pitch or p.strides[1] != 1:
        return None
    column = Column(p.channels, p.out_width, p.taps[1], p.y_pixel, p.y_channel, p.scaling)
    return column if column_fits(column) else None


def _column_candidate(request: Request, column: Column) -> Candidate:
    graph, group = request.graph, request.group
    node, scale = group.nodes
    kernel = Int8Writer(request, column.scaling)
    label = " ".join((*node.inputs[1:], *scale.inputs[1:], "by twos"))
    w = graph.consts[node.inputs[1]].reshape(column.taps, column.channels)
    constants = constants_of(graph, group, column.channels)
    kernel.constant("w", label, pack_column(w, constants))
    zero = ir.i32(0)
    places: dict[str, Place] = {"w": ("w", zero), "x": ("x", zero, zero), "y": ("y", zero)}
    body = kernel.use(column.instruction(), places)
    return kernel.finish("column", body, {0: (column.height, column.channels)})


def _candidate(request: Request, plane: Plane) -> Candidate:
    graph, group = request.graph, request.group
    node, scale = group.nodes
    kernel = Int8Writer(request, plane.scaling)
    w = graph.consts[node.inputs[1]][0]
    if plane.taps != w.shape[:2]:
        w = w.transpose(1, 0, 2)
    label = " ".join((*node.inputs[1:], *scale.inputs[1:], "by threes"))
    constants = [constants_of(graph, group, plane.channels)]
    if plane.borders:
        label += f" borders {plane.width} {plane.left} {plane.pad}"
        constants.append(borders(plane, w))
    kernel.constant("w", label, pack(w, np.concatenate(constants, axis=1)))
    zero = ir.i32(0)
    places: dict[str, Place] = {name: (name, zero) for name in ("w", "y")}
    places["x"] = ("x", *(zero for _ in plane.x_shape))
    if not plane.direct:
        kernel.buffer("plane", DType.I8, plane.scratch)
        places["plane"] = ("plane", zero)
    return kernel.finish("planes", kernel.use(plane.instruction(), places), {0: plane.x_shape})


def wanted(graph: Graph, group: Group, target: Target) -> tuple[int, ...] | None:
    """Planes are copied a word at a time if they lie one after the other; bands of a column are
    read four channels at a time."""
    if "dsp" not in target.features:
        return None
    plane = plane_of(Request(graph, group, target, {}))
    return CHANNELS_FIRST if plane is not None and column_of(plane) is None else None


TEMPLATES.add(Columns.name, Columns)
TEMPLATES.add(Planes.name, Planes)
WANTED.add("depthwise_conv2d", wanted)
