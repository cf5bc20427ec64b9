"""Numbers that models hide places with: constants far below zero, added to scores or put in their
place before a softmax, which makes nothing of them. They are no measure of how exact a model is."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from midge.core.types import Array
from midge.graph.evaluate import evaluate_node
from midge.graph.ir import Graph

_NAMING = ("copy", "flip_sign", "dequantize")  # what says what a constant's integers stand for
_FAR = -1e4  # what float16 can hold, rounded, is what such constants begin with


def hidden_below(graph: Graph) -> float:
    """Half of the constant nearest to zero that hides: values below are hidden ones. -inf if the
    graph has none."""
    found = map(_hides, _real_constants(graph))
    return max((value for value in found if value is not None), default=-np.inf) / 2


def _real_constants(graph: Graph) -> Iterator[Array]:
    """Floats, as they are or as integers stand for them."""
    known = dict(graph.consts)
    yield from (array for name, array in known.items() if graph.types[name].dtype.is_float)
    for node in graph.nodes:
        if node.op in _NAMING and node.inputs[0] in known:
            found = evaluate_node(node, graph.types, graph.consts, known)
            if node.op == "dequantize":
                yield found[node.outputs[0]]
            else:
                known.update(found)


def _hides(array: Array) -> float | None:
    """The value of a constant that is nothing else, or 0 elsewhere; None if that is not far."""
    if array.size == 0:
        return None
    least = float(array.min())
    return least if least <= _FAR and ((array == 0) | (array == least)).all() else None
