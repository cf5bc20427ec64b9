"""Powers that every framework's kernels write otherwise: squares, cubes, roots, reciprocals."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from midge.core.types import Array, DType, TensorType
from midge.graph.ir import Graph, Node, fresh


def spell_powers(graph: Graph) -> Graph:
    """y = pow(x, 3)   ->   y = mul(mul(x, x), x);  pow(x, 0.5)   ->   sqrt(x)

    Of floats, for a constant exponent of one element: 1, 2, 3, -1, 1/2, -1/2.
    """
    speller = _Speller(dict(graph.types), dict(graph.consts))
    nodes = [made for node in graph.nodes for made in speller.spelled(node)]
    return replace(graph, types=speller.types, consts=speller.consts).with_nodes(nodes)


@dataclass(slots=True)
class _Speller:
    types: dict[str, TensorType]
    consts: dict[str, Array]

    def spelled(self, node: Node) -> list[Node]:
        x, y = node.inputs[0], node.outputs[0]
        exponent = self.consts.get(node.inputs[1]) if node.op == "pow" else None
        if exponent is None or exponent.size != 1 or self.types[y].dtype is not DType.F32:
            return [node]
        rule = _RULES.get(float(exponent.reshape(())))
        alike = self.types[x] == self.types[y]
        return rule(self, node) if rule is not None and alike else [node]

    def cube(self, node: Node) -> list[Node]:
        (x, _), (y,) = node.inputs, node.outputs
        square = fresh(f"{y}/square", self.types)
        self.types[square] = self.types[y]
        return [
            replace(node, op="mul", inputs=(x, x), outputs=(square,)),
            replace(node, op="mul", inputs=(square, x)),
        ]

    def reciprocal(self, node: Node) -> list[Node]:
        one = fresh(f"{node.outputs[0]}/one", self.types)
        self.consts[one], self.types[one] = np.ones(1, np.float32), TensorType((1,), DType.F32)
        return [replace(node, op="div", inputs=(one, node.inputs[0]))]


def _as(op: str, count: int = 1) -> Callable[[_Speller, Node], list[Node]]:
    return lambda _, node: [replace(node, op=op, inputs=node.inputs[:1] * count)]


_RULES: dict[float, Callable[[_Speller, Node], list[Node]]] = {
    1.0: _as("copy"),
    2.0: _as("mul", 2),
    3.0: _Speller.cube,
    -1.0: _Speller.reciprocal,
    0.5: _as("sqrt"),
    -0.5: _as("rsqrt"),
}
