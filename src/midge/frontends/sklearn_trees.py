"""The trees of scikit-learn's estimators: how they split, and what their leaves hold."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np

from midge.core.errors import ModelError
from midge.core.types import Array, DType
from midge.graph.trees import MISSING, Leaf, Row, Split


@dataclass(frozen=True, slots=True)
class Source:
    """A tree of scikit-learn. leaf: the values of a node (targets,)."""

    split: Callable[[int], Split | None]
    leaf: Callable[[int], Array]
    leaves: Array  # the numbers of nodes that are leaves


def of_tree(estimator: Any) -> Source:
    tree = estimator.tree_
    missing = tree.missing_go_to_left

    def split(number: int) -> Split | None:
        then, other = int(tree.children_left[number]), int(tree.children_right[number])
        if then < 0:
            return None
        mode = MISSING if missing[number] else 0
        threshold = float(tree.threshold[number])
        return Split(int(tree.feature[number]), threshold, then, other, mode)

    return Source(split, lambda n: tree.value[n], np.flatnonzero(tree.children_left < 0))


def of_histogram(predictor: Any, fail: Callable[[str, str], ModelError]) -> Source:
    nodes = predictor.nodes
    if nodes["is_categorical"].any():
        raise fail("splits by categories", "encode them as numbers: OrdinalEncoder, OneHotEncoder")

    def split(number: int) -> Split | None:
        node = nodes[number]
        if node["is_leaf"]:
            return None
        mode = MISSING if node["missing_go_to_left"] else 0
        then, other = int(node["left"]), int(node["right"])
        return Split(int(node["feature_idx"]), float(node["num_threshold"]), then, other, mode)

    leaves = np.flatnonzero(nodes["is_leaf"])
    return Source(split, lambda n: np.array([[nodes["value"][n]]]), leaves)


def nodes_of(source: Source, rows: dict[int, Any]) -> Callable[[int], Leaf | Split]:
    def node(number: int) -> Leaf | Split:
        found = source.split(number)
        return found if found is not None else Leaf(rows[number])

    return node


def values_of(source: Source) -> dict[int, float]:
    """The value of each leaf of a tree with one."""
    return {int(n): float(source.leaf(n)[0, 0]) for n in source.leaves}


def shares_of(source: Source, count: int) -> dict[int, Array]:
    """What each leaf holds probable."""
    result = {}
    for n in source.leaves:
        own = np.asarray(source.leaf(n)[0, :count], np.float64)
        # fractions since scikit-learn 1.3, weights of samples before
        result[int(n)] = own if abs(own.sum() - 1) < 1e-9 else own / own.sum()
    return result


def fixed(value: float, factor: Fraction) -> int:
    """value * factor to the nearest integer, without rounding in between."""
    numerator, denominator = float(value).as_integer_ratio()
    top, bottom = numerator * factor.numerator, denominator * factor.denominator
    return (2 * top + bottom) // (2 * bottom)


def row_of(values: Array, factors: Sequence[Fraction], dense: bool, dtype: DType) -> Row:
    """What a leaf adds; all targets where it is dense."""
    pairs = zip(values.tolist(), factors, strict=True)
    stored = (
        values.astype(np.float32).tolist()
        if dtype is DType.F32
        else [fixed(v, factor) for v, factor in pairs]
    )
    return tuple((t, v) for t, v in enumerate(stored) if dense or v != 0)


MOST_VALUE = float(np.finfo(np.float32).max)


def check_values(sums: Array, fail: Callable[[str, str], ModelError]) -> None:
    """ModelError if what the leaves add up to, at most, is no binary32 number."""
    if not (np.abs(sums) <= MOST_VALUE).all():
        raise fail("predicts values that no 32-bit float holds", "scale the target when training")
