"""What all loops of `tree_ensemble` share: comparisons as its splits mean them, and the totals."""

from __future__ import annotations

from midge.core.types import DType
from midge.graph.attrs import text
from midge.graph.trees import EQUAL, MISSING
from midge.loop import ir
from midge.lower import Local, Site, nest, widen

AGGREGATES = {"sum": 0.0, "min": float("inf"), "max": float("-inf")}  # and what they begin with


def begin(site: Site, totals: Local) -> ir.Block:
    """Set the local totals, one per target, to what they begin with."""
    start = AGGREGATES[text(site.attrs, "aggregate", "sum")]
    (t,) = site.axes("t")
    first = ir.const(start, totals.dtype)
    return (totals.alloc, *nest((t,), totals.shape, (totals.set(first, t),)))


def end(site: Site, totals: Local, row: ir.Expr) -> ir.Block:
    """Store the totals of a row."""
    (t,) = site.axes("t")
    return nest((t,), totals.shape, site.store((row, t), totals(t)))


def added(site: Site, totals: Local, target: ir.Expr, value: ir.Expr) -> ir.Stmt:
    """What a leaf does to one total; `value` is of the totals' type."""
    dtype = totals.dtype
    op: ir.BinOp = {"sum": "+", "min": "min", "max": "max"}[  # type: ignore[assignment]
        text(site.attrs, "aggregate", "sum")
    ]
    wide = ir.Bin(op, widen(totals(target), dtype), widen(value, dtype))
    narrow = ir.cast(dtype, wide, DType.I32) if dtype is DType.U8 else wide
    return totals.set(narrow, target)


def passes(value: ir.Expr, threshold: ir.Expr, mode: ir.Expr) -> ir.Expr:
    """Whether a sample goes on to `then`, with the mode known when running."""
    equal = ir.Bin("!=", ir.Bin("&", mode, ir.i32(EQUAL)), ir.i32(0))
    missing = ir.Bin("!=", ir.Bin("&", mode, ir.i32(MISSING)), ir.i32(0))
    below = ir.Select(equal, ir.Bin("==", value, threshold), ir.Bin("<=", value, threshold))
    return ir.Bin("or", below, ir.Bin("and", missing, ir.Bin("!=", value, value)))
