"""Convolutions and fully connected layers of int16 activations, by the blocks of `gemm16`.

Where the weights bound the sums below 2^31 they are summed in 32 bits and become int16 in
registers; else in 64 bits, scaled in C. Input rows that have no padding beside them are read where
they are; others stand in a scratch buffer with margins, as those of int8 layers do.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from midge.core.sums import magnitudes
from midge.core.types import Array, DType
from midge.graph.attrs import integer
from midge.kernels.arm.geometry import Layer, layer_of
from midge.kernels.arm_dsp.copy16 import Copy16
from midge.kernels.arm_dsp.gemm16 import Gemm16, most_pixels, pack
from midge.kernels.arm_dsp.kernel import Part, parts_of
from midge.kernels.arm_dsp.rows import Convolution
from midge.kernels.arm_dsp.scaling16 import Scaling16, scaling16
from midge.kernels.arm_dsp.strips import blocks_of
from midge.loop import ir
from midge.lower import Site, nest
from midge.lower.candidates import TEMPLATES, Candidate, Request, Template
from midge.lower.space import Goal, Point, Value
from midge.lower.writer import Place, in_pieces

_WORD = 1 << 31


@dataclass(frozen=True, slots=True)
class Sums:
    """How a layer is summed and scaled.

    long: in 64 bits.  scaling, constants: what makes int16 in registers, and its constants (i32
    [channels, words]), if anything does.  narrow: weights stay bytes.  straight: as in `Gemm16`.
    pixels: of a block at most.
    """

    long: bool
    scaling: Scaling16 | None
    constants: Array | None
    narrow: bool
    straight: int
    pixels: int = 2

    @property
    def result(self) -> DType:
        if self.scaling is not None:
            return DType.I16
        return DType.I64 if self.long else DType.I32


def layer16(request: Request) -> Layer | None:
    """The geometry of an int16 layer with constant int8 weights; a fully connected one is a
    convolution of one tap. None if it is something else, or `Request.anchor` has none."""
    graph, node = request.graph, request.anchor
    if node is None or node.inputs[0] in request.layouts:
        return None
    x, w = (graph.types[v] for v in node.inputs[:2])
    constant = all(v in graph.consts for v in node.inputs[1:])
    if not constant or integer(node.attrs, "x_zero", 0):
        return None
    if (x.dtype, w.dtype) != (DType.I16, DType.I8) or 0 in (*x.shape, *w.shape):
        return None
    if node.op == "dense":
        if in_pieces(request):
            return None
        (rows, depth), channels = x.shape, w.shape[0]
        return Layer(1, rows, depth, 1, rows, channels, (1, 1), (1, 1), 0, 0, 0)
    return layer_of(graph, node)


def greatest(w: Array) -> Array:
    """The magnitude of no sum of products with weights [channels, ...] is greater: i64."""
    return 32768 * magnitudes(w, tuple(range(1, w.ndim)))


def sums_of(request: Request) -> Sums:
    """The best way, with weights as bytes."""
    graph, group = request.graph, request.group
    assert group.anchor is not None
    w = graph.consts[group.anchor.inputs[1]]
    most = greatest(w)
    if most.max() >= _WORD:
        return Sums(True, None, None, True, 16)
    bias = np.zeros(len(w), np.int64)
    if len(group.anchor.inputs) > 2:
        bias = graph.consts[group.anchor.inputs[2]].astype(np.int64).reshape(-1)
    biased = int((most + np.abs(bias)).max())
    if biased < _WORD and len(group.nodes) > 1:
        sums, node, *rest = (group.anchor.outputs[0], *group.nodes[1:])
        alone = node.inputs[0] == sums and not any(sums in n.inputs for n in rest)
        found = scaling16(graph, node, bias, max(biased, 1)) if alone else None
        if found is not None:
            return Sums(False, *found, True, 16)
    return Sums(False, None, None, True, 16)


class Lines(Template):
    """int16 layers with constant weights; whatever follows is fused.

    pixels: of a block of sums at most.  straight: steps written out.  weights: stored as bytes or
    as halves of words.
    """

    name = "arm_dsp.lines16"
    ops = ("conv2d", "dense")
    priority = 20

    def __init__(self, request: Request, layer: Layer) -> None:
        straight = request.straight((16, 32, 8, 4))
        self.request, self.layer, self.sums = request, layer, sums_of(request)
        pixels = (2, 1) if self.sums.long else (4, 2, 1)
        knobs: dict[str, Sequence[Value]]
        knobs = {"pixels": pixels, "straight": straight, "weights": ("halves", "bytes")}
        super().__init__(self.name, knobs)

    @classmethod
    def of(cls, request: Request) -> Lines | None:
        layer = layer16(request)
        return None if layer is None else cls(request, layer)

    def usual(self, goal: Goal) -> Iterator[Point]:
        """Weights as halfwords save a cycle in seventeen, of fully connected layers four in 22."""
        kinds = goal.pick(("halves", "bytes"), ("bytes",), ("bytes",))
        for n in self.request.straight(goal.pick((16, 32), (8, 16), (4, 8))):
            for weights in kinds:
                yield self.point(pixels=self.knobs["pixels"][0], straight=n, weights=weights)

    def build(self, point: Point) -> Candidate:
        narrow = point["weights"] == "bytes"
        pixels, straight = point.number("pixels"), point.number("straight")
        how = replace(self.sums, narrow=narrow, straight=straight, pixels=pixels)
        return _Lines(self.request, self.layer, how).candidate()


class _Lines(Convolution):
    """Rows of pixels, from where they lie or with margins."""

    def __init__(self, request: Request, geometry: Layer, how: Sums) -> None:
        super().__init__(request, geometry, None, how.straight)
        self.how = how
        self.covered = 1 if how.scaling is None else 2  # nodes that the blocks compute
        self.in_place = how.scaling is not None and len(self.group.nodes) == self.covered
        if geometry.pointwise and self.in_place and not in_pieces(request):
            pixels = geometry.height * geometry.width
            self.layer = replace(geometry, height=1, out_height=1, width=pixels, out_width=pixels)

    def candidate(self) -> Candidate:
        layer = self.layer
        shape: tuple[int, ...] = (layer.height * layer.width * layer.depth,)
        if self.margins:
            self.buffer("wide", DType.I16, layer.taps[0] * self.row)
            shape = self.x_shape
        if self.in_place:
            return self.finish("rows", self.rows(None), {0: shape})
        value = self.group.nodes[self.covered - 1].outputs[0]
        self.target = "results"
        made = self.built(self.rows, value)
        return self.finish_built("rows", made, {0: shape})

    @property
    def columns(self) -> int:
        """Columns that the windows of an output row reach."""
        return (self.layer.out_width - 1) * self.layer.strides[1] + self.layer.taps[1]

    @property
    def margins(self) -> bool:
        """Whether a window reaches over the image, or its rows are apart."""
        return in_pieces(self.request) or self.layer.padded

    @property
    def row(self) -> int:
        """Elements from row to row of what the blocks read."""
        return (self.columns if self.margins else self.layer.width) * self.layer.depth

    def rows(self, site: Site | None) -> ir.Block:
        """All output rows; what `site` stores is computed in C from the blocks' results."""
        layer = self.layer
        oh = ir.Var(self.fresh("oh"))
        before: ir.Block = ()
        body: list[ir.Stmt] = []
        if self.margins:
            before = self.blank(ir.i32(0), layer.taps[0] * self.row)
            body += self.filled(oh)
        start, most = 0, 0
        for size, number in self.blocks():
            if site is None:
                body += self.direct(oh, size, number, start)
            else:
                body += self.stored(site, oh, size, number, start)
            start += size * number
            most = max(most, size)
        if site is not None:
            self.buffer("results", self.how.result, most * layer.channels)
        return (*before, ir.Loop(oh.name, layer.out_height, tuple(body)))

    def blocks(self) -> tuple[tuple[int, int], ...]:
        """Pixels of a row as (pixels of a block, number of blocks)."""
        most = min(most_pixels(self.layer.strides[1] * self.layer.depth), self.how.pixels)
        return blocks_of(self.layer.out_width, most)

    def filled(self, oh: ir.Expr) -> ir.Block:
        """The rows that output row `oh` reads; margins hold the zero point since the start."""
        layer = self.layer
        kh = ir.Var(self.fresh("kh"))
        ih = ir.sub(ir.add(ir.mul(oh, ir.i32(layer.strides[0])), kh), ir.i32(layer.top))
        inside = min(layer.width, self.columns - layer.left) * layer.depth
        if inside <= 0:
            return ()  # all windows lie in the margins
        to = ir.add(ir.mul(kh, ir.i32(self.row)), ir.i32(layer.left * layer.depth))
        places: dict[str, Place] = {"x": ("x", ih, ir.i32(0)), "y": ("wide", to)}
        copy = self.use(Copy16(inside).instruction(), places)
        stop = (layer.out_height - 1) * layer.strides[0] + layer.taps[0] - layer.top
        body = self.if_inside(ih, range(-layer.top, stop), copy, to, inside)
        return (ir.Loop(kh.name, layer.taps[0], body),)

    def place(self, oh: ir.Expr, pixel: ir.Expr) -> ir.Expr:
        """Where the window of output pixel `pixel` of row `oh` starts."""
        layer = self.layer
        at = ir.mul(pixel, ir.i32(layer.strides[1] * layer.depth))
        return at if self.margins else ir.add(ir.mul(oh, ir.i32(layer.strides[0] * self.row)), at)

    def direct(self, oh: ir.Expr, size: int, number: int, start: int) -> ir.Block:
        """`number` blocks of `size` pixels from pixel `start` on, to the output."""
        pixel = ir.add(ir.mul(oh, ir.i32(self.layer.out_width)), ir.i32(start))
        y = ir.mul(pixel, ir.i32(self.y_strides[0]))
        return self.products(size, number, self.y_strides, self.place(oh, ir.i32(start)), y)

    def stored(self, site: Site, oh: ir.Expr, size: int, number: int, start: int) -> ir.Block:
        """The same one block at a time, through the scratch buffer."""
        channels, kind = self.layer.channels, self.how.result
        turn, p, oc = (ir.Var(self.fresh(v)) for v in ("block", "p", "oc"))
        first = ir.add(ir.mul(turn, ir.i32(size)), ir.i32(start))
        sums = self.products(size, 1, (channels, 1), self.place(oh, first), ir.i32(0))
        value: ir.Expr = ir.Load("results", (ir.add(ir.mul(p, ir.i32(channels)), oc),))
        if self.how.scaling is None:
            value = ir.cast(DType.I64, value, kind)
            if len(site.inputs) > 2:
                value = ir.Bin("+", value, site.inputs[2].as_type(DType.I64, oc))
        pixel = ir.add(first, p)
        index = (pixel, oc) if self.anchor.op == "dense" else (ir.i32(0), oh, pixel, oc)
        after = nest((p, oc), (size, channels), site.store(index, value))
        return (ir.Loop(turn.name, number, (*sums, *after)),)

    def products(
        self, size: int, number: int, y_strides: tuple[int, int], x: ir.Expr, y: ir.Expr
    ) -> ir.Block:
        """All channels of `number` blocks of `size` pixels."""
        layer, how = self.layer, self.how
        step = layer.strides[1] * layer.depth
        source = "wide" if self.margins else "x"
        out: list[ir.Stmt] = []
        for part in self.parts:
            g = Gemm16(
                max(2 * part.pairs, 1), size, step, layer.taps[0], self.row, layer.run,
                part.blocks, *y_strides, how.scaling, how.long, how.narrow and part.pairs > 0,
                how.straight, number, size * step, size * y_strides[0],
            )  # fmt: skip
            at = ir.add(y, ir.i32(part.start * y_strides[1]))
            w = (self.packed(part), ir.i32(0))
            places: dict[str, Place] = {"w": w, "x": (source, x), "y": (self.target, at)}
            out += self.use(g.instruction(), places)
        return tuple(out)

    @property
    def parts(self) -> tuple[Part, ...]:
        """As many channels of one pixel as there are registers for; two of several pixels. Blocks
        of all sizes read the same weights."""
        pixels = max(size for size, _ in self.blocks())
        pairs = {1: 4, 2: 2}.get(pixels, 1)
        return parts_of(self.layer.channels, pairs // 2 if self.how.long else pairs)

    def packed(self, part: Part) -> str:
        """The parameter that has the weights of `part` in the order in which they are read."""
        name = f"w{part.start}_{part.stop}_{part.pairs}"
        if any(p.name == name for p, _ in self.own):
            return name
        own = slice(part.start, part.stop)
        narrow, constants = self.how.narrow and part.pairs > 0, self.how.constants
        w = self.graph.consts[self.anchor.inputs[1]]
        runs = w.reshape(len(w), self.layer.taps[0], -1)[own]
        channels = max(2 * part.pairs, 1)
        words = pack(runs, None if constants is None else constants[own], channels, narrow)
        names = [self.anchor.inputs[1]]
        if constants is not None:
            names += [*self.anchor.inputs[2:], *self.group.nodes[1].inputs[1:]]
        label = f"{part.start}:{part.stop} by {channels} {'bytes' if narrow else 'halves'}"
        self.constant(name, " ".join((*names, label)), words)
        return name


TEMPLATES.add(Lines.name, Lines)
