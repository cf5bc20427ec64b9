"""Concatenations whose parts are written into them, instead of being copied."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from math import prod

from midge.core.types import TensorType
from midge.graph.attrs import integer
from midge.graph.ir import OPS, Attr, Graph, Node, fresh
from midge.passes.fold_constants import fold_constants

_MOST = 256  # operands of a concatenation


def join_parts(graph: Graph) -> Graph:
    """y = concat(a, x)   ->   x' = copy(x); y = concat(a, x', joined=1)

    where a is made for y only, and x is not. A concatenation of concatenations becomes one, and
    functions of its elements go to its parts: f(concat(a, b)) -> concat(f(a), f(b)).
    """
    while (found := _flattened(graph) or _distributed(graph)) is not None:
        graph = fold_constants(found)
    return _Joiner(graph, dict(graph.types)).run()


def _uses(graph: Graph) -> dict[str, int]:
    uses = {name: len(nodes) for name, nodes in graph.consumers().items()}
    for name in graph.outputs:
        uses[name] = uses.get(name, 0) + 2
    return uses


def _flattened(graph: Graph) -> Graph | None:
    """The graph with one concatenation less, None if no two meet."""
    uses = _uses(graph)
    made = {n.outputs[0]: n for n in graph.nodes if n.op == "concat"}
    for node in made.values():
        for place, value in enumerate(node.inputs):
            inner = made.get(value)
            if inner is None or uses[value] > 1 or inner.attrs["axis"] != node.attrs["axis"]:
                continue
            inputs = (*node.inputs[:place], *inner.inputs, *node.inputs[place + 1 :])
            if len(inputs) > _MOST:
                continue
            whole = replace(node, inputs=inputs)
            nodes = (whole if n is node else n for n in graph.nodes if n is not inner)
            return graph.with_nodes(nodes)
    return None


def _distributed(graph: Graph) -> Graph | None:
    """The graph with one function moved before a concatenation, None if there is none."""
    uses = _uses(graph)
    made = {n.outputs[0]: n for n in graph.nodes if n.op == "concat"}
    for node in graph.nodes:
        concat = made.get(node.inputs[0]) if node.inputs else None
        if concat is None or uses[node.inputs[0]] > 1 or not _of_one_element(graph, node):
            continue
        types = dict(graph.types)
        parts: list[Node] = []
        for value in concat.inputs:
            name = fresh(f"{value}/{node.op}", types)
            made_type = types[node.outputs[0]]
            types[name] = TensorType(types[value].shape, made_type.dtype, made_type.quant)
            parts.append(replace(node, inputs=(value, *node.inputs[1:]), outputs=(name,)))
        whole = replace(concat, inputs=tuple(p.outputs[0] for p in parts), outputs=node.outputs)
        nodes: list[Node] = []
        for n in graph.nodes:
            if n is not concat:
                nodes += [*parts, whole] if n is node else [n]
        return replace(graph, types=types).with_nodes(nodes)
    return None


def _of_one_element(graph: Graph, node: Node) -> bool:
    """Whether each element of the result depends on one of input 0 only, and on no place."""
    op = OPS[node.op]
    if (
        not op.elementwise
        or graph.types[node.outputs[0]].shape != graph.types[node.inputs[0]].shape
    ):
        return False
    others = enumerate(node.inputs[1:], 1)
    return all(
        v in graph.consts and (i in op.tables or graph.consts[v].size == 1) for i, v in others
    )


def joinable(node: Node, types: Mapping[str, TensorType]) -> bool:
    """Whether each part lies in one piece, or with the same distance from pixel to pixel."""
    axis, shape = integer(node.attrs, "axis"), types[node.outputs[0]].shape
    return len(node.inputs) > 1 and (axis == len(shape) - 1 or prod(shape[:axis]) == 1)


@dataclass(slots=True)
class _Joiner:
    graph: Graph
    types: dict[str, TensorType]
    makers: dict[str, Node] = field(init=False)
    uses: dict[str, int] = field(init=False)

    def __post_init__(self) -> None:
        self.makers = {n.outputs[0]: n for n in self.graph.nodes}
        self.uses = _uses(self.graph)

    def run(self) -> Graph:
        nodes: list[Node] = []
        for node in self.graph.nodes:
            if node.op != "concat" or not joinable(node, self.types):
                nodes.append(node)
                continue
            own = [self.owned(value, node) for value in node.inputs]
            if not any(own):
                nodes.append(node)
                continue
            parts = []
            for value, is_own in zip(node.inputs, own, strict=True):
                parts.append(value if is_own else self.copy(value, node, nodes))
            attrs: dict[str, Attr] = {**node.attrs, "joined": 1}
            nodes.append(replace(node, inputs=tuple(parts), attrs=attrs))
        return replace(self.graph, types=self.types).with_nodes(nodes)

    def owned(self, value: str, node: Node) -> bool:
        """Whether `value` is computed for this concatenation only."""
        one_piece = integer(node.attrs, "axis") != len(self.types[node.outputs[0]].shape) - 1
        while value in self.makers and self.uses[value] == 1:
            maker = self.makers[value]
            if not OPS[maker.op].alias:
                return maker.op != "concat" and self.types[value].elements > 0
            if not one_piece:
                return False
            value = maker.inputs[0]
        return False

    def copy(self, value: str, node: Node, nodes: list[Node]) -> str:
        name = fresh(f"{value}/part", self.types)
        self.types[name] = self.types[value]
        nodes.append(Node("copy", (value,), (name,), {}, node.src, node.kind))
        return name
