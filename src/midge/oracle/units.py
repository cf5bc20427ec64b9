"""In what errors of floats are measured: units in the last place of the largest value that a model
computes for an input, since sums in another order differ by so much, and a small result may be the
difference of large ones.

A sum counts as a sixteenth of the sum of its magnitudes, however little is left of it: the error of
adding numbers is a multiple of that (Higham, Accuracy and Stability of Numerical Algorithms, 4.2).
Means of 20 000 normal numbers in another order are 6 such units apart, without one of the numbers
thousands.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from midge.core.types import Array
from midge.graph.ir import Graph
from midge.oracle.hiding import hidden_below

_SUMS = ("sum", "mean", "avg_pool2d")
_OF_A_SUM = 1 / 16


@dataclass(frozen=True, slots=True)
class _Sum:
    """x: what is added up, `terms` numbers at a time.  parts: what the sum is divided by."""

    x: str
    terms: int
    parts: int


@dataclass(frozen=True, slots=True)
class Units:
    """Of a model. hidden: values below are no measure (`hidden_below`)."""

    hidden: float
    sums: tuple[_Sum, ...]

    @staticmethod
    def of(graph: Graph) -> Units:
        sums = []
        for node in graph.nodes:
            if node.op not in _SUMS or not graph.types[node.inputs[0]].dtype.is_float:
                continue
            x, y = graph.types[node.inputs[0]], graph.types[node.outputs[0]]
            terms = max(1, x.elements // max(1, y.elements))
            sums.append(_Sum(node.inputs[0], terms, 1 if node.op == "sum" else terms))
        return Units(hidden_below(graph), tuple(sums))

    def largest(self, values: Mapping[str, Array], others: Mapping[str, Array]) -> float:
        """The magnitude whose unit counts where a model computes `values`. others: inputs, and what
        it computes and does not show."""
        found = largest_value(values, self.hidden)
        for s in self.sums:
            x = values.get(s.x, others.get(s.x))
            if x is not None and x.size:
                seen = np.abs(x[np.isfinite(x) & (x > self.hidden)], dtype=np.float64)
                found = max(found, _OF_A_SUM * float(seen.sum()) * s.terms / x.size / s.parts)
        return found


def largest_value(values: Mapping[str, Array], hidden: float = -np.inf) -> float:
    """The largest finite magnitude among all floating tensors, without what is below `hidden`; 1.0
    if there is none."""
    floats = (a for a in values.values() if np.issubdtype(a.dtype, np.floating))
    found = (float(np.abs(a[np.isfinite(a) & (a > hidden)]).max(initial=0.0)) for a in floats)
    return max(found, default=0.0) or 1.0
