"""Convolutions on rows of widened activations, by the blocks of `gemm`.

The unit is one output row. The input rows that it needs stand in a scratch buffer as int16, with
the zero point in their margins and in rows outside the image, so that border and interior are the
same code. A convolution of one tap reads pixels, not rows: they are widened a few at a time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cached_property

from midge.core.types import DType
from midge.graph.attrs import integer, integers
from midge.graph.ir import Graph, Node
from midge.kernels.arm_dsp.fill import Fill
from midge.kernels.arm_dsp.gemm import Gemm, most_pixels
from midge.kernels.arm_dsp.kernel import Int8Writer, Part, paired, parts_of, usable_scaling
from midge.kernels.arm_dsp.scaling import Scaling
from midge.kernels.arm_dsp.widen import Widen, order
from midge.loop import ir
from midge.lower import Site, nest
from midge.lower.build import build
from midge.lower.candidates import LOWERINGS, Candidate, Request

# Elements of widened pixels at a time: calls become rare with half a KB of scratch memory.
_MOST_WIDE = 256


@dataclass(frozen=True, slots=True)
class Layer:
    """A convolution's geometry; sizes in elements."""

    height: int
    width: int
    depth: int
    out_height: int
    out_width: int
    channels: int
    taps: tuple[int, int]
    strides: tuple[int, int]
    top: int
    left: int
    pad_value: int

    @property
    def pointwise(self) -> bool:
        """Whether output pixel i reads input pixel i and nothing else."""
        same = (self.height, self.width) == (self.out_height, self.out_width)
        return self.taps == (1, 1) and self.strides == (1, 1) and same

    @property
    def run(self) -> int:
        """Elements of a row that an output pixel reads."""
        return self.taps[1] * self.depth

    @property
    def words(self) -> int:
        """Words of such a run once it is widened."""
        return (self.run + 1) // 2


def layer_of(graph: Graph, node: Node) -> Layer | None:
    """The geometry of a convolution of one image, without dilation or groups; else None."""
    x, w, y = (graph.types[v].shape for v in (*node.inputs[:2], node.outputs[0]))
    top, _, left, _ = integers(node.attrs, "padding")
    dilated = tuple(integers(node.attrs, "dilations")) != (1, 1)
    if dilated or w[3] != x[3] or x[0] != 1 or 0 in (*x, *w, *y):
        return None
    (kh, kw), (sh, sw) = w[1:3], integers(node.attrs, "strides")
    pad_value = integer(node.attrs, "pad_value", 0)
    (height, width, depth), (oh, ow, oc) = x[1:], y[1:]
    return Layer(height, width, depth, oh, ow, oc, (kh, kw), (sh, sw), top, left, pad_value)


def int8_layer(request: Request) -> Layer | None:
    """The geometry of an int8 convolution with constant weights and bias; None if it is something
    else, or `Request.anchor` has none."""
    graph, node = request.graph, request.anchor
    if node is None:
        return None
    constant = all(v in graph.consts for v in node.inputs[1:])
    if "dsp" not in request.target.features or not constant:
        return None
    return layer_of(graph, node) if graph.types[node.inputs[0]].dtype is DType.I8 else None


def convolution(request: Request) -> Iterable[Candidate]:
    """int8 convolutions with constant weights: whatever follows is fused, what makes the sums int8
    in registers."""
    graph, group = request.graph, request.group
    layer = int8_layer(request)
    if layer is None:
        return ()
    scaling = usable_scaling(graph, group)
    straight = {"speed": (32, 64, 16), "balanced": (8, 16)}.get(request.optimize, (4, 8))
    return (_candidate(request, layer, scaling, n) for n in straight)


def _candidate(request: Request, layer: Layer, scaling: Scaling | None, straight: int) -> Candidate:
    if scaling is None or len(request.group.nodes) > 2:
        return _Rows(request, layer, scaling, straight).with_epilogue()
    if layer.pointwise:
        return _Pixels(request, layer, scaling, straight).candidate()
    return _Rows(request, layer, scaling, straight).candidate()


def blocks_of(count: int, most: int = 4) -> tuple[tuple[int, int], ...]:
    """`count` pixels as (pixels of a block, number of blocks): blocks of `most` as far as possible.
    One of one, which costs half as much again per product, only behind many of four."""
    whole, rest = divmod(count, most)
    if rest == 0:
        return ((most, whole),)
    if whole == 0:
        return ((rest, 1),)
    if most == 4 and count % 3 == 0 and whole < 3:
        return ((3, count // 3),)
    if most == 4 and rest == 1 and whole < 8:
        return tuple((s, n) for s, n in ((4, whole - 1), (3, 1), (2, 1)) if n)
    return ((most, whole), (rest, 1))


class Convolution(Int8Writer):
    """What all forms share."""

    def __init__(
        self, request: Request, layer: Layer, scaling: Scaling | None, straight: int
    ) -> None:
        super().__init__(request, scaling)
        self.layer = layer
        self.straight = straight

    @property
    def x_shape(self) -> tuple[int, ...]:
        return (self.layer.height, self.layer.width * self.layer.depth)

    def blank(self, start: ir.Expr, count: int) -> ir.Block:
        """`count` elements of the scratch buffer as padding."""
        padding = Fill(count, self.layer.pad_value).instruction()
        return self.use(padding, {"y": ("wide", start)})

    def if_inside(
        self, ih: ir.Expr, rows: range, fill: ir.Block, start: ir.Expr, count: int
    ) -> ir.Block:
        """`fill` if row ih, one of `rows`, is in the image, else `count` elements of padding."""
        height = self.layer.height
        outside = []
        if rows.start < 0:
            outside.append(ir.Bin("<", ih, ir.i32(0)))
        if rows.stop > height:
            outside.append(ir.Bin("<=", ir.i32(height), ih))
        if not outside:
            return fill
        above = ir.Bin("or", *outside) if len(outside) == 2 else outside[0]
        blank = self.blank(start, count)
        return (ir.Guard(ir.in_range(ih, height), fill), ir.Guard(above, blank))

    @property
    def wide_turn(self) -> int:
        """Words that are widened in a turn of their loop."""
        return 8 if self.straight >= 16 else 4

    @cached_property
    def parts(self) -> tuple[Part, ...]:
        pairs = int(paired(self.graph, self.group, self.scaling))
        return parts_of(self.layer.channels, pairs)

    def sums(self, gemm: Callable[[Part], Gemm], x: ir.Expr, y: ir.Expr) -> ir.Block:
        """All channels of one block of pixels."""
        return tuple(s for part in self.parts for s in self.use_gemm(gemm(part), part, x, y))


class _Pixels(Convolution):
    """A convolution of one tap: pixels in a line, some at a time."""

    def candidate(self) -> Candidate:
        layer = self.layer
        self.streams(order(layer.depth, True), layer.channels, 1, self.parts)
        body: list[ir.Stmt] = []
        start, most = 0, 0
        for size, number in blocks_of(
            layer.out_height * layer.out_width, most_pixels(2 * layer.words)
        ):
            turns = self.turns(size, number)
            body += self.some(size, turns, number // turns, start)
            start += size * number
            most = max(most, turns * size)
        self.buffer("wide", DType.I16, most * 2 * layer.words)
        return self.finish("pixels", tuple(body))

    def turns(self, size: int, number: int) -> int:
        """Blocks whose pixels are widened at a time: as many as the scratch memory should hold, so
        that none are left over."""
        most = max(_MOST_WIDE // (size * 2 * self.layer.words), 1)
        return max(t for t in range(1, min(most, number) + 1) if number % t == 0)

    def some(self, size: int, turns: int, number: int, start: int) -> ir.Block:
        """`number` times `turns` blocks of `size` pixels, from pixel `start` on."""
        layer, stride = self.layer, 2 * self.layer.words
        together = size * turns
        block = ir.Var(f"block{start}")
        first = ir.add(ir.mul(block, ir.i32(together)), ir.i32(start))
        y_pixel, y_channel = self.y_strides

        def gemm(part: Part) -> Gemm:
            return Gemm(
                1, size, stride, 1, 0, layer.words, part.blocks, y_pixel, y_channel, self.scaling,
                part.pairs == 0, self.straight, turns, size * stride, size * y_pixel,
            )  # fmt: skip

        sums = self.sums(gemm, ir.i32(0), ir.mul(first, ir.i32(y_pixel)))
        return (ir.Loop(block.name, number, (*self.widened(first, together), *sums)),)

    def widened(self, first: ir.Expr, size: int) -> ir.Block:
        """`size` pixels from `first` on in the scratch buffer."""
        depth = self.layer.depth
        if depth % 4 == 0:
            x = ir.mul(first, ir.i32(depth))
            return self.use_widen(
                Widen(depth * size, True, self.wide_turn), ("x", x), ("wide", ir.i32(0))
            )
        pixel = ir.Var(self.fresh("pixel"))
        x = ir.mul(ir.add(first, pixel), ir.i32(depth))
        to = ir.mul(pixel, ir.i32(2 * self.layer.words))
        one = self.use_widen(Widen(depth, True, self.wide_turn), ("x", x), ("wide", to))
        if depth % 2:
            last = ir.add(to, ir.i32(depth))
            one = (*one, ir.Store("wide", (last,), ir.const(0, DType.I16)))
        return (ir.Loop(pixel.name, size, one),)


class _Rows(Convolution):
    """Any other: rows with margins."""

    def candidate(self) -> Candidate:
        body = self.rows(self.scaled_block)
        return self.finish("rows", body, {0: self.x_shape})

    def with_epilogue(self) -> Candidate:
        """Sums, or the int8 values made of them, to scratch memory, from where the operators that
        are fused take them."""
        value = self.group.nodes[0 if self.scaling is None else 1].outputs[0]
        self.target = "results"
        made = build(self.graph, self.group, "kernel", self.layouts, self.epilogue, value)
        return self.finish_built("rows", made, {0: self.x_shape})

    @property
    def columns(self) -> int:
        return (self.layer.out_width - 1) * self.layer.strides[1] + self.layer.taps[1]

    @property
    def row(self) -> int:
        """Elements of a row in the scratch buffer: even, and readable behind an odd run."""
        count = self.columns * self.layer.depth
        return count + count % 2 + (2 if self.layer.run % 2 else 0)

    def rows(self, block: Callable[[int, int, ir.Expr, int], ir.Block]) -> ir.Block:
        """All output rows. block: (pixels of a block, number of blocks, oh, first column) ->
        statements."""
        layer = self.layer
        self.streams(order(layer.run, self.paired), layer.channels, layer.taps[0], self.parts)
        self.buffer("wide", DType.I16, layer.taps[0] * self.row)
        turn = ir.Var(self.fresh("oh"))
        # A loop of one turn would hide from Tensorize that a row is in the image.
        oh: ir.Expr = turn if layer.out_height > 1 else ir.i32(0)
        body = list(self.filled(oh))
        start = 0
        most = most_pixels(layer.strides[1] * layer.depth)
        for size, number in blocks_of(layer.out_width, most):
            body += block(size, number, oh, start)
            start += size * number
        blank = self.blank(ir.i32(0), layer.taps[0] * self.row)
        if layer.out_height == 1:
            return (*blank, *body)
        return (*blank, ir.Loop(turn.name, layer.out_height, tuple(body)))

    @property
    def paired(self) -> bool:
        """Pixels must start where a four does for their elements to be crossed."""
        return self.layer.depth % 4 == 0

    def filled(self, oh: ir.Expr) -> ir.Block:
        """The rows that output row `oh` reads; margins hold the zero point since the start."""
        layer = self.layer
        kh = ir.Var(self.fresh("kh"))
        ih = ir.sub(ir.add(ir.mul(oh, ir.i32(layer.strides[0])), kh), ir.i32(layer.top))
        inside = min(layer.width, self.columns - layer.left) * layer.depth
        to = ir.add(ir.mul(kh, ir.i32(self.row)), ir.i32(layer.left * layer.depth))
        fill = self.use_widen(
            Widen(inside, self.paired, self.wide_turn), ("x", ih, ir.i32(0)), ("wide", to)
        )
        stop = (layer.out_height - 1) * layer.strides[0] + layer.taps[0] - layer.top
        filled = self.if_inside(ih, range(-layer.top, stop), fill, to, inside)
        return (ir.Loop(kh.name, layer.taps[0], filled),)

    def gemm(self, size: int, y_strides: tuple[int, int], turns: int) -> Callable[[Part], Gemm]:
        layer = self.layer
        step = layer.strides[1] * layer.depth

        def made(part: Part) -> Gemm:
            return Gemm(
                1, size, step, layer.taps[0], self.row, layer.words, part.blocks, *y_strides,
                self.scaling, part.pairs == 0, self.straight, turns, size * step,
                size * y_strides[0],
            )  # fmt: skip

        return made

    def scaled_block(self, size: int, number: int, oh: ir.Expr, first: int) -> ir.Block:
        layer = self.layer
        pixel = ir.add(ir.mul(oh, ir.i32(layer.out_width)), ir.i32(first))
        x = ir.i32(first * layer.strides[1] * layer.depth)
        strides = self.y_strides
        y = ir.mul(pixel, ir.i32(strides[0]))
        return self.sums(self.gemm(size, strides, number), x, y)

    def epilogue(self, site: Site) -> ir.Block:
        layer = self.layer
        kind = DType.I32 if self.scaling is None else DType.I8
        self.buffer("results", kind, 4 * layer.channels)

        def block(size: int, number: int, oh: ir.Expr, start: int) -> ir.Block:
            turn = ir.Var(self.fresh("block"))
            first = ir.add(ir.mul(turn, ir.i32(size)), ir.i32(start))
            x = ir.mul(first, ir.i32(layer.strides[1] * layer.depth))
            sums = self.sums(self.gemm(size, (layer.channels, 1), 1), x, ir.i32(0))
            p, oc = ir.Var(self.fresh("p")), ir.Var(self.fresh("oc"))
            at = ir.add(ir.mul(p, ir.i32(layer.channels)), oc)
            value: ir.Expr = ir.Load("results", (at,))
            if self.scaling is None and len(site.inputs) > 2:
                value = ir.Bin("+", value, site.inputs[2](oc))
            stored = site.store((ir.i32(0), oh, ir.add(first, p), oc), value)
            after = nest((p, oc), (size, layer.channels), stored)
            return (ir.Loop(turn.name, number, (*sums, *after)),)

        return self.rows(block)


LOWERINGS.add("conv2d/arm_dsp", convolution)
