"""Float convolutions and fully connected layers by the micro-kernel `products`.

The unit is a few pixels of an output row and all channels. The sums stand in scratch memory and
take one row of the window after the other; the operators that follow take them from there, with the
bias. Pixels whose windows reach over an edge add the part of the row that is inside, so
nothing is copied. A convolution of one tap is a single row of pixels, and so is a matrix.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from midge.core.types import DType
from midge.graph.ir import Node
from midge.kernels.arm.geometry import Layer, layer_of
from midge.kernels.arm_fpu.products import Products
from midge.loop import ir
from midge.lower import Site, nest
from midge.lower.candidates import TEMPLATES, Candidate, Request, Template
from midge.lower.space import Goal, Point
from midge.lower.writer import KernelWriter, Place, in_pieces

_PIXELS, _CHANNELS, _ROWS = 4, 4, 8
_MOST_BORDER = 6  # columns; each is an instruction of its own
_UNFUSED = ("cortex-m4", "cortex-m33")  # a fused multiply-add takes longer than the two


def _inside(layer: Layer, column: int) -> range:
    """The taps of an output column's rows that are in the image."""
    start = column * layer.strides[1] - layer.left
    return range(max(-start, 0), min(layer.taps[1], layer.width - start))


def _spans(layer: Layer) -> Iterator[tuple[int, int, int]]:
    """All columns as (first, pixels of a block, blocks); whole windows are taken together."""
    columns = range(layer.out_width)
    whole = [c for c in columns if len(_inside(layer, c)) == layer.taps[1]]
    first, stop = (whole[0], whole[-1] + 1) if whole else (layer.out_width, layer.out_width)
    yield from ((c, 1, 1) for c in range(first))
    blocks, left = divmod(stop - first, _PIXELS)
    if blocks:
        yield first, _PIXELS, blocks
    if left:
        yield stop - left, left, 1
    yield from ((c, 1, 1) for c in range(stop, layer.out_width))


@dataclass(frozen=True, slots=True)
class _Part:
    """`blocks` blocks of `size` channels from `start` on."""

    start: int
    size: int
    blocks: int


def _parts(channels: int, size: int) -> list[_Part]:
    blocks, left = divmod(channels, size)
    parts = [_Part(0, size, blocks), _Part(channels - left, left, 1)]
    return [p for p in parts if p.size and p.blocks]


class Sums(Template):
    """Convolutions of one image, with constant weights, without dilation or groups; fully connected
    layers, rows of the first operand as pixels.

    channels: of a block.  products: whether they are rounded before they are added.  straight:
    steps written out.
    """

    name = "arm_fpu.sums"
    ops = ("conv2d", "dense")

    def __init__(self, request: Request, layer: Layer, most: int) -> None:
        kinds = ("rounded",) if request.exact else ("fused", "rounded")
        channels = tuple(dict.fromkeys((most, _CHANNELS, 2, 1)))
        straight = request.straight((8, 4, 2, 1), 2)
        super().__init__(self.name, {"channels": channels, "products": kinds, "straight": straight})
        self.request, self.layer, self.most = request, layer, most

    @classmethod
    def of(cls, request: Request) -> Sums | None:
        node = request.group.anchor
        assert node is not None
        if not _usable(request):
            return None
        if node.op == "conv2d":
            layer = _layer(request, node)
            return None if layer is None else cls(request, layer, _CHANNELS)
        if in_pieces(request):
            return None
        x, w = (request.graph.types[v] for v in node.inputs[:2])
        (m, depth), n = x.shape, w.shape[0]
        layer = Layer(1, m, depth, 1, m, n, (1, 1), (1, 1), 0, 0, 0)
        return cls(request, layer, _ROWS if m == 1 else _CHANNELS)

    def usual(self, goal: Goal) -> Iterator[Point]:
        fused = self.request.target.cpu not in _UNFUSED and not self.request.exact
        first, other = ("fused", "rounded") if fused else ("rounded", "fused")
        straight = self.request.straight(goal.pick((8, 4), (4, 2), (2, 1)), 2)
        for n in straight:
            yield self.point(channels=self.most, products=first, straight=n)
        if not self.request.exact:
            yield self.point(channels=self.most, products=other, straight=straight[0])

    def build(self, point: Point) -> Candidate:
        fused, channels = point["products"] == "fused", point.number("channels")
        return _Writer(
            self.request, self.layer, channels, fused, point.number("straight")
        ).candidate()


def _usable(request: Request) -> bool:
    graph, node = request.graph, request.anchor
    if node is None:
        return False
    x, w = (graph.types[v] for v in node.inputs[:2])
    floats = x.dtype is DType.F32 and w.dtype is DType.F32
    if not floats:
        return False
    constant = node.inputs[1] in graph.consts and node.inputs[0] not in graph.consts
    return constant and 0 not in (*x.shape, *w.shape) and node.inputs[0] not in request.layouts


def _layer(request: Request, node: Node) -> Layer | None:
    layer = layer_of(request.graph, node)
    if layer is None or (layer.padded and layer.pad_value != 0):
        return None
    if layer.pointwise and layer.width % _PIXELS and not in_pieces(request):
        pixels = layer.height * layer.width
        layer = replace(layer, height=1, width=pixels, out_height=1, out_width=pixels)
    border = sum(len(_inside(layer, c)) < layer.taps[1] for c in range(layer.out_width))
    return layer if border <= _MOST_BORDER else None


class _Writer(KernelWriter):
    """A layer as a kernel."""

    def __init__(
        self, request: Request, layer: Layer, channels: int, fused: bool, straight: int
    ) -> None:
        super().__init__(request)
        self.layer = layer
        self.parts = _parts(layer.channels, channels)
        self.fused, self.straight = fused, straight

    def candidate(self) -> Candidate:
        made = self.built(self.body, self.anchor.outputs[0])
        layer = self.layer
        name = "fused" if self.fused else "rounded"
        return self.finish_built(name, made, {0: (layer.height, layer.width * layer.depth)})

    def body(self, site: Site) -> ir.Block:
        layer = self.layer
        self.pack()
        most = max(size for _, size, _ in _spans(layer))
        self.buffer("sums", DType.F32, most * layer.channels)
        oh = ir.Var(self.fresh("oh"))
        rows: list[ir.Stmt] = []
        for first, size, count in _spans(layer):
            turn = ir.Var(self.fresh("block"))
            column = ir.add(ir.mul(turn, ir.i32(size)), ir.i32(first))
            rows.append(ir.Loop(turn.name, count, self.block(site, oh, column, first, size)))
        return (ir.Loop(oh.name, layer.out_height, tuple(rows)),)

    def pack(self) -> None:
        """Weights [channels, KH, KW * IC] as [KH, block, KW * IC, channel of the block]."""
        value = self.anchor.inputs[1]
        w = self.graph.consts[value].reshape(self.layer.channels, self.layer.taps[0], -1)
        for i, part in enumerate(self.parts):
            own = w[part.start : part.start + part.blocks * part.size]
            packed = own.reshape(part.blocks, part.size, *w.shape[1:]).transpose(2, 0, 3, 1)
            label = f"{value} {part.start}:{part.start + len(own)} by {part.size}"
            self.constant(f"w{i or ''}", label, np.ascontiguousarray(packed).reshape(-1))

    def block(self, site: Site, oh: ir.Var, column: ir.Expr, first: int, size: int) -> ir.Block:
        """`size` pixels from `column` on, which have the taps of column `first`."""
        layer = self.layer
        p, oc, q, c = (ir.Var(self.fresh(v)) for v in ("p", "oc", "p", "oc"))
        init = ir.Store("sums", (_at(p, layer.channels, oc),), ir.f32(0))
        value: ir.Expr = ir.Load("sums", (_at(q, layer.channels, c),))
        if len(site.inputs) > 2:
            value = ir.Bin("+", value, site.inputs[2].as_type(DType.F32, c))
        store = site.store(self.place(oh, ir.add(column, q), c), value)
        extents = (size, layer.channels)
        sums = self.sums(oh, column, size, _inside(layer, first))
        return (*nest((p, oc), extents, (init,)), *sums, *nest((q, c), extents, store))

    def place(self, oh: ir.Expr, column: ir.Expr, oc: ir.Expr) -> tuple[ir.Expr, ...]:
        """The index of a result."""
        y = self.graph.types[self.anchor.outputs[0]].shape
        if len(y) == 2:
            return column, oc
        if self.layer.out_width == y[2]:
            return ir.i32(0), oh, column, oc
        width = ir.i32(y[2])
        return ir.i32(0), ir.Bin("/", column, width), ir.Bin("%", column, width), oc

    def sums(self, oh: ir.Var, column: ir.Expr, size: int, taps: range) -> ir.Block:
        """The rows of the window, as far as they are in the image."""
        layer = self.layer
        if not taps:
            return ()
        kh = ir.Var(self.fresh("kh"))
        ih = ir.sub(ir.add(ir.mul(oh, ir.i32(layer.strides[0])), kh), ir.i32(layer.top))
        left = ir.sub(ir.mul(column, ir.i32(layer.strides[1])), ir.i32(layer.left - taps.start))
        at = ir.mul(left, ir.i32(layer.depth))
        row = tuple(s for i in range(len(self.parts)) for s in self.row(i, kh, ih, at, size, taps))
        last = (layer.out_height - 1) * layer.strides[0] + layer.taps[0] - layer.top
        if layer.top > 0 or last > layer.height:
            row = (ir.Guard(ir.in_range(ih, layer.height), row),)
        return (ir.Loop(kh.name, layer.taps[0], row),)

    def row(
        self, which: int, kh: ir.Var, ih: ir.Expr, at: ir.Expr, size: int, taps: range
    ) -> ir.Block:
        """One row of the window and the channels of a part; at: where in row `ih` of the image."""
        layer, part = self.layer, self.parts[which]
        run, steps = layer.taps[1] * layer.depth, len(taps) * layer.depth
        skip = (run - steps) * part.size
        made = Products(
            size, part.size, part.blocks, steps, skip, layer.strides[1] * layer.depth,
            layer.channels, self.fused, self.straight,
        )  # fmt: skip
        start = ir.mul(kh, ir.i32(part.blocks * run * part.size))
        places: dict[str, Place] = {
            "w": (f"w{which or ''}", ir.add(start, ir.i32(taps.start * layer.depth * part.size))),
            "x": ("x", ih, at),
            "y": ("sums", ir.i32(part.start)),
        }
        return self.use(made.instruction(), places)


def _at(p: ir.Expr, channels: int, oc: ir.Expr) -> ir.Expr:
    return ir.add(ir.mul(p, ir.i32(channels)), oc)


TEMPLATES.add(Sums.name, Sums)
