"""Pooling without tests of the border.

Inside a span, a few neighbouring channels stay in registers and the taps of a window are loops
around them; not on Armv6-M, which has too few registers. The best of 1, 2, 4 and 8 channels on
Cortex-M3. Windows without padding gain nothing from either.
"""

from __future__ import annotations

import math
from dataclasses import replace

from midge.graph.attrs import integers
from midge.kernels.generic.blocks import FEW_REGISTERS
from midge.kernels.generic.spans import Span, pool_spans
from midge.kernels.generic.windows import border
from midge.loop import ir
from midge.loop.schedule import Reorder, Split, Step, Unroll
from midge.lower import Local, Site, arithmetic, nest
from midge.lower.averages import average
from midge.lower.build import build
from midge.lower.candidates import LOWERINGS, Candidate, Request
from midge.lower.schedules import SCHEDULES, Schedule

_CHANNELS = 4


def peel_border(func: ir.Func, request: Request) -> tuple[Schedule, ...]:
    """Peel the output columns whose windows reach outside the image."""
    peel = border(func, request)
    return ((peel,),) if peel is not None else ()


def _block(channel: str, taps: tuple[str, str]) -> tuple[Step, ...]:
    """The loop over channels in blocks inside the loops over taps."""
    inner = f"{channel}_i"
    return (Split(channel, _CHANNELS), Reorder((*taps, inner)), Unroll(inner))


def unguarded(request: Request) -> tuple[Candidate, ...]:
    """A pool with padding, span by span."""
    node = request.group.anchor
    assert node is not None
    found = pool_spans(request.graph, node)
    if found is None or all(len(s) == 1 for s in found) or request.optimize == "size":
        return ()
    loops: list[tuple[str, tuple[str, str]]] = []  # of each span: channels, and taps

    def body(site: Site) -> ir.Block:
        return tuple(
            s
            for rows in found[0]
            for columns in found[1]
            for s in _span(node.op, site, rows, columns, loops)
        )

    made = build(
        request.graph, request.group, "kernel", request.layouts, body, rows=request.rows,
        planes=request.planes, pitches=request.pitches,
    )  # fmt: skip
    channels = request.graph.types[node.outputs[0]].shape[3]
    plain = Candidate("spans", made.func, made.args)
    if FEW_REGISTERS in request.target.features or channels % _CHANNELS:
        return (plain,)
    steps = tuple(step for name, taps in loops for step in _block(name, taps))
    return replace(plain, steps=steps), plain


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


for _op in ("avg_pool2d", "max_pool2d"):
    SCHEDULES.add(_op, peel_border)
    LOWERINGS.add(f"{_op}/generic", unguarded)
