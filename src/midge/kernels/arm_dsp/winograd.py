"""3x3 convolutions of stride 1 by Winograd's F(2x2, 3x3), exact in integers.

With d a tile of 4 x 4 inputs, g the window and y the 2 x 2 outputs (Lavin and Gray,
arXiv:1509.09308, with their G doubled so that it is integer):

    4 y = A' [(2G g 2G') * (B' d B)] A     ' is "transposed", * element by element

16 products instead of 36. U = 2G g 2G' is made here, |U| <= 1152; `winograd_tiles` makes V = B' d B
of a few tiles side by side, |V| <= 512; `winograd_sums` does the rest. Four times the sum is what
scaling shifts less far. The price is flash: 16 int16 for 9 int8.

Tiles are taken from a patch of the image, widened and with the zero point around the image, so
that border and interior are the same code.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import groupby

import numpy as np

from midge.core.sums import magnitudes
from midge.core.types import Array, DType
from midge.kernels.arm.geometry import Layer
from midge.kernels.arm_dsp import halves
from midge.kernels.arm_dsp.geometry import int8_layer
from midge.kernels.arm_dsp.kernel import Part, parts_of
from midge.kernels.arm_dsp.rows import Convolution
from midge.kernels.arm_dsp.scaling import Scaling, constants_fit, constants_of, scaling_of
from midge.kernels.arm_dsp.strips import blocks_of
from midge.kernels.arm_dsp.widen import Widen, order
from midge.kernels.arm_dsp.winograd_sums import TileSums
from midge.kernels.arm_dsp.winograd_tiles import POSITIONS, Tiles
from midge.loop import ir
from midge.lower import Site, nest
from midge.lower.candidates import TEMPLATES, Candidate, Request, Template
from midge.lower.space import Constraint, Goal, Point
from midge.lower.writer import Place

_G = np.array([[2, 0, 0], [1, 1, 1], [1, -1, 1], [0, 0, 2]])  # doubled
_MOST_V = 512
_MOST_SUMS = 8  # of tiles and channels
# Bytes; two tiles at a time take little more than half of what four take, and hardly longer.
_MOST_SCRATCH = 6 << 10


class Winograd(Template):
    """int8 convolutions with constant 3x3 windows of stride 1, whatever follows them; outputs of at
    least 2 x 2.

    tiles, channels: of a block of sums.  straight: steps written out.
    """

    name = "arm_dsp.winograd"
    ops = ("conv2d",)
    priority = 30

    def __init__(self, request: Request, layer: Layer, scaling: Scaling | None) -> None:
        self.request, self.layer, self.scaling = request, layer, scaling
        most = {n: self.writer(n, 2, 8).widest for n in (1, 2, 4)}
        fit = Constraint(
            ("tiles", "channels"),
            lambda tiles, channels: most[tiles] * channels <= _MOST_SUMS,
            "the sums of a block fit the registers",
        )
        straight = request.straight((32, 16, 8))
        knobs = {"tiles": (1, 2, 4), "channels": (4, 2), "straight": straight}
        super().__init__(self.name, knobs, [fit])

    @classmethod
    def of(cls, request: Request) -> Winograd | None:
        layer = int8_layer(request)
        if layer is None or (layer.taps, layer.strides) != ((3, 3), (1, 1)):
            return None
        if min(layer.out_height, layer.out_width) < 2:
            return None
        graph, group = request.graph, request.group
        w = graph.consts[group.nodes[0].inputs[1]]
        if not sums_fit(transformed(w)):
            return None
        scaling = scaling_of(graph, group)
        sums = 128 * magnitudes(w, tuple(range(1, w.ndim)))
        if scaling is not None and not constants_fit(graph, group, scaling, sums):
            scaling = None
        return cls(request, layer, scaling)

    def usual(self, goal: Goal) -> Iterator[Point]:
        straight = self.request.straight(goal.pick((32, 16), (), ()))
        sizes: tuple[int, ...] = (4 if self.scratch_of_four <= _MOST_SCRATCH else 2,)
        if self.request.small:
            count = (self.layer.out_width + 1) // 2
            sizes, straight = tuple(n for n in (1, 2, 4) if n // 2 < count), straight[:1]
        for tiles in sizes:
            channels = 2 if self.writer(tiles, 2, 8).widest > 2 else 4
            for n in straight:
                yield self.point(tiles=tiles, channels=channels, straight=n)

    @property
    def scratch_of_four(self) -> int:
        """Bytes that four tiles at a time take."""
        depth = self.layer.depth + self.layer.depth % 2
        return 2 * 4 * 10 * depth + 4 * 16 * 4 * depth // 2 + 4 * 16 * 8

    def writer(self, tiles: int, channels: int, straight: int) -> _Winograd:
        return _Winograd(self.request, self.layer, self.scaling, tiles, channels, straight)

    def build(self, point: Point) -> Candidate:
        return self.writer(*(point.number(k) for k in self.knobs)).candidate()


def transformed(w: Array) -> Array:
    """U of windows [channels, 3, 3, depth] (i8): i64 [channels, 16, depth]."""
    u = np.einsum("ik,oklc,jl->oijc", _G, w.astype(np.int64), _G)
    return np.stack([p.sign * u[:, p.row, p.column] for p in POSITIONS], axis=1)


def sums_fit(u: Array) -> bool:
    """Whether twice every running sum is a word."""
    return bool((2 * _MOST_V * np.abs(u).sum((1, 2))).max(initial=0) < 1 << 31)


@dataclass(frozen=True, slots=True)
class _Strip:
    """`number` groups of `tiles` tiles from tile `start` of a row on, all placed alike: the first
    `lead` columns of their patches are left of the image, the next `inside` columns in it.
    cut: the last tile has one column of outputs only."""

    start: int
    number: int
    tiles: int
    lead: int
    inside: int
    cut: bool

    @property
    def columns(self) -> int:
        """Of the patch."""
        return 2 * self.tiles + 2


# (strip, oh, its first tile, first of the two rows of outputs that counts) -> what is done with V.
Outputs = Callable[[_Strip, ir.Expr, ir.Expr, int], ir.Block]


class _Winograd(Convolution):
    """Row by row of tiles, `tiles` at a time, sums of `block` channels."""

    def __init__(
        self,
        request: Request,
        layer: Layer,
        scaling: Scaling | None,
        tiles: int,
        block: int,
        straight: int,
    ) -> None:
        super().__init__(request, layer, scaling, straight)
        self.tiles, self.block = tiles, block

    def candidate(self) -> Candidate:
        self.pack()
        most = self.widest
        words = self.depth // 2
        self.buffer("wide", DType.I16, 4 * (2 * most + 2) * self.depth)
        self.buffer("v", DType.I32, (words + self.block) * len(POSITIONS) * most)
        shapes = {0: self.x_shape}
        if self.scaling is not None and len(self.group.nodes) == 2:
            return self.finish("winograd", self.rows(self.stored), shapes)
        self.target = "results"
        kind = DType.I32 if self.scaling is None else DType.I8
        self.buffer("results", kind, 4 * most * self.layer.channels)
        value = self.group.nodes[0 if self.scaling is None else 1].outputs[0]
        made = self.built(self.epilogue, value)
        return self.finish_built("winograd", made, shapes)

    @property
    def depth(self) -> int:
        """Channels of a pixel of the patch: words of two."""
        return self.layer.depth + self.layer.depth % 2

    @property
    def widest(self) -> int:
        """Tiles of the largest block."""
        return max(s.tiles for s in self.strips)

    @property
    def parts(self) -> tuple[Part, ...]:
        return parts_of(self.layer.channels, self.block // 2)

    @property
    def strips(self) -> tuple[_Strip, ...]:
        """A row of tiles."""
        made = []
        for _, same in groupby(self.groups(), _key):
            first, *others = same
            made.append(_Strip(first.start, 1 + len(others), *_key(first)))
        return tuple(made)

    def groups(self) -> Iterator[_Strip]:
        layer = self.layer
        count, most = (layer.out_width + 1) // 2, self.tiles
        sizes = blocks_of(count) if most == 4 else ((most, count // most), (1, count % most))
        start = 0
        for tiles, number in sizes:
            for _ in range(number):
                first = 2 * start - layer.left
                low, high = max(first, 0), min(first + 2 * tiles + 2, layer.width)
                cut = 2 * (start + tiles) > layer.out_width
                yield _Strip(start, 1, tiles, low - first, max(high - low, 0), cut)
                start += tiles

    def pack(self) -> None:
        """Parameter w of each part: U, and what scales the sums."""
        layer = self.layer
        values = self.anchor.inputs[1:]
        if self.scaling is not None:
            values = (*values, *self.group.nodes[1].inputs[1:])
        u = transformed(self.graph.consts[values[0]])[:, :, order(layer.depth, self.paired)]
        u = np.pad(u, ((0, 0), (0, 0), (0, layer.depth % 2)))
        words = halves.pack(u[:, :, 0::2], u[:, :, 1::2])  # [channels, 16, words]
        for part in self.parts:
            mine = words[part.start : part.stop]
            mine = mine.reshape(part.blocks, -1, *mine.shape[1:]).transpose(0, 2, 3, 1)
            packed = mine.reshape(part.blocks, -1)
            if self.scaling is not None:
                q = constants_of(self.graph, self.group, layer.channels)[part.start : part.stop]
                packed = np.concatenate([packed, q.reshape(part.blocks, -1)], axis=1)
            label = f"{' '.join(values)} {part.start}:{part.stop} winograd by {part.pairs}"
            self.constant(f"w{part.suffix}", label, packed.reshape(-1))

    @property
    def paired(self) -> bool:
        return self.layer.depth % 4 == 0

    def rows(self, outputs: Outputs) -> ir.Block:
        """All rows of tiles. With an odd height the last one starts a row early."""
        height = self.layer.out_height

        def row(number: ir.Expr) -> ir.Block:
            return self.row(ir.mul(number, ir.i32(2)), range(height // 2 * 2 - 1), 0, outputs)

        found = [*self.turns("row", height // 2, row)]
        if height % 2:
            last = height - 2
            found += self.row(ir.i32(last), range(last, last + 1), 1, outputs)
        if self.request.small:
            return tuple(found)
        most = max(s.columns for s in self.strips)
        return (*self.blank(ir.i32(0), 4 * most * self.depth), *found)

    def row(self, oh: ir.Expr, among: range, first_row: int, outputs: Outputs) -> ir.Block:
        """One row of tiles, its outputs from row oh on, which is one of `among`."""
        found: list[ir.Stmt] = []
        for strip in self.strips:

            def group(number: ir.Expr, strip: _Strip = strip) -> ir.Block:
                tile = ir.add(ir.mul(number, ir.i32(strip.tiles)), ir.i32(strip.start))
                kernel = Tiles(strip.tiles, self.depth).instruction()
                zero = ir.i32(0)
                return (
                    *self.patch(strip, oh, among, tile),
                    *self.use(kernel, {"x": ("wide", zero), "v": ("v", zero)}),
                    *outputs(strip, oh, tile, first_row),
                )

            found += self.turns("group", strip.number, group)
        return tuple(found)

    def turns(self, name: str, count: int, body: Callable[[ir.Expr], ir.Block]) -> ir.Block:
        """`body` of each of 0..count - 1."""
        if count == 1:
            return body(ir.i32(0))
        turn = ir.Var(self.fresh(name))
        return (ir.Loop(turn.name, count, body(turn)),)

    def patch(self, strip: _Strip, oh: ir.Expr, among: range, tile: ir.Expr) -> ir.Block:
        """The four rows that a group of tiles reads."""
        layer = self.layer
        kh = ir.Var(self.fresh("kh"))
        ih = ir.sub(ir.add(oh, kh), ir.i32(layer.top))
        start = ir.mul(kh, ir.i32(strip.columns * self.depth))
        column = ir.add(ir.mul(tile, ir.i32(2)), ir.i32(strip.lead - layer.left))
        to = ir.add(start, ir.i32(strip.lead * self.depth))
        if not strip.inside:
            return self.blank(ir.i32(0), 4 * strip.columns * self.depth)
        # Where this strip has its margins, others have left pixels; in a band nothing is there yet.
        mixed = len(self.strips) > 1 or self.request.small
        row = self.margins(strip, start) if mixed else []
        row += self.widened(strip, ih, column, to)
        rows = range(among.start - layer.top, among.stop + 3 - layer.top)
        outside = (start, strip.columns) if mixed else (to, strip.inside)
        body = self.if_inside(ih, rows, tuple(row), outside[0], outside[1] * self.depth)
        return (ir.Loop(kh.name, 4, body),)

    def margins(self, strip: _Strip, start: ir.Expr) -> list[ir.Stmt]:
        """What lies beside the image in a row of the patch."""
        right = strip.lead + strip.inside
        found: list[ir.Stmt] = []
        for first, count in ((0, strip.lead), (right, strip.columns - right)):
            if count:
                at = ir.add(start, ir.i32(first * self.depth))
                found += self.blank(at, count * self.depth)
        return found

    def widened(self, strip: _Strip, ih: ir.Expr, column: ir.Expr, to: ir.Expr) -> ir.Block:
        """A row of the image, from a column on, in the patch."""
        depth = self.layer.depth
        x = ir.mul(column, ir.i32(depth))
        if depth == self.depth:
            whole = Widen(strip.inside * depth, self.paired, self.wide_turn)
            return self.use_widen(whole, ("x", ih, x), ("wide", to))
        pixel = ir.Var(self.fresh("pixel"))
        x = ir.add(x, ir.mul(pixel, ir.i32(depth)))
        to = ir.add(to, ir.mul(pixel, ir.i32(self.depth)))
        one = self.use_widen(Widen(depth, False), ("x", ih, x), ("wide", to))
        return (ir.Loop(pixel.name, strip.inside, one),)

    def results(self, strip: _Strip, y: ir.Expr, y_strides: tuple[int, int, int]) -> ir.Block:
        """All channels of a group of tiles, its first output at `y`."""
        found: list[ir.Stmt] = []
        for part in self.parts:
            channels = max(2 * part.pairs, 1)
            kernel = TileSums(
                strip.tiles, self.depth // 2, channels, part.blocks, *y_strides, self.scaling,
                strip.cut, self.straight,
            )  # fmt: skip
            at = ir.add(y, ir.i32(part.start * y_strides[2]))
            places: dict[str, Place] = {
                "w": (f"w{part.suffix}", ir.i32(0)),
                "v": ("v", ir.i32(0)),
                "y": (self.target, at),
            }
            found += self.use(kernel.instruction(), places)
        return tuple(found)

    def stored(self, strip: _Strip, oh: ir.Expr, tile: ir.Expr, _: int) -> ir.Block:
        """Results to the output."""
        width = self.layer.out_width
        pixel, channel = self.y_strides
        column = ir.mul(tile, ir.i32(2))
        y = ir.mul(ir.add(ir.mul(oh, ir.i32(width)), column), ir.i32(pixel))
        return self.results(strip, y, (width * pixel, pixel, channel))

    def epilogue(self, site: Site) -> ir.Block:
        """Results to scratch memory, from where the operators that follow take them."""
        channels = self.layer.channels

        def outputs(strip: _Strip, oh: ir.Expr, tile: ir.Expr, first_row: int) -> ir.Block:
            columns = 2 * strip.tiles
            results = self.results(strip, ir.i32(0), (columns * channels, channels, 1))
            r, p, oc = (ir.Var(self.fresh(n)) for n in ("r", "p", "oc"))
            row = ir.add(r, ir.i32(first_row))
            pixel = ir.add(ir.mul(row, ir.i32(columns)), p)
            value: ir.Expr = ir.Load("results", (ir.add(ir.mul(pixel, ir.i32(channels)), oc),))
            if self.scaling is None and len(site.inputs) > 2:
                value = ir.Bin("+", value, site.inputs[2](oc))
            column = ir.add(ir.mul(tile, ir.i32(2)), p)
            stored = site.store((ir.i32(0), ir.add(oh, row), column, oc), value)
            sizes = (2 - first_row, columns - strip.cut, channels)
            return (*results, *nest((r, p, oc), sizes, stored))

        return self.rows(outputs)


def _key(s: _Strip) -> tuple[int, int, int, bool]:
    """What groups of one strip have in common."""
    return s.tiles, s.lead, s.inside, s.cut


TEMPLATES.add(Winograd.name, Winograd)
