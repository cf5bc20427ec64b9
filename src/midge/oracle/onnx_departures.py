"""Where ONNX Runtime computes something else than ONNX's specification, which Midge follows.

Of trees found in core/providers/cpu/ml/tree_ensemble_aggregator.h; docs/numerics.md has the list.
These outputs are judged by Midge's own reference, and `midge verify` says so. Casts of floats that
the integer type cannot hold are undefined; the judge is given limits there, so that it judges all
other elements, and what is made of these.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from midge.core.types import DType
from midge.graph.ir import Graph
from midge.graph.onnx_types import DTYPES

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


@dataclass(frozen=True, slots=True)
class Limited:
    """A cast of floats to integers. inside: the value of the model, bool, that says which fit."""

    output: str
    inside: str
    dtype: DType

    def note(self, outside: int, elements: int) -> str:
        return (
            f"{self.output}: {outside} of {elements} floats are no {self.dtype.value}, for which "
            "ONNX defines no result; they are limited to it, NaN to 0, before ONNX Runtime goes on"
        )


def limit_casts(model: Any, graph: Graph) -> tuple[Limited, ...]:
    """Adds limits to the model, where a float becomes an integer:

    y = Cast(x)   ->   y = Cast(Where(low < x < high, Cast(Cast(x), i64), x > 0 ? max : x < 0 ? min
    : 0)), by operators that ONNX Runtime has for all types.
    """
    if max((o.version for o in model.opset_import if o.domain in ("", "ai.onnx")), default=0) < 9:
        return ()
    found, nodes = [], []
    for node in model.graph.node:
        nodes.append(node)
        if node.op_type not in ("Cast", "CastLike") or node.domain:
            continue
        ends = [graph.types.get(n) for n in (node.input[0], node.output[0])]
        if ends[0] is None or ends[1] is None:
            continue
        if ends[0].dtype is DType.F32 and ends[1].dtype.is_integer:
            limited = Limited(node.output[0], f"{node.output[0]}/inside", ends[1].dtype)
            nodes += _limits(node, limited)
            found.append(limited)
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    return tuple(found)


def _limits(cast: Any, limited: Limited) -> list[Any]:
    """What follows the cast, whose own result takes another name."""
    from onnx import TensorProto, helper, numpy_helper

    x, y, dtype = cast.input[0], limited.output, limited.dtype
    cast.output[0] = f"{y}/undefined"
    codes = {known: code for code, known in DTYPES.items()}
    low, high = np.float32(dtype.min - 1), np.float32(dtype.max + 1)
    if low == dtype.min:  # a float has not the digits: the next one below
        low = np.nextafter(low, np.float32(-np.inf))
    values = {
        "low": low, "high": high, "zero": np.float32(0), "least": np.int64(dtype.min),
        "most": np.int64(dtype.max), "none": np.int64(0),
    }  # fmt: skip
    nodes = [
        helper.make_node("Constant", [], [f"{y}/{n}"], value=numpy_helper.from_array(np.array(v)))
        for n, v in values.items()
    ]
    for kind, inputs, output in (
        ("Greater", (x, f"{y}/low"), "above"), ("Less", (x, f"{y}/high"), "below"),
        ("And", (f"{y}/above", f"{y}/below"), "inside"),
        ("Greater", (x, f"{y}/zero"), "positive"), ("Less", (x, f"{y}/zero"), "negative"),
        ("Where", (f"{y}/negative", f"{y}/least", f"{y}/none"), "lower"),
        ("Where", (f"{y}/positive", f"{y}/most", f"{y}/lower"), "limit"),
    ):  # fmt: skip
        nodes.append(helper.make_node(kind, inputs, [f"{y}/{output}"]))
    wide = helper.make_node("Cast", [cast.output[0]], [f"{y}/wide"], to=TensorProto.INT64)
    chosen = helper.make_node("Where", [limited.inside, f"{y}/wide", f"{y}/limit"], [f"{y}/chosen"])
    narrow = helper.make_node("Cast", [f"{y}/chosen"], [y], to=codes[dtype])
    return [*nodes, wide, chosen, narrow]


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
