"""Pooling, and sums over whole images, of int8 by the micro-kernel `window`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from math import prod

from midge.core.types import DType
from midge.graph.attrs import integer, integers
from midge.graph.ir import Graph, Node
from midge.kernels.arm_dsp.window import MOST_TAPS, Window
from midge.kernels.generic.spans import Span, pool_spans
from midge.loop import ir
from midge.lower import Site, nest
from midge.lower.averages import average
from midge.lower.candidates import TEMPLATES, Candidate, Request, Template
from midge.lower.space import Constraint, Goal, Point, Value
from midge.lower.writer import KernelWriter, Place, in_pieces

_FEW = 64  # channels that are pooled at a time where scratch memory is dear


@dataclass(frozen=True, slots=True)
class Pool:
    """A pooling operator as spans of windows over an image of rows of `width` pixels."""

    width: int
    channels: int
    stride: tuple[int, int]
    rows: tuple[Span, ...]
    columns: tuple[Span, ...]
    out_width: int


def pool_of(graph: Graph, node: Node) -> Pool | None:
    """The pool or sum `node`; None if it does not fit the micro-kernel."""
    x, y = (graph.types[v] for v in (node.inputs[0], node.outputs[0]))
    if x.dtype is not DType.I8 or y.dtype.is_float or x.elements == 0 or x.shape[-1] < 4:
        return None
    if node.op == "sum":
        # All between the leading axes of one and the channels: a row of pixels.
        pixels = prod(x.shape[:-1])
        whole = y.elements == x.shape[-1] and len(x.shape) - 1 not in integers(node.attrs, "axes")
        span = (Span(0, 1, 0, 1),), (Span(0, 1, 0, pixels),)
        return Pool(pixels, x.shape[-1], (1, 1), *span, 1) if whole else None
    (n, _, width, channels), (_, _, ow, _) = x.shape, y.shape
    found = pool_spans(graph, node)
    if n != 1 or found is None:
        return None
    sh, sw = integers(node.attrs, "strides")
    return Pool(width, channels, (sh, sw), *found, ow)


class Windows(Template):
    """int8 images with the channels last; whatever follows is fused.

    form: whether rows of windows go straight to the output, or each through scratch memory.
    channels: at a time, of windows.
    """

    name = "arm_dsp.windows"
    ops = ("avg_pool2d", "max_pool2d", "sum")

    def __init__(self, request: Request, pool: Pool, straight: bool) -> None:
        channels = pool.channels
        parts = [n for n in range(min(_FEW, channels - 1), 3, -1) if channels % n == 0]
        forms = ("rows",) if in_pieces(request) else ("rows", "windows")
        whole = Constraint(
            ("form", "channels"),
            lambda form, n: form == "windows" or n == channels,
            "rows take all channels",
        )
        knobs: dict[str, Sequence[Value]]
        knobs = {"form": forms if straight else ("windows",), "channels": (channels, *parts)}
        super().__init__(self.name, knobs, [whole])
        self.request, self.pool = request, pool

    @classmethod
    def of(cls, request: Request) -> Windows | None:
        node = request.anchor
        pool = pool_of(request.graph, node) if node is not None else None
        if node is None or pool is None or node.inputs[0] in request.layouts:
            return None
        whole = len(request.group.nodes) == 1 and request.in_sequence
        if in_pieces(request) and (node.op != "max_pool2d" or not whole):
            return None
        taps = [r.taps * c.taps for r in pool.rows for c in pool.columns]
        if node.op != "max_pool2d" and max(taps) > MOST_TAPS:
            return None
        return cls(request, pool, node.op == "max_pool2d" and whole)

    def usual(self, goal: Goal) -> Iterator[Point]:
        if goal.optimize == "size":
            return
        form, channels = self.knobs["form"][0], self.knobs["channels"]
        few = self.request.small and form == "windows" and self.pool.channels > _FEW
        yield self.point(form=form, channels=channels[1 if few and len(channels) > 1 else 0])

    def build(self, point: Point) -> Candidate:
        anchor = self.request.anchor
        assert anchor is not None
        writer = _Maxima if anchor.op == "max_pool2d" else _Sums
        return writer(self.request, self.pool, point.number("channels")).candidate(point["form"])


class _Pooling(KernelWriter):
    """What sums and maxima share."""

    def __init__(self, request: Request, pool: Pool, part: int) -> None:
        super().__init__(request)
        self.pool = pool
        self.part = part  # channels at a time, window by window

    def window(self, kind: str, rows: Span, columns: Span, pixels: int) -> Window:
        pool = self.pool
        step, advance = pool.channels, pool.stride[1] * pool.channels
        made = Window(
            "sum" if kind == "sum" else "max", rows.taps, columns.taps, pool.width * step, step,
            step, pixels, advance if pixels > 1 else 0,
        )  # fmt: skip
        if in_pieces(self.request):
            return replace(made, pitch=0, pointers=True, first=columns.start * pool.channels)
        return made

    def place(self, rows: Span, columns: Span, oh: ir.Expr, ow: ir.Expr) -> ir.Expr:
        """The first element of x of window (oh, ow) of the spans."""
        pool = self.pool
        row = ir.add(ir.mul(oh, ir.i32(pool.stride[0])), ir.i32(rows.start))
        column = ir.add(ir.mul(ow, ir.i32(pool.stride[1])), ir.i32(columns.start))
        pixel = ir.add(ir.mul(row, ir.i32(pool.width)), column)
        return ir.mul(pixel, ir.i32(pool.channels))

    def one_by_one(self, kind: str, dtype: DType) -> Candidate:
        """Window by window through scratch memory, from where what follows takes the elements."""
        self.buffer("window", dtype, self.part)
        made = self.built(lambda site: self.windows(kind, site))
        elements = self.graph.types[self.anchor.inputs[0]].elements
        return self.finish_built("windows", made, {0: (elements,)})

    def windows(self, kind: str, site: Site) -> ir.Block:
        body: ir.Block = ()
        for rows in self.pool.rows:
            for columns in self.pool.columns:
                oh, ow, part, c = (ir.Var(self.fresh(n)) for n in ("oh", "ow", "part", "c"))
                start = ir.mul(part, ir.i32(self.part))
                x = ir.add(self.place(rows, columns, oh, ow), start)
                places: dict[str, Place] = {"x": ("x", x), "y": ("window", ir.i32(0))}
                window = replace(self.window(kind, rows, columns, 1), channels=self.part)
                value = self.value(ir.Load("window", (c,)), rows.taps * columns.taps)
                at = (ir.add(oh, ir.i32(rows.first)), ir.add(ow, ir.i32(columns.first)))
                stored = site.store(self.index(at, ir.add(start, c)), value)
                extents = (rows.number, columns.number, self.pool.channels // self.part)
                body += nest((oh, ow, part), extents, (
                    *self.use(window.instruction(), places), *nest((c,), (self.part,), stored),
                ))  # fmt: skip
        return body

    def index(self, at: tuple[ir.Expr, ir.Expr], c: ir.Expr) -> tuple[ir.Expr, ...]:
        """Of an element of the anchor's output."""
        return (ir.i32(0), *at, c)

    def value(self, loaded: ir.Expr, taps: int) -> ir.Expr:
        """The anchor's result, in the type of its elements, from what the micro-kernel gives."""
        return loaded


class _Maxima(_Pooling):
    def candidate(self, form: Value) -> Candidate:
        if form == "windows":
            return self.one_by_one("max", DType.I8)
        body: ir.Block = ()
        for rows in self.pool.rows:
            for columns in self.pool.columns:
                oh = ir.Var(self.fresh("oh"))
                first = ir.mul(ir.add(oh, ir.i32(rows.first)), ir.i32(self.pool.out_width))
                y = ir.mul(ir.add(first, ir.i32(columns.first)), ir.i32(self.pool.channels))
                window = self.window("max", rows, columns, columns.number).instruction()
                places: dict[str, Place] = {"y": ("y", y)}
                places["x"] = ("x", self.place(rows, columns, oh, ir.i32(0)))
                if in_pieces(self.request):
                    row = ir.mul(oh, ir.i32(self.pool.stride[0]))
                    places["x"] = ("x", ir.add(row, ir.i32(rows.start)), ir.i32(0))
                body += nest((oh,), (rows.number,), self.use(window, places))
        x = self.graph.types[self.anchor.inputs[0]].shape
        shapes = {0: (x[1], x[2] * x[3])} if in_pieces(self.request) else {}
        return self.finish("rows", body, shapes)


class _Sums(_Pooling):
    def candidate(self, form: Value) -> Candidate:
        return self.one_by_one("sum", DType.I32)

    def index(self, at: tuple[ir.Expr, ir.Expr], c: ir.Expr) -> tuple[ir.Expr, ...]:
        rank = len(self.graph.types[self.anchor.outputs[0]].shape)
        if self.anchor.op == "sum":
            return (*[ir.i32(0)] * (rank - 1), c)
        return super().index(at, c)

    def value(self, loaded: ir.Expr, taps: int) -> ir.Expr:
        if self.anchor.op == "sum":
            zero = integer(self.anchor.attrs, "x_zero", 0)
            return ir.sub(loaded, ir.i32(taps * zero))
        return ir.cast(DType.I8, average(loaded, taps, DType.I8), DType.I32)


TEMPLATES.add(Windows.name, Windows)
