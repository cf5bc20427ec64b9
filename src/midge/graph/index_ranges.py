"""Which inputs of a graph are indices into tables, and how far these go.

Walked backwards: what reads indices says how many entries there are, what moves or shifts numbers
says what that means for its inputs. Operator files fill the table:
INDEX_RULES.add("transpose", moved).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import prod

import numpy as np

from midge.core.errors import UsageError
from midge.core.registry import Registry
from midge.core.types import Array
from midge.graph.ir import OPS, Graph, Node

_MOST = 1 << 22  # elements of what is looked at
_FIRST = 1 << 40  # numbers of elements, which are not taken for what an operator fills in


@dataclass(frozen=True, slots=True)
class Wanted:
    """Of each element of a value the least and greatest index; infinite where any will do."""

    low: Array
    high: Array

    def reduced(self, shape: tuple[int, ...]) -> Wanted:
        """What it means for an operand of `shape` that was broadcast to it."""
        lead = self.low.ndim - len(shape)
        axes = (
            *range(lead),
            *(d + lead for d, n in enumerate(shape) if n == 1 and self.low.shape[d + lead] != 1),
        )
        low, high = self.low.max(axes, keepdims=True), self.high.min(axes, keepdims=True)
        return Wanted(low.reshape(shape), high.reshape(shape))

    def shifted(self, by: Array) -> Wanted:
        return Wanted(self.low + by, self.high + by)


Rule = Callable[[Graph, Node, "Wanted | None"], Mapping[int, Wanted]]
"""(graph, node, what is wanted of its output) -> what is wanted of its inputs, by position."""

INDEX_RULES: Registry[Rule] = Registry("operator with a rule for indices", UsageError)


def index_ranges(graph: Graph) -> dict[str, Wanted]:
    """The inputs that are indices, and of what. A wish that leaves an element no value is dropped:
    it came by another way through the graph than the one that counts."""
    found: dict[str, Wanted] = {}
    for node in reversed(graph.nodes):
        rule = INDEX_RULES.get(node.op)
        if rule is None or any(graph.types[n].elements > _MOST for n in node.inputs):
            continue
        for i, wanted in rule(graph, node, found.get(node.outputs[0])).items():
            name = node.inputs[i]
            have = found.get(name)
            both = wanted if have is None else _both(have, wanted)
            if both is not None:
                found[name] = both
    return {n: found[n] for n in graph.inputs if n in found}


def _both(a: Wanted, b: Wanted) -> Wanted | None:
    low, high = np.maximum(a.low, b.low), np.minimum(a.high, b.high)
    return Wanted(low, high) if (low <= high).all() else None


def within(shape: tuple[int, ...], extents: Array | int) -> Wanted:
    """Indices of `shape`, each below its extent (broadcast)."""
    high = np.broadcast_to(np.asarray(extents, np.float64) - 1, shape)
    return Wanted(np.zeros(shape), high)


def same(graph: Graph, node: Node, wanted: Wanted | None) -> Mapping[int, Wanted]:
    """Of an elementwise operator whose output is, or lies between, its operands."""
    if wanted is None:
        return {}
    return {i: wanted.reduced(graph.types[n].shape) for i, n in enumerate(node.inputs)}


def moved(graph: Graph, node: Node, wanted: Wanted | None) -> Mapping[int, Wanted]:
    """Of an operator that only moves elements: its reference, on their numbers, says where."""
    if wanted is None:
        return {}
    shapes = [graph.types[n].shape for n in node.inputs]
    starts = np.cumsum([0, *(prod(s) for s in shapes)])
    numbers = [
        np.arange(start, start + prod(s)).reshape(s) + _FIRST
        for start, s in zip(starts, shapes, strict=False)
    ]
    (result,) = OPS[node.op].reference(numbers, node.attrs)
    at = result.reshape(-1) - _FIRST
    real = (at >= 0) & (at < starts[-1])
    low, high = np.full(starts[-1], -np.inf), np.full(starts[-1], np.inf)
    np.maximum.at(low, at[real], wanted.low.reshape(-1)[real])
    np.minimum.at(high, at[real], wanted.high.reshape(-1)[real])
    parts = zip(np.split(low, starts[1:-1]), np.split(high, starts[1:-1]), shapes, strict=True)
    return {i: Wanted(a.reshape(s), b.reshape(s)) for i, (a, b, s) in enumerate(parts)}
