"""Decision trees as nested conditions, or as tables that are walked.

Conditions are fastest: a split is a load, a comparison and a branch. Tables take a few bytes a
split, whatever its code would take. Both compare and add as the operator's own loops do.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from midge.core.types import Array, DType
from midge.graph.attrs import integer
from midge.graph.trees import EQUAL, MISSING
from midge.loop import ir
from midge.lower import Local, Site, nest
from midge.lower.candidates import TEMPLATES, Candidate, Request, Template
from midge.lower.space import Goal, Point
from midge.lower.trees import added, begin, end, passes
from midge.lower.writer import KernelWriter

MOST_DEPTH = 100  # of nested conditions; compilers allow at least 127 (C11, 5.2.4.1)
_MOST_SPLITS = 1 << 15
_MOST_OFFSET = 4000  # bytes of features
_MOST_COUNTERS = 16


@dataclass(frozen=True, slots=True)
class Forest:
    """The constants of a `tree_ensemble` whose values are known."""

    thresholds: Array
    splits: Array
    roots: Array
    targets: Array
    values: Array
    depth: int

    @property
    def vote(self) -> float | int | None:
        """What every leaf adds to its only target, if that is the same for all."""
        same = self.values.shape[1] == 1 and (self.values == self.values[0]).all()
        return self.values[0, 0].item() if same else None

    @property
    def preorder(self) -> bool:
        """Whether `then` is the next split, or a leaf that tables can name."""
        then = self.splits[:, 1]
        follows = (then < 0) | (then == np.arange(1, len(then) + 1))
        return bool(follows.all()) and not (self.direct and (self.values < 0).any())

    @property
    def direct(self) -> bool:
        """Whether a leaf is known by what it adds: an integer, to the only target there is."""
        narrow = self.values.dtype in (np.uint8, np.int32) and self.values.shape[1] == 1
        return narrow and self.vote is None and not self.targets.any()

    def code(self, leaf: int) -> int:
        """What a tree comes to: the target of a vote, a value, else the number of the leaf."""
        if self.vote is not None:
            return int(self.targets[leaf, 0])
        return int(self.values[leaf, 0]) if self.direct else leaf

    def leaves(self, root: int) -> list[int]:
        """The leaves of a tree, by number."""
        found, waiting, seen = set(), [root], set()
        while waiting:
            at = waiting.pop()
            if at < 0:
                found.add(~at)
            elif at not in seen:
                seen.add(at)
                waiting += [int(t) for t in self.splits[at, 1:3]]
        return sorted(found)


def forest_of(request: Request) -> Forest | None:
    """The trees of a group's anchor, if they are constants."""
    node = request.group.anchor
    assert node is not None
    consts = request.graph.consts
    if not all(v in consts for v in node.inputs[1:]):
        return None
    thresholds, splits, roots, targets, values = (consts[v] for v in node.inputs[1:])
    return Forest(thresholds, splits, roots, targets, values, integer(node.attrs, "depth"))


def fits(forest: Forest) -> bool:
    """Whether compilers take the trees as conditions."""
    return forest.depth <= MOST_DEPTH and len(forest.splits) <= _MOST_SPLITS


def counts_votes(request: Request, forest: Forest) -> bool:
    """Whether `arm_dsp` has assembler for the trees, as fast as conditions in C and smaller: one
    row of narrow integers, votes that are bytes, and one way to each split."""
    node = request.group.anchor
    assert node is not None
    x, y = (request.graph.types[v] for v in (node.inputs[0], node.outputs[0]))
    if "dsp" not in request.target.features or len(request.group.nodes) > 1 or x.shape[0] != 1:
        return False
    if x.dtype not in (DType.U8, DType.I8, DType.I16) or x.elements * x.dtype.size > _MOST_OFFSET:
        return False
    if y.dtype is not DType.U8 or y.shape[1] > _MOST_COUNTERS or forest.vote is None:
        return False
    ways = [int(t) for t in (*forest.splits[:, 1:3].reshape(-1), *forest.roots) if t >= 0]
    return fits(forest) and len(ways) == len({*ways}) == len(forest.splits)


class Trees(Template):
    """Conditions in C or tables."""

    name = "generic.trees"
    ops = ("tree_ensemble",)

    def __init__(self, request: Request, forest: Forest, forms: Sequence[str]) -> None:
        super().__init__(self.name, {"form": forms})
        self.request, self.forest = request, forest

    @classmethod
    def of(cls, request: Request) -> Trees | None:
        forest = forest_of(request)
        if forest is None:
            return None
        able = fits(forest) and not counts_votes(request, forest)
        forms = [*["branches"] * able, *["tables"] * forest.preorder]
        return cls(request, forest, forms) if forms else None

    def usual(self, goal: Goal) -> Iterator[Point]:
        forms = self.knobs["form"]
        first = reversed(forms) if goal.optimize == "size" else forms
        yield from (self.point(form=form) for form in first)

    def build(self, point: Point) -> Candidate:
        made = branches if point["form"] == "branches" else tables
        return made(self.request, self.forest)


# Conditions.


def branches(request: Request, forest: Forest) -> Candidate:
    """Every split a condition."""

    def body(site: Site) -> ir.Block:
        x = site.inputs[0]
        (row,) = site.axes("row")
        totals = site.local("totals", site.output.dtype, (integer(site.attrs, "targets"),))
        trees: list[ir.Stmt] = []
        for root in forest.roots:
            leaf = site.local("leaf", DType.I32)
            dtype = _wide(x.type.dtype)
            trees += [
                leaf.alloc,
                *conditions(forest, int(root), lambda f: x.wide(row, f), dtype, leaf),
            ]
            trees += _add_leaf(site, forest, totals, leaf(), forest.leaves(int(root)))
        parts = (*begin(site, totals), *trees, *end(site, totals, row))
        return nest((row,), (x.type.shape[0],), parts)

    kernel = KernelWriter(request)
    made = kernel.built(body)
    return kernel.finish_built("branches", made, {0: made.func.params[0].shape})


def conditions(
    forest: Forest, at: int, x: Callable[[ir.Expr], ir.Expr], dtype: DType, leaf: Local
) -> ir.Block:
    """Set `leaf` to what the tree from `at` on comes to. x: a feature, of type `dtype`."""
    if at < 0:
        return (leaf.set(ir.i32(forest.code(~at))),)
    feature, then, other, mode = (int(v) for v in forest.splits[at])
    value = x(ir.i32(feature))
    threshold = ir.const(forest.thresholds[at].item(), dtype)
    hit = conditions(forest, then, x, dtype, leaf)
    miss = conditions(forest, other, x, dtype, leaf)
    if mode & EQUAL:
        cond: ir.Expr = ir.Bin("==", value, threshold)
        if mode & MISSING:
            cond = ir.Bin("or", cond, ir.Bin("!=", value, value))
    elif mode & MISSING and dtype.is_float:
        # NaN is not above the threshold.
        return (ir.Guard(ir.Bin("<", threshold, value), miss, hit),)
    else:
        cond = ir.Bin("<=", value, threshold)
    return (ir.Guard(cond, hit, miss),)


def _wide(dtype: DType) -> DType:
    return DType.I32 if dtype in (DType.I8, DType.U8, DType.I16) else dtype


def _add_leaf(
    site: Site, forest: Forest, totals: Local, code: ir.Expr, leaves: Sequence[int]
) -> ir.Block:
    """Add what a tree comes to. leaves: its own ones."""
    dtype = totals.dtype
    if forest.vote is not None:
        target = code if totals.shape[0] > 1 else ir.i32(0)
        return (added(site, totals, target, ir.const(forest.vote, dtype)),)
    if forest.direct:
        return (added(site, totals, ir.i32(0), ir.cast(dtype, code, DType.I32)),)
    targets, values = site.inputs[4:]
    parts: list[ir.Stmt] = []
    for k in range(forest.targets.shape[1]):
        column = forest.targets[leaves, k]
        same = (column == column[0]).all()
        target = ir.i32(int(column[0])) if same else targets(code, ir.i32(k))
        parts.append(added(site, totals, target, values(code, ir.i32(k))))
    return tuple(parts)


# Tables.


def tables(request: Request, forest: Forest) -> Candidate:
    """One loop over the trees and one over the levels, with tables of the narrowest types. A
    split's `then` is the next split, but for leaves."""
    kernel = KernelWriter(request)
    columns = _columns(forest)
    for name, array in columns.items():
        kernel.constant(name, f"{kernel.anchor.outputs[0]}/{name}", array)

    def read(name: str, at: ir.Expr) -> ir.Expr:
        dtype = DType.of(columns[name])
        return ir.cast(_wide(dtype), ir.Load(name, (at,)), dtype)

    def body(site: Site) -> ir.Block:
        x, thresholds = site.inputs[:2]
        row, tree, step = site.axes("row tree step")
        totals = site.local("totals", site.output.dtype, (integer(site.attrs, "targets"),))
        at = site.local("at", DType.I32)
        value, threshold = x.wide(row, read("feature", at())), thresholds.wide(at())
        hit: ir.Expr = ir.Bin("<=", value, threshold)
        if "mode" in columns:
            hit = passes(value, threshold, read("mode", at()))
        then = read("then", at())
        onward = ir.Select(
            ir.Bin("==", then, ir.i32(0)), ir.add(at(), ir.i32(1)), ir.Bin("-", ir.i32(0), then)
        )
        walk = at.set(ir.Select(hit, onward, read("other", at())))
        levels = nest((step,), (forest.depth,), (ir.Guard(ir.Bin("<=", ir.i32(0), at()), (walk,)),))
        code = ir.Bin("-", ir.i32(-1), at())
        parts = (at.alloc, at.set(read("root", tree)), *levels)
        parts += _add_leaf(site, forest, totals, code, range(len(forest.targets)))
        walked = nest((tree,), forest.roots.shape, parts)
        whole = (*begin(site, totals), *walked, *end(site, totals, row))
        return nest((row,), (x.type.shape[0],), whole)

    made = kernel.built(body)
    return kernel.finish_built("tables", made, {0: made.func.params[0].shape})


def _columns(forest: Forest) -> dict[str, Array]:
    """`then`: 0 for the next split, else the number behind that of the leaf."""
    feature, then, other, mode = forest.splits.T
    coded = np.array([forest.code(~int(t)) if t < 0 else -1 for t in then]) + 1
    columns = {
        "feature": feature,
        "then": coded,
        "other": np.array([~forest.code(~int(t)) if t < 0 else int(t) for t in other]),
        "root": np.array([~forest.code(~int(t)) if t < 0 else int(t) for t in forest.roots]),
    }
    if mode.any():
        columns["mode"] = mode
    return {name: _narrow(array) for name, array in columns.items()}


def _narrow(array: Array) -> Array:
    """As the narrowest integers that hold it."""
    for dtype in (DType.U8, DType.I8, DType.I16, DType.I32):
        if dtype.min <= array.min() and array.max() <= dtype.max:
            return array.astype(dtype.numpy)
    raise AssertionError("tables are small")


TEMPLATES.add(Trees.name, Trees)
