"""Where ONNX Runtime computes something else than ONNX's specification, which Midge follows.

Of trees found in core/providers/cpu/ml/tree_ensemble_aggregator.h; docs/numerics.md has the list.
These outputs are judged by Midge's own reference, and `midge verify` says so.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

TWO_SCORES = (
    "of two classes with scores of their own ONNX Runtime asks whether the second score is above 0;"
    " Midge compares them, as ONNX's reference does"
)
UNSCORED = (
    "ONNX Runtime leaves out classes that no leaf has named; for Midge, as in the specification, "
    "their score is 0"
)
BASE = (
    "ONNX Runtime gives 0 for a target that no leaf has named; Midge gives its base value, as the "
    "specification says"
)
OVERFLOW = (
    "products and sums of squares or magnitudes of integers that overflow end at the limits of the "
    "type in ONNX Runtime, or anywhere; Midge's wrap"
)
_OVERFLOWING = ("ReduceL1", "ReduceL2", "ReduceProd", "ReduceSumSquare")
_WHOLE = (6, 7)  # int32 and int64 of TensorProto.DataType


def departures(model: Any) -> dict[str, str]:
    """Outputs of operators of the model -> how they differ."""
    found: dict[str, str] = {}
    whole = {o.name for o in model.graph.output if o.type.tensor_type.elem_type in _WHOLE}
    for node in model.graph.node:
        rule = _RULES.get(node.op_type)
        if rule is not None and node.domain == "ai.onnx.ml" and (how := rule(_attributes(node))):
            found |= dict.fromkeys(node.output, how)
        if node.op_type in _OVERFLOWING and not node.domain:
            found |= dict.fromkeys(whole.intersection(node.output), OVERFLOW)
    return found


def _attributes(node: Any) -> Mapping[str, Any]:
    from onnx import helper

    return {a.name: helper.get_attribute_value(a) for a in node.attribute}


def _classifier(attrs: Mapping[str, Any]) -> str:
    labels = attrs.get("classlabels_int64s") or attrs.get("classlabels_strings") or ()
    named = set(attrs.get("class_ids", ()))
    if len(labels) == 2:
        return TWO_SCORES if len(named) == 2 else ""
    below = min(attrs.get("class_weights", ()), default=0) < 0
    certain = _always_named(attrs, "class") >= set(range(len(labels)))
    return UNSCORED if below and not certain and not attrs.get("base_values") else ""


def _regressor(attrs: Mapping[str, Any]) -> str:
    moved = {i for i, v in enumerate(attrs.get("base_values", ())) if v}
    return BASE if moved - _always_named(attrs, "target") else ""


def _always_named(attrs: Mapping[str, Any], leaves: str) -> set[int]:
    """The outputs for which some tree has a value in each of its leaves."""
    keys = ("nodes_treeids", "nodes_nodeids", "nodes_modes")
    ends: dict[int, list[int]] = {}
    for tree, node, mode in zip(*(attrs.get(k, ()) for k in keys), strict=False):
        if mode == b"LEAF":
            ends.setdefault(tree, []).append(node)
    named: dict[tuple[int, int], set[int]] = {}
    columns: Sequence[Any] = [attrs.get(f"{leaves}_{k}", ()) for k in ("treeids", "nodeids", "ids")]
    for tree, node, output in zip(*columns, strict=False):
        named.setdefault((tree, node), set()).add(output)
    whole = (set.intersection(*(named.get((t, n), set()) for n in own)) for t, own in ends.items())
    return set().union(*whole)


_RULES: Mapping[str, Callable[[Mapping[str, Any]], str]] = {
    "TreeEnsembleClassifier": _classifier,
    "TreeEnsembleRegressor": _regressor,
}
