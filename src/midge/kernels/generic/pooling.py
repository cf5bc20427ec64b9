"""Pooling without tests of the border.

Inside a span, a few neighbouring channels stay in registers and the taps of a window are loops
around them; not on Armv6-M, which has too few registers. The best of 1, 2, 4 and 8 channels on
Cortex-M3. Windows without padding gain nothing from either.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

from midge.graph.attrs import integers
from midge.kernels.generic.blocks import FEW_REGISTERS
from midge.kernels.generic.spans import Span, pool_spans
from midge.kernels.generic.windows import border
from midge.loop import ir
from midge.loop.schedule import Peel, Reorder, Split, Step, Unroll
from midge.lower import Local, Site, arithmetic, nest
from midge.lower.averages import average
from midge.lower.build import build
from midge.lower.candidates import PLAIN, TEMPLATES, Candidate, Request, Template
from midge.lower.space import Goal, Point

_CHANNELS = 4


def _block(channel: str, taps: tuple[str, str], count: int) -> tuple[Step, ...]:
    """The loop over channels in blocks inside the loops over taps."""
    inner = f"{channel}_i"
    return (Split(channel, count), Reorder((*taps, inner)), Unroll(inner))


class Spans(Template):
    """A pool with padding, span by span.

    channels: that stay in registers.  taps: whether the loops over them are written out.
    """

    name = "generic.spans"
    ops = ("avg_pool2d", "max_pool2d")
    priority = 10

    def __init__(self, request: Request, found: tuple[tuple[Span, ...], tuple[Span, ...]]) -> None:
        node = request.group.anchor
        assert node is not None
        channels = request.graph.types[node.outputs[0]].shape[3]
        few = FEW_REGISTERS in request.target.features
        able = [n for n in (2, 4, 8) if not few and channels % n == 0]
        super().__init__(self.name, {"channels": (1, *able), "taps": (0, 1)})
        self.request, self.node, self.found = request, node, found

    @classmethod
    def of(cls, request: Request) -> Spans | None:
        assert request.group.anchor is not None
        found = pool_spans(request.graph, request.group.anchor)
        if found is None or all(len(s) == 1 for s in found):
            return None
        return cls(request, found)

    def usual(self, goal: Goal) -> Iterator[Point]:
        if goal.optimize != "size":
            yield from (
                self.point(channels=n, taps=0)
                for n in (_CHANNELS, 1)
                if n in self.knobs["channels"]
            )

    def build(self, point: Point) -> Candidate:
        loops: list[tuple[str, tuple[str, str]]] = []  # of each span: channels, and taps
        request, count = self.request, point.number("channels")

        def body(site: Site) -> ir.Block:
            return tuple(
                s
                for rows in self.found[0]
                for columns in self.found[1]
                for s in _span(self.node.op, site, rows, columns, loops)
            )

        made = build(
            request.graph, request.group, "kernel", request.layouts, body, rows=request.rows,
            planes=request.planes, pitches=request.pitches,
        )  # fmt: skip
        steps: list[Step] = []
        for name, taps in loops:
            steps += _block(name, taps, count) if count > 1 else ()
            steps += map(Unroll, taps) if point["taps"] else ()
        return Candidate("spans", made.func, made.args, tuple(steps))


class Peeled(Template):
    """The operator's own loops, the output columns whose windows reach outside the image apart."""

    name = "generic.peeled"
    ops = ("avg_pool2d", "max_pool2d")

    def __init__(self, request: Request, peel: Peel) -> None:
        super().__init__(self.name, {"peel": (0, 1)})
        self.request, self.peel = request, peel

    @classmethod
    def of(cls, request: Request) -> Peeled | None:
        peel = border(request.plain.func, request)
        return None if peel is None else cls(request, peel)

    def usual(self, goal: Goal) -> Iterator[Point]:
        yield self.point(peel=1)

    def build(self, point: Point) -> Candidate:
        plain = self.request.plain
        return Candidate(PLAIN, plain.func, plain.args, (self.peel,) if point["peel"] else ())


def _span(
    op: str, site: Site, rows: Span, columns: Span, loops: list[tuple[str, tuple[str, str]]]
) -> ir.Block:
    """The windows of a span of rows and a span of columns; the names of its loops go to `loops`."""
    (x,) = site.inputs
    n, oh, ow, c, kh, kw = site.axes("n oh ow c kh kw")
    loops.append((c.name, (kh.name, kw.name)))
    sh, sw = integers(site.attrs, "strides")
    batch, _, _, channels = site.output.shape
    ih = ir.add(ir.add(ir.mul(oh, ir.i32(sh)), kh), ir.i32(rows.start))
    iw = ir.add(ir.add(ir.mul(ow, ir.i32(sw)), kw), ir.i32(columns.start))
    acc = site.local("acc", arithmetic(site.output.dtype))
    at = (n, ir.add(oh, ir.i32(rows.first)), ir.add(ow, ir.i32(columns.first)), c)
    update: ir.BinOp = "max" if op == "max_pool2d" else "+"
    taps = nest((kh, kw), (rows.taps, columns.taps), (acc.update(update, x.wide(n, ih, iw, c)),))
    value = _result(op, site, acc, rows.taps * columns.taps)
    window = (acc.alloc, acc.set(_start(op, site)), *taps, *site.store(at, value))
    return nest((n, oh, ow, c), (batch, rows.number, columns.number, channels), window)


def _start(op: str, site: Site) -> ir.Const:
    dtype = site.output.dtype
    if op != "max_pool2d":
        return ir.const(0, arithmetic(dtype))
    least = -math.inf if dtype.is_float else dtype.min
    return ir.const(least, arithmetic(dtype))


def _result(op: str, site: Site, acc: Local, count: int) -> ir.Expr:
    """The element, in its own type."""
    dtype = site.output.dtype
    if op == "max_pool2d":
        return ir.cast(dtype, acc(), acc.dtype)
    if dtype.is_float:
        return ir.Bin("/", acc(), ir.f32(count))
    return ir.cast(dtype, average(acc(), count, dtype), acc.dtype)


TEMPLATES.add(Spans.name, Spans)
TEMPLATES.add(Peeled.name, Peeled)
