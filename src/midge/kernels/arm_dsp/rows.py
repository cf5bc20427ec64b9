"""Convolutions on rows of widened activations, by the blocks of `gemm`.

The unit is one output row, or a strip of it where scratch memory is dear. The input that it needs
stands in a scratch buffer as int16, with the zero point in its margins and in rows outside the
image, so that border and interior are the same code. A convolution of one tap reads pixels, not
rows: they are widened a few at a time.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import cached_property

from midge.core.types import DType
from midge.kernels.arm.geometry import Layer
from midge.kernels.arm_dsp.fill import Fill
from midge.kernels.arm_dsp.gemm import Gemm, most_pixels
from midge.kernels.arm_dsp.kernel import Int8Writer, Part, paired, parts_of
from midge.kernels.arm_dsp.scaling import Scaling
from midge.kernels.arm_dsp.strips import Blocks, Strip, blocks_of, columns_of, strips, twos_of
from midge.kernels.arm_dsp.strips import order as strip_order
from midge.kernels.arm_dsp.widen import Widen, order
from midge.loop import ir
from midge.lower import Site, nest
from midge.lower.candidates import Candidate, Request

_FAR = 4095 // 4  # words that the offset of a load reaches


class Convolution(Int8Writer):
    """What all forms share."""

    def __init__(
        self, request: Request, layer: Layer, scaling: Scaling | None, straight: int, size: int = 4
    ) -> None:
        super().__init__(request, scaling)
        self.layer = layer
        self.straight = straight
        self.size = size  # pixels of a block

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

    def together(self, part: Part, size: int) -> int:
        """Pairs of channels of a block of `size` pixels: few pixels leave registers for more."""
        if self.request.target.reserved:
            return 1  # more take every register
        words = self.layer.taps[0] * self.layer.words
        words += 2 * self.scaling.words if self.scaling is not None else 0
        for pairs in {2: (2,), 1: (4, 2)}.get(size, ()):
            near = words * (pairs - 1) <= _FAR
            if part.pairs == 1 and part.blocks % pairs == 0 and near:
                return pairs
        return 1

    def in_blocks(self, count: int, most: int) -> Blocks:
        """`count` pixels in blocks of about `most`. Blocks of two are as good as larger ones where
        they take twice as many channels."""
        reach = most_pixels(self.layer.strides[1] * self.layer.depth)
        most = min(most, reach)
        if most > self.size == 2 and self.together(self.parts[0], 2) > 1:
            return twos_of(count)
        return blocks_of(count, most)

    def sums(
        self, size: int, turns: int, distances: tuple[int, int], y_strides: tuple[int, int],
        x: ir.Expr, y: ir.Expr,
    ) -> ir.Block:  # fmt: skip
        """All channels of `turns` blocks of `size` pixels at x of the scratch buffer.
        distances: elements there from pixel to pixel and from run to run."""
        layer = self.layer
        out: list[ir.Stmt] = []
        for part in self.parts:
            pairs = self.together(part, size)
            made = Gemm(
                pairs, size, distances[0], layer.taps[0], distances[1], layer.words,
                part.blocks // pairs, *y_strides, self.scaling, part.pairs == 0, self.straight,
                turns, size * distances[0], size * y_strides[0], pairs > 1,
            )  # fmt: skip
            out += self.use_gemm(made, part, x, y)
        return tuple(out)


class PixelWriter(Convolution):
    """A convolution of one tap: pixels in a line, some at a time; most: bytes that they may take
    once they are widened, if those are enough for two; 0: one pixel."""

    def __init__(
        self, request: Request, layer: Layer, scaling: Scaling, straight: int, size: int, most: int
    ) -> None:
        super().__init__(request, layer, scaling, straight, size)
        fit = most // (4 * layer.words)  # pixels
        self.block = 4
        if request.small:
            fit = max(fit, 2) if most else 1
            self.block = min(fit, 4)
        self.room = fit

    @cached_property
    def form(self) -> tuple[tuple[int, int, int], ...]:
        """The line as (pixels of a block, blocks that are widened together, number of those)."""
        layer = self.layer
        found = []
        for size, number in self.in_blocks(layer.out_height * layer.out_width, self.block):
            together = min(max(self.room // size, 1), number)
            turns = max(t for t in range(1, together + 1) if number % t == 0)
            found.append((size, turns, number // turns))
        return tuple(found)

    def candidate(self) -> Candidate:
        layer = self.layer
        self.streams(order(layer.depth, True), layer.channels, 1, self.parts)
        body: list[ir.Stmt] = []
        start, most = 0, 0
        done: list[int] = []
        for size, turns, number in self.form:
            body += self.some(size, turns, number, start)
            done += [start + (i + 1) * size * turns for i in range(number)]
            start += size * turns * number
            most = max(most, turns * size)
        self.buffer("wide", DType.I16, most * 2 * layer.words)
        found = self.finish("pixels", tuple(body))
        return replace(found, order=tuple((n, n) for n in done)) if self.request.small else found

    def some(self, size: int, turns: int, number: int, start: int) -> ir.Block:
        """`number` times `turns` blocks of `size` pixels, from pixel `start` on."""
        together = size * turns
        block = ir.Var(f"block{start}")
        first = ir.add(ir.mul(block, ir.i32(together)), ir.i32(start))
        y_strides = self.y_strides
        y = ir.mul(first, ir.i32(y_strides[0]))
        sums = self.sums(size, turns, (2 * self.layer.words, 0), y_strides, ir.i32(0), y)
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


# (pixels of a block, number of blocks, oh, their first pixel, the same from the strip's first on)
# -> statements.
_Outputs = Callable[[int, int, ir.Expr, ir.Expr, int], ir.Block]


class RowWriter(Convolution):
    """Any other: rows with margins, in strips; limit: bytes that a strip may take once it is
    widened, if those are enough for two pixels; 0: one pixel."""

    def __init__(
        self, request: Request, layer: Layer, scaling: Scaling | None, straight: int, size: int,
        limit: int | None,
    ) -> None:  # fmt: skip
        super().__init__(request, layer, scaling, straight, size)
        self.limit = limit

    @cached_property
    def form(self) -> tuple[Strip, ...]:
        layer = self.layer
        if self.limit is None:
            return strips(layer, self.in_blocks(layer.out_width, 4), None)
        if self.limit == 0:
            return strips(layer, ((1, layer.out_width),), 1)
        row = self.limit // (2 * layer.taps[0]) - 3 * (layer.run % 2)
        most = max(row // layer.depth, columns_of(layer, 2))
        size = 4 if columns_of(layer, 4) <= most else 2
        return strips(layer, self.in_blocks(layer.out_width, size), most)

    def candidate(self) -> Candidate:
        if self.scaling is None or len(self.group.nodes) > 2:
            found = self.with_epilogue()
        else:
            found = self.finish("rows", self.rows(self.scaled_block), {0: self.x_shape})
        if self.layer.out_height > 1:
            return found
        return replace(found, order=strip_order(self.layer, self.form, self.layer.out_width))

    def with_epilogue(self) -> Candidate:
        """Sums, or the int8 values made of them, to scratch memory, from where the operators that
        are fused take them."""
        value = self.group.nodes[0 if self.scaling is None else 1].outputs[0]
        self.target = "results"
        made = self.built(self.epilogue, value)
        return self.finish_built("rows", made, {0: self.x_shape})

    @property
    def alone(self) -> bool:
        """Whether margins stay what they are from row to row."""
        return len(self.form) == 1 and self.form[0].number == 1

    @property
    def row(self) -> int:
        """Elements of a row in the scratch buffer: even, and readable behind an odd run."""
        count = max(strip.columns for strip in self.form) * self.layer.depth
        return count + count % 2 + (2 if self.layer.run % 2 else 0)

    def rows(self, outputs: _Outputs) -> ir.Block:
        """All output rows."""
        layer = self.layer
        self.streams(order(layer.run, self.paired), layer.channels, layer.taps[0], self.parts)
        self.buffer("wide", DType.I16, layer.taps[0] * self.row)
        turn = ir.Var(self.fresh("oh"))
        # A loop of one turn would hide from Tensorize that a row is in the image.
        oh: ir.Expr = turn if layer.out_height > 1 else ir.i32(0)
        body = tuple(s for strip in self.form for s in self.strip(strip, oh, outputs))
        before = self.margins(self.form[0], self.row) if self.alone else ()
        if layer.out_height == 1:
            return (*before, *body)
        return (*before, ir.Loop(turn.name, layer.out_height, body))

    def strip(self, strip: Strip, oh: ir.Expr, outputs: _Outputs) -> ir.Block:
        """The strips that are alike, of one row."""
        turn = ir.Var(self.fresh("strip"))
        number: ir.Expr = turn if strip.number > 1 else ir.i32(0)
        first = ir.add(ir.mul(number, ir.i32(strip.pixels)), ir.i32(strip.start))
        body: list[ir.Stmt] = []
        if not self.alone:
            body += self.margins(strip, strip.columns * self.layer.depth)
        body += self.filled(strip, oh, first)
        offset = 0
        for size, count in strip.blocks:
            body += outputs(size, count, oh, ir.add(first, ir.i32(offset)), offset)
            offset += size * count
        return (ir.Loop(turn.name, strip.number, tuple(body)),) if strip.number > 1 else tuple(body)

    def margins(self, strip: Strip, end: int) -> ir.Block:
        """Padding beside the image; end: elements of a row that are to be there."""
        layer = self.layer
        left, inside = strip.lead * layer.depth, strip.inside * layer.depth
        found: list[ir.Stmt] = []
        for start, count in ((0, left), (left + inside, end - left - inside)):
            if count:
                fill = Fill(count, layer.pad_value, layer.taps[0], self.row)
                found += self.use(fill.instruction(), {"y": ("wide", ir.i32(start))})
        return tuple(found)

    @property
    def paired(self) -> bool:
        """Pixels must start where a four does for their elements to be crossed."""
        return self.layer.depth % 4 == 0

    def filled(self, strip: Strip, oh: ir.Expr, first: ir.Expr) -> ir.Block:
        """The rows that a strip of output row `oh` reads, from output `first` on."""
        layer = self.layer
        if not strip.inside:
            return ()
        kh = ir.Var(self.fresh("kh"))
        ih = ir.sub(ir.add(ir.mul(oh, ir.i32(layer.strides[0])), kh), ir.i32(layer.top))
        column = ir.add(ir.mul(first, ir.i32(layer.strides[1])), ir.i32(strip.lead - layer.left))
        inside = strip.inside * layer.depth
        to = ir.add(ir.mul(kh, ir.i32(self.row)), ir.i32(strip.lead * layer.depth))
        fill = self.use_widen(
            Widen(inside, self.paired, self.wide_turn),
            ("x", ih, ir.mul(column, ir.i32(layer.depth))),
            ("wide", to),
        )
        stop = (layer.out_height - 1) * layer.strides[0] + layer.taps[0] - layer.top
        filled = self.if_inside(ih, range(-layer.top, stop), fill, to, inside)
        return (ir.Loop(kh.name, layer.taps[0], filled),)

    @property
    def distances(self) -> tuple[int, int]:
        """Elements of the scratch buffer from pixel to pixel and from row to row."""
        return self.layer.strides[1] * self.layer.depth, self.row

    def scaled_block(
        self, size: int, number: int, oh: ir.Expr, first: ir.Expr, offset: int
    ) -> ir.Block:
        pixel = ir.add(ir.mul(oh, ir.i32(self.layer.out_width)), first)
        y = ir.mul(pixel, ir.i32(self.y_strides[0]))
        x = ir.i32(offset * self.distances[0])
        return self.sums(size, number, self.distances, self.y_strides, x, y)

    def epilogue(self, site: Site) -> ir.Block:
        layer = self.layer
        kind = DType.I32 if self.scaling is None else DType.I8
        largest = max(size for strip in self.form for size, _ in strip.blocks)
        self.buffer("results", kind, largest * layer.channels)

        def outputs(size: int, number: int, oh: ir.Expr, first: ir.Expr, offset: int) -> ir.Block:
            turn = ir.Var(self.fresh("block"))
            before = ir.mul(turn, ir.i32(size))
            x = ir.mul(ir.add(before, ir.i32(offset)), ir.i32(self.distances[0]))
            sums = self.sums(size, 1, self.distances, (layer.channels, 1), x, ir.i32(0))
            p, oc = ir.Var(self.fresh("p")), ir.Var(self.fresh("oc"))
            at = ir.add(ir.mul(p, ir.i32(layer.channels)), oc)
            value: ir.Expr = ir.Load("results", (at,))
            if self.scaling is None and len(site.inputs) > 2:
                value = ir.Bin("+", value, site.inputs[2](oc))
            pixel = ir.add(ir.add(before, first), p)
            stored = site.store((ir.i32(0), oh, pixel, oc), value)
            after = nest((p, oc), (size, layer.channels), stored)
            return (ir.Loop(turn.name, number, (*sums, *after)),)

        return self.rows(outputs)
