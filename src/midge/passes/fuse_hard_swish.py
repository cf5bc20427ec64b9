"""Recognise hard swish where a framework has spelled it out: as one operator it is one loop, and
quantised one table."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace

from midge.core.types import DType
from midge.graph.attrs import number
from midge.graph.ir import Graph, Node
from midge.graph.islands import becoming_integers

_CLOSE = 1e-5


def fuse_hard_swish(graph: Graph) -> Graph:
    """y = x * hard_sigmoid(x)   ->   y = hard_swish(x)

    Also with clip(x + 3, 0, 6) / 6 in place of hard_sigmoid(x), divided before or after the
    product. What lies between may have other readers. The result is rounded otherwise, so what
    becomes integers stays.
    """
    if not any(n.op in ("hard_sigmoid", "clip") for n in graph.nodes):
        return graph
    ramps, decisive, types = _Ramps(graph), becoming_integers(graph), graph.types
    made = {n.outputs[0]: ramps.hard_swish(n) for n in graph.nodes}
    found = {
        y: x
        for y, x in made.items()
        if x and y not in decisive and types[x].shape == types[y].shape
    }
    return graph.with_nodes(
        replace(n, op="hard_swish", inputs=(found[n.outputs[0]],), attrs={})
        if n.outputs[0] in found
        else n
        for n in graph.nodes
    )


class _Ramps:
    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.makers: Mapping[str, Node] = {o: n for n in graph.nodes for o in n.outputs}

    def hard_swish(self, node: Node) -> str | None:
        """What the node is a hard swish of."""
        if self.graph.types[node.outputs[0]].dtype is not DType.F32 or "activation" in node.attrs:
            return None
        if node.op == "mul":
            a, b = node.inputs
            if self.is_ramp(b, a, 1.0):
                return a
            if self.is_ramp(a, b, 1.0):
                return b
        divided = self.divided(node)
        if divided is None:
            return None
        product = self.makers.get(divided[0])
        if product is None or product.op != "mul" or "activation" in product.attrs:
            return None
        a, b = product.inputs
        pairs = [(x, r) for x, r in ((a, b), (b, a)) if self.is_ramp(r, x, divided[1])]
        return pairs[0][0] if pairs else None

    def is_ramp(self, name: str, x: str, factor: float) -> bool:
        """Whether factor * the value is clip(x + 3, 0, 6) / 6."""
        node = self.makers.get(name)
        if node is None or "activation" in node.attrs:
            return False
        if node.op == "hard_sigmoid" and node.inputs == (x,):
            ends = (number(node.attrs, "alpha"), number(node.attrs, "beta"))
            return _near(ends[0], 1 / 6) and _near(ends[1], 0.5) and _near(factor, 1.0)
        if (part := self.divided(node)) is not None:
            return self.is_ramp(part[0], x, factor * part[1])
        if node.op != "clip" or not _near(factor, 1 / 6):
            return False
        limits = (number(node.attrs, "low"), number(node.attrs, "high"))
        moved = self.makers.get(node.inputs[0])
        if limits != (0.0, 6.0) or moved is None or moved.op != "add" or x not in moved.inputs:
            return False
        (other,) = (n for n in moved.inputs if n != x) if moved.inputs != (x, x) else (x,)
        return self.scalar(other) == 3.0 and "activation" not in moved.attrs

    def divided(self, node: Node) -> tuple[str, float] | None:
        """The value that a node multiplies by a constant, and the constant."""
        if node.op not in ("mul", "div"):
            return None
        for value, other in (node.inputs, node.inputs[::-1]):
            factor = self.scalar(other)
            if factor:
                if node.op == "mul":
                    return value, factor
                if other == node.inputs[1]:
                    return value, 1 / factor
        return None

    def scalar(self, name: str) -> float | None:
        array = self.graph.consts.get(name)
        return float(array.reshape(())) if array is not None and array.size == 1 else None


def _near(a: float, b: float) -> bool:
    return math.isclose(a, b, rel_tol=_CLOSE)
