"""ONNX's TreeEnsembleClassifier, TreeEnsembleRegressor and TreeEnsemble (ai.onnx.ml).

Values are added up in binary32 in the order of the trees, base values last, as onnxruntime does.
Where every leaf is a vote of equal weight, votes are counted in integers and looked up in the table
of that weight's sums. Labels that are strings are given as their positions.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from midge.core.damage import damage
from midge.core.types import Array, DType
from midge.graph.importers import IMPORTERS, Foreign, Steps
from midge.graph.ir import Attr, Node
from midge.graph.trees import EQUAL, MISSING, Leaf, Split, Trees, below
from midge.ops import _onnx
from midge.ops.onnx_ml import classes_of, label, post_transform

_DTYPES = (DType.F32, DType.I32, DType.I64, DType.I16, DType.I8, DType.U8)
_MODES = (
    "BRANCH_LEQ", "BRANCH_LT", "BRANCH_GTE", "BRANCH_GT", "BRANCH_EQ", "BRANCH_NEQ",
    "BRANCH_MEMBER",
)  # fmt: skip
_BASE = "one base value for one score of two classes, or one for each of more classes"
_AGGREGATES = ("AVERAGE", "SUM", "MIN", "MAX")


@dataclass(frozen=True, slots=True)
class _Branch:
    """A node of the file. members: of BRANCH_MEMBER."""

    mode: str
    feature: int
    value: float
    then: int
    other: int
    missing: bool
    members: tuple[float, ...] = ()


def split_of(b: _Branch, dtype: DType, add: Callable[[Split], int]) -> Split:
    """The split that stands for a branch; `add` makes further ones."""
    f, t, miss = b.feature, b.value, MISSING if b.missing else 0
    turned = 0 if b.missing else MISSING  # where `then` and `other` change places, NaN does too
    match b.mode:
        case "BRANCH_LEQ":
            return Split(f, t, b.then, b.other, miss)
        case "BRANCH_LT":
            return Split(f, below(t, dtype), b.then, b.other, miss)
        case "BRANCH_GT":
            return Split(f, t, b.other, b.then, turned)
        case "BRANCH_GTE":
            return Split(f, below(t, dtype), b.other, b.then, turned)
        case "BRANCH_EQ":
            return Split(f, t, b.then, b.other, EQUAL | miss)
        case "BRANCH_NEQ":
            # NaN is not equal to anything
            return Split(f, t, b.other, b.then, EQUAL)
    *others, last = b.members or (float("inf"),)
    split = Split(f, last, b.then, b.other, EQUAL | miss)
    for value in reversed(others):
        split = Split(f, value, b.then, add(split), EQUAL | miss)
    return split


@dataclass(slots=True)
class _File:
    """Attributes of the operator, checked."""

    op: Foreign

    def ints(self, name: str, count: int | None = None) -> tuple[int, ...]:
        value = self.op.attrs.get(name, ())
        if not isinstance(value, tuple) or not all(isinstance(v, int) for v in value):
            raise self.op.error(f"attribute {name} is {value!r}, expected integers")
        if count is not None and len(value) != count:
            raise self.op.error(f"attribute {name} has {len(value)} entries, expected {count}")
        return value

    def numbers(self, name: str, count: int | None = None) -> list[float]:
        """Of the attribute, or of the tensor `name`_as_tensor."""
        value: Any = self.op.attrs.get(f"{name}_as_tensor", self.op.attrs.get(name, ()))
        if isinstance(value, np.ndarray) and value.dtype.kind in "fiu":
            value = value.reshape(-1).tolist()
        if not isinstance(value, tuple | list) or not all(
            isinstance(v, int | float) for v in value
        ):
            raise self.op.error(f"attribute {name} is {value!r}, expected numbers")
        if count is not None and len(value) != count:
            raise self.op.error(f"attribute {name} has {len(value)} entries, expected {count}")
        return [float(v) for v in value]

    def flags(self, name: str, count: int) -> tuple[int, ...]:
        return self.ints(name, count) if self.op.attrs.get(name) else (0,) * count


def _collected(op: Foreign, dtype: DType, leaves: str) -> Trees:
    """The trees of the older operators. leaves: "class" or "target"."""
    file = _File(op)
    trees, nodes = file.ints("nodes_treeids"), file.ints("nodes_nodeids")
    count = len(trees)
    feature, value = file.ints("nodes_featureids", count), file.numbers("nodes_values", count)
    mode = [m if m != "LEAF" else "" for m in op.attrs.get("nodes_modes", ())]
    if len(mode) != count or len(nodes) != count or any(m and m not in _MODES[:6] for m in mode):
        raise op.error("nodes_modes or nodes_nodeids do not fit the other attributes")
    then, other = file.ints("nodes_truenodeids", count), file.ints("nodes_falsenodeids", count)
    missing = file.flags("nodes_missing_value_tracks_true", count)
    rows: dict[tuple[int, int], list[tuple[int, float]]] = {}
    ids, weights = file.ints(f"{leaves}_ids"), file.numbers(f"{leaves}_weights")
    where = (file.ints(f"{leaves}_treeids", len(ids)), file.ints(f"{leaves}_nodeids", len(ids)))
    if len(weights) != len(ids):
        raise op.error(f"{leaves}_weights has {len(weights)} entries, expected {len(ids)}")
    for tree, node, target, weight in zip(*where, ids, weights, strict=True):
        # Adding 0 changes no sum.
        if weight or leaves == "target":
            rows.setdefault((tree, node), []).append((target, weight))
    found: dict[int, dict[int, Leaf | _Branch]] = {}
    for i in range(count):
        own = found.setdefault(trees[i], {})
        if mode[i]:
            own[nodes[i]] = _Branch(
                mode[i], feature[i], value[i], then[i], other[i], bool(missing[i])
            )
        else:
            own[nodes[i]] = Leaf(tuple(rows.get((trees[i], nodes[i]), ())))
    result = Trees(dtype)
    for own in found.values():
        _add(op, result, own, next(iter(own)))
    return result


def _add(op: Foreign, trees: Trees, nodes: dict[int, Leaf | _Branch], root: int) -> None:
    """One tree of the file, by the numbers of its nodes."""
    extra: list[Split] = []
    first = 1 + max(nodes)
    width = op.type(0).shape[-1]

    def more(split: Split) -> int:
        extra.append(split)
        return first + len(extra) - 1

    def node(number: int) -> Leaf | Split:
        if 0 <= number - first < len(extra):
            return extra[number - first]
        if number not in nodes:
            raise op.error(f"a tree has no node {number}")
        found = nodes[number]
        if isinstance(found, Leaf):
            return found
        if not 0 <= found.feature < width:
            raise op.error(f"feature {found.feature} does not exist in {op.type(0)}")
        if np.isnan(found.value):
            raise op.error("a threshold is not a number", "train again")
        return split_of(found, trees.dtype, more)

    try:
        trees.add(node, root)
    except (ValueError, OverflowError) as error:
        raise op.error(f"the trees cannot be read: {damage(error)}") from error


def _features(op: Foreign, steps: Steps) -> str:
    op.expect_inputs(1)
    op.expect_dtype(0, *_DTYPES)
    shape = op.type(0).shape
    if len(shape) == 1:
        return steps.emit("reshape", [op.inputs[0]], {"shape": (1, shape[0])})
    if len(shape) != 2 or op.type(0).elements == 0:
        raise op.error(f"features are {op.type(0)}", "expected [rows, features]")
    return op.inputs[0]


def _weights(op: Foreign, trees: Trees, targets: int) -> list[float]:
    """All that leaves add, checked."""
    values = [v for row in trees.rows for _, v in row]
    if any(not 0 <= t < targets for row in trees.rows for t, _ in row):
        raise op.error(f"leaves name outputs beyond {targets}")
    if not np.isfinite(np.array(values, np.float32)).all() or not trees.roots:
        raise op.error("there are no trees, or weights that are not finite")
    return values


def _ensemble(
    op: Foreign, steps: Steps, trees: Trees, targets: int, values: DType, how: str = "sum"
) -> str:
    t = trees.tables(values, repeat=how != "sum")
    x = _features(op, steps)
    tables = ("thresholds", "splits", "roots", "targets", "values")
    inputs = [x, *(steps.const(getattr(t, name), name) for name in tables)]
    attrs: dict[str, Attr] = {"targets": targets, "depth": t.depth, "aggregate": how}
    return steps.emit("tree_ensemble", inputs, attrs)


def _totals(op: Foreign, steps: Steps, trees: Trees, targets: int) -> tuple[str, str]:
    """What the trees add up to in binary32, and what the greatest of it can be told from."""
    weights = {np.float32(v) for v in _weights(op, trees, targets)}
    votes = len(weights) == 1 and all(len(row) == 1 for row in trees.rows)
    count = len(trees.roots)
    if votes and count <= DType.U8.max:
        table = _sums(weights.pop(), count)
        if (np.diff(table) > 0).all():
            trees.rows = {((row[0][0], 1),): i for row, i in trees.rows.items()}
            counted = _ensemble(op, steps, trees, targets, DType.U8)
            index = steps.emit("cast", [counted], {"dtype": "i32"})
            scores = steps.emit("gather", [steps.const(table, "sums"), index], {"axis": 0})
            return scores, counted
    total = _ensemble(op, steps, trees, targets, DType.F32)
    return total, total


def _sums(weight: np.float32, count: int) -> Array:
    """0, weight, weight + weight, ... in binary32."""
    sums = np.zeros(count + 1, np.float32)
    for i in range(count):
        sums[i + 1] = sums[i] + weight
    return sums


def _with_base(steps: Steps, total: str, base: Sequence[float]) -> str:
    values = np.array(base, np.float32).reshape(1, -1)
    return steps.emit("add", [total, steps.const(values, "base")]) if values.any() else total


def classifier(op: Foreign) -> tuple[Node, ...]:
    """TreeEnsembleClassifier: the label, and the scores."""
    steps = Steps(op)
    op.expect_inputs(1)
    op.expect_dtype(0, *_DTYPES)
    names = classes_of(op, "classlabels_int64s", "classlabels_strings")
    count = len(names)
    trees = _collected(op, op.type(0).dtype, "class")
    base = _File(op).numbers("base_values")
    used = {*_File(op).ints("class_ids")}
    post = _onnx.word(op, "post_transform", "NONE", ("NONE", "SOFTMAX", "LOGISTIC", "SOFTMAX_ZERO"))
    if count == 2 and len(used) == 1:
        return _one_score(op, steps, trees, base, post, names, used.pop())
    if count < 2 or len(base) not in (0, count) or (count == 2 and any(base)):
        raise op.error(f"has {count} classes and {len(base)} base values", _BASE)
    total, ranked = _totals(op, steps, trees, count)
    scores = _with_base(steps, total, base)
    label(op, steps, scores if scores != total else ranked, names)
    _scores(op, steps, post_transform(op, steps, scores, post))
    return tuple(steps.nodes)


def _one_score(
    op: Foreign,
    steps: Steps,
    trees: Trees,
    base: list[float],
    post: str,
    names: Array,
    own: int,
) -> tuple[Node, ...]:
    """Two classes of which one, `own`, has a score s: weights that are all positive are
    probabilities, so that the label changes at 0.5, else at 0. If it is the first class that the
    file names, it stands for the second, and the first has 1 - s, or -s; else the first has 0.
    TreeAggregatorClassifier in onnxruntime's ml/tree_ensemble_aggregator.h."""
    if post not in ("NONE", "LOGISTIC") or len(base) > 1 or (own == 1 and any(base)):
        what = f"post_transform {post} and {len(base)} base values, one score for two classes"
        raise op.error(what, _BASE)
    positive = all(v >= 0 for v in _weights(op, trees, 2))
    trees.rows = {tuple((0, v) for _, v in row): i for row, i in trees.rows.items()}
    total, _ = _totals(op, steps, trees, 1)
    score = _with_base(steps, total, base)
    middle = steps.const(np.full((1, 1), 0.5 if positive else 0, np.float32), "middle")
    label(op, steps, steps.emit("less", [middle, score]), names)
    if own == 1:
        first = steps.emit("sub", [score, score])
    elif positive and post == "NONE":
        one = steps.const(np.ones((1, 1), np.float32), "one")
        first = steps.emit("sub", [one, score])
    else:
        first = steps.emit("neg", [score])
    both = [post_transform(op, steps, s, post) for s in (first, score)]
    _scores(op, steps, steps.emit("concat", both, {"axis": 1}))
    return tuple(steps.nodes)


def _scores(op: Foreign, steps: Steps, scores: str) -> None:
    """Write the second output, if it is asked for."""
    if len(op.outputs) > 1:
        steps.emit("copy", [scores], output=op.outputs[1])


def regressor(op: Foreign) -> tuple[Node, ...]:
    """TreeEnsembleRegressor."""
    op.expect_inputs(1)
    op.expect_dtype(0, *_DTYPES)
    targets = _onnx.integer(op, "n_targets", 1)
    trees = _collected(op, op.type(0).dtype, "target")
    how = _onnx.word(op, "aggregate_function", "SUM", _AGGREGATES)
    post = _onnx.word(op, "post_transform", "NONE", ("NONE", "SOFTMAX", "LOGISTIC", "SOFTMAX_ZERO"))
    return _finished(op, trees, targets, how, post, _File(op).numbers("base_values"))


def _finished(
    op: Foreign, trees: Trees, targets: int, how: str, post: str, base: list[float]
) -> tuple[Node, ...]:
    """Aggregated, divided, moved and transformed."""
    steps = Steps(op)
    if targets < 1 or targets > 1 << 16 or len(base) not in (0, targets):
        raise op.error(f"has {targets} targets and {len(base)} base values")
    if how in ("MIN", "MAX"):
        _weights(op, trees, targets)
        _check_covered(op, trees, targets)
        total = _ensemble(op, steps, trees, targets, DType.F32, how.lower())
    else:
        total, _ = _totals(op, steps, trees, targets)
    if how == "AVERAGE":
        count = steps.const(np.full((1, 1), len(trees.roots), np.float32), "trees")
        total = steps.emit("div", [total, count])
    result = post_transform(op, steps, _with_base(steps, total, base), post)
    steps.emit("copy", [result], output=op.outputs[0])
    return tuple(steps.nodes)


def _check_covered(op: Foreign, trees: Trees, targets: int) -> None:
    """The least or greatest value is known only if there is one."""
    if any({t for t, _ in row} != {*range(targets)} for row in trees.rows):
        raise op.error("the least or greatest of no values", "give every leaf all targets")


def ensemble(op: Foreign) -> tuple[Node, ...]:
    """TreeEnsemble of version 5: leaves apart, modes as numbers, sets of members."""
    op.expect_inputs(1)
    op.expect_dtype(0, *_DTYPES)
    file = _File(op)
    feature = file.ints("nodes_featureids")
    count = len(feature)
    modes = [int(m) for m in file.numbers("nodes_modes", count)]
    if any(not 0 <= m < len(_MODES) for m in modes):
        raise op.error("nodes_modes has unknown modes")
    value = file.numbers("nodes_splits", count)
    missing = file.flags("nodes_missing_value_tracks_true", count)
    sides = []
    for side in ("true", "false"):
        leaf, place = (
            file.ints(f"nodes_{side}leafs", count),
            file.ints(f"nodes_{side}nodeids", count),
        )
        sides.append([~i if last else i for i, last in zip(place, leaf, strict=True)])
        if min((*place, *file.ints("tree_roots")), default=0) < 0:
            raise op.error("nodes have negative numbers")
    members = _members(op, file.numbers("membership_values"), modes)
    weights = file.numbers("leaf_weights")
    targets = file.ints("leaf_targetids", len(weights))
    nodes: dict[int, Leaf | _Branch] = {
        i: _Branch(
            _MODES[modes[i]], feature[i], 0.0 if modes[i] == 6 else value[i], sides[0][i],
            sides[1][i], bool(missing[i]), members.get(i, ()),
        )
        for i in range(count)
    }  # fmt: skip
    nodes |= {~i: Leaf(((t, w),)) for i, (t, w) in enumerate(zip(targets, weights, strict=True))}
    trees = Trees(op.type(0).dtype)
    for root in file.ints("tree_roots"):
        _add(op, trees, nodes, root)
    how = _AGGREGATES[_choice(op, "aggregate_function", 1, 4)]
    post = ("NONE", "SOFTMAX", "LOGISTIC", "SOFTMAX_ZERO")[_choice(op, "post_transform", 0, 4)]
    return _finished(op, trees, _onnx.integer(op, "n_targets", 1), how, post, [])


def _choice(op: Foreign, name: str, default: int, count: int) -> int:
    value = _onnx.integer(op, name, default)
    if not 0 <= value < count:
        raise op.error(f"attribute {name} is {value}", f"supported: 0..{count - 1}")
    return value


def _members(
    op: Foreign, values: list[float], modes: Sequence[int]
) -> dict[int, tuple[float, ...]]:
    """The sets of the nodes that ask for one, which NaN ends."""
    sets: list[list[float]] = [[]]
    for value in values:
        if np.isnan(value):
            sets.append([])
        else:
            sets[-1].append(value)
    asking = [i for i, mode in enumerate(modes) if mode == _MODES.index("BRANCH_MEMBER")]
    if len(sets) - (not sets[-1]) < len(asking):
        raise op.error("membership_values has fewer sets than nodes ask for")
    return {i: tuple(s) for i, s in zip(asking, sets, strict=False)}


IMPORTERS["onnx"].add("ai.onnx.ml.TreeEnsembleClassifier", classifier)
IMPORTERS["onnx"].add("ai.onnx.ml.TreeEnsembleRegressor", regressor)
IMPORTERS["onnx"].add("ai.onnx.ml.TreeEnsemble", ensemble)
