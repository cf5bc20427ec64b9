"""tree_ensemble: what the leaves of decision trees add up to, for each row of features.

Inputs: x [rows, features] of any arithmetic type or int8, uint8, int16; then constants:
thresholds [splits] of x's type; splits i32[splits, 4], each (feature, then, other, mode): with
x[feature] <= threshold go on to `then`, else to `other`, which are splits further on, or ~leaf;
mode: bits of `graph.trees`; roots i32[trees], splits or ~leaf; targets i32[leaves, width] and
values [leaves, width]: what a leaf adds to which output.
Attributes: targets (outputs), depth (splits on the longest way), aggregate ("sum", "min", "max").
Sums are made in the order of the trees, in the type of the values; integers must not overflow.
NaN is below no threshold. Source: the operator TreeEnsemble of ONNX's operator set ai.onnx.ml 5.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from midge.core.types import Array, DType, TensorType
from midge.graph.attrs import integer, text
from midge.graph.ir import OPS, Attr, Attrs, OpDef, Sample
from midge.graph.trees import EQUAL, MISSING
from midge.loop import ir
from midge.lower import LOOP_RULES, LoopRule, Site, nest
from midge.lower.trees import AGGREGATES, added, begin, end, passes
from midge.ops._common import arity, check_indices, fail

FEATURES = (DType.F32, DType.I8, DType.U8, DType.I16, DType.I32, DType.I64)
VALUES = (DType.F32, DType.U8, DType.I32, DType.I64)


def infer(inputs: Sequence[TensorType], attrs: Attrs) -> tuple[TensorType, ...]:
    arity(inputs, 6)
    x, thresholds, splits, roots, targets, values = inputs
    if len(x.shape) != 2 or x.elements == 0 or x.dtype not in FEATURES:
        raise fail(f"features {x}, expected [rows, features]")
    count = thresholds.shape[0] if thresholds.shape else 0
    if thresholds.dtype is not x.dtype or count < 1 or splits.shape != (count, 4):
        raise fail(f"thresholds {thresholds} of splits {splits} for features {x}")
    if len(roots.shape) != 1 or len(targets.shape) != 2 or targets.shape != values.shape:
        raise fail(f"trees {roots} with leaves {targets}, {values}")
    tables = (splits, roots, targets)
    if any(t.dtype is not DType.I32 for t in tables) or 0 in (*roots.shape, *targets.shape):
        raise fail(f"tables {', '.join(map(str, tables))}, expected i32 and not empty")
    if values.dtype not in VALUES or integer(attrs, "depth") < 0:
        raise fail(f"values {values}, depth {attrs['depth']}")
    aggregate = text(attrs, "aggregate", "sum")
    if aggregate not in AGGREGATES or (aggregate != "sum" and values.dtype is not DType.F32):
        raise fail(f"aggregate {aggregate!r} of {values}")
    if integer(attrs, "targets") < 1:
        raise fail(f"{attrs['targets']} targets")
    return (TensorType((x.shape[0], integer(attrs, "targets")), values.dtype),)


def check(consts: Mapping[int, Array], inputs: Sequence[TensorType], attrs: Attrs) -> None:
    """Every way ends at a leaf, after `depth` splits at most."""
    x, thresholds, _, _, targets, _ = inputs
    splits, leaves = thresholds.shape[0], targets.shape[0]
    check_indices(consts, 2, -max(leaves, 1), 2**31 - 1, "splits")
    check_indices(consts, 3, -leaves, splits - 1, "roots")
    check_indices(consts, 4, 0, integer(attrs, "targets") - 1, "targets")
    features, ways = consts[2][:, 0], consts[2][:, 1:3].astype(np.int64)
    if features.min() < 0 or features.max() >= x.shape[1]:
        raise fail(f"features go from {features.min()} to {features.max()} of {x.shape[1]}")
    here = np.arange(splits)[:, None]
    if (ways >= splits).any() or (ways < -leaves).any() or ((ways >= 0) & (ways <= here)).any():
        raise fail("a split leads to a leaf or a split that does not exist, or back")
    depth = _depth(ways, consts[3])
    if not depth <= integer(attrs, "depth") <= splits:
        raise fail(f"depth {attrs['depth']}, the longest way is {depth} of {splits} splits")


def _depth(ways: Array, roots: Array) -> int:
    """Splits on the longest way; each leads further on only."""
    depths = [0] * len(ways)
    for at in range(len(ways) - 1, -1, -1):
        depths[at] = 1 + max((depths[to] for to in ways[at].tolist() if to >= 0), default=0)
    return max((depths[root] for root in roots.tolist() if root >= 0), default=0)


def _leaves(inputs: Sequence[Array], depth: int) -> Array:
    """The leaves [rows, trees] that the rows of x come to."""
    x, thresholds, splits, roots, *_ = inputs
    rows = np.arange(len(x))[:, None]
    at = np.tile(roots.astype(np.int64), (len(x), 1))
    for _ in range(depth):
        here = np.maximum(at, 0)
        feature, then, other, mode = np.moveaxis(splits[here], -1, 0)
        value, threshold = x[rows, feature], thresholds[here]
        hit = np.where(mode & EQUAL, value == threshold, value <= threshold)
        hit |= (mode & MISSING != 0) & (value != value)
        at = np.where(at < 0, at, np.where(hit, then, other))
    return np.asarray(~at)


def reference(inputs: Sequence[Array], attrs: Attrs) -> tuple[Array, ...]:
    x, _, _, _, targets, values = inputs
    aggregate = text(attrs, "aggregate", "sum")
    result = np.full((len(x), integer(attrs, "targets")), AGGREGATES[aggregate], values.dtype)
    combine = {"sum": np.add, "min": np.minimum, "max": np.maximum}[aggregate]
    rows = np.arange(len(x))
    for leaf in _leaves(inputs, integer(attrs, "depth")).T:
        for k in range(targets.shape[1]):
            at = (rows, targets[leaf, k])
            result[at] = combine(result[at], values[leaf, k])
    return (result,)


def loops(site: Site) -> ir.Block:
    """The tables walked as they are; the leaf is reached after `depth` steps at most."""
    x, thresholds, splits, roots, targets, values = site.inputs
    row, tree, step, k = site.axes("row tree step k")
    totals = site.local("totals", site.output.dtype, (integer(site.attrs, "targets"),))
    at = site.local("at", DType.I32)
    hit = passes(
        x.wide(row, splits(at(), ir.i32(0))),
        thresholds.wide(at()),
        splits(at(), ir.i32(3)),
    )
    walk = ir.Select(hit, splits(at(), ir.i32(1)), splits(at(), ir.i32(2)))
    leaf = ir.sub(ir.i32(-1), at())
    body = (
        at.alloc,
        at.set(roots(tree)),
        *nest((step,), (integer(site.attrs, "depth"),), (
            ir.Guard(ir.Bin("<=", ir.i32(0), at()), (at.set(walk),)),
        )),
        *nest((k,), (targets.type.shape[1],), (
            added(site, totals, targets(leaf, k), values(leaf, k)),
        )),
    )  # fmt: skip
    walked = nest((tree,), roots.type.shape, body)
    return nest(
        (row,), (x.type.shape[0],), (*begin(site, totals), *walked, *end(site, totals, row))
    )


_SPLITS = np.array([[0, 1, 2, 0], [1, -1, -2, 2], [0, -3, 3, 0], [2, -2, -1, 1]], np.int32)
_ROOTS = np.array([0, 1, -1, 3], np.int32)


def _sample(
    features: DType, values: DType, width: int, targets: int, rows: int = 5, how: str = "sum"
) -> Sample:
    thresholds = np.array([0, 1, 2, 1]).astype(features.numpy)
    where = (np.arange(3 * width, dtype=np.int32).reshape(3, width)) % targets
    what = (np.arange(3 * width).reshape(3, width) * 3 + 1).astype(values.numpy)
    if values is DType.F32:
        what = what / np.float32(7)
    consts = dict(enumerate((thresholds, _SPLITS, _ROOTS, where, what), 1))
    types = (
        TensorType((rows, 3), features),
        *(TensorType(c.shape, DType.of(c)) for c in consts.values()),
    )
    attrs: dict[str, Attr] = {"targets": targets, "depth": 3, "aggregate": how}
    low = 0 if features is DType.U8 else -1
    return Sample(types, attrs, consts, low, 3)


_SAMPLES = (
    *(_sample(d, DType.U8, 1, 3) for d in FEATURES),
    *(_sample(DType.F32, v, 2, 2, 2) for v in VALUES),
    _sample(DType.F32, DType.F32, 2, 2, 4, "min"),
    _sample(DType.F32, DType.F32, 2, 2, 4, "max"),
    _sample(DType.I16, DType.I32, 1, 1, 1),
)
OPS.add("tree_ensemble", OpDef("tree_ensemble", infer, reference, check=check, samples=_SAMPLES))
LOOP_RULES.add(
    "tree_ensemble", LoopRule(("x", "thresholds", "splits", "roots", "targets", "values"), loops)
)
