"""Parts of a plain graph that compute one byte from few bytes, element by element.

What such a part computes is a function with so few arguments that all of them can be tried: the
passes that look for a cheaper spelling of it need not know how it is spelled.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from midge.core.types import Array, DType
from midge.graph.ir import OPS, Attrs, Graph, Node

_MOST_NODES = 64
BYTES = np.arange(-128, 128).astype(np.int8)


@dataclass(frozen=True, slots=True)
class Region:
    """Elementwise nodes in topological order, and the int8 tensors that they read, in order of
    definition. Everything else that they read is constant. Nobody outside reads any value but the
    last one's, unless the region may share nodes."""

    nodes: tuple[Node, ...]
    roots: tuple[str, ...]

    @property
    def output(self) -> str:
        return self.nodes[-1].outputs[0]

    def as_node(self, op: str, inputs: Sequence[str], attrs: Attrs) -> Node:
        """One node in place of all; it says where each of them came from."""
        src = ", ".join(dict.fromkeys(n.src for n in self.nodes))
        kind = "+".join(dict.fromkeys(n.kind for n in self.nodes if n.kind))
        return Node(op, tuple(inputs), (self.output,), attrs, src, kind)


class Regions:
    """Finds regions of `graph`. shared: nodes of which others read the values may be in them, too;
    these nodes stay."""

    def __init__(self, graph: Graph, *, shared: bool = False) -> None:
        self.graph, self._shared = graph, shared
        self._readers = graph.consumers()
        self._makers = {n.outputs[0]: n for n in graph.nodes}
        self._position = {n.outputs[0]: i for i, n in enumerate(graph.nodes)}

    def ending_with(self, node: Node) -> Iterator[Region]:
        """The regions whose last node is `node`, each a part of the one after it."""
        region = self._closed((node,))
        while region is not None:
            yield region
            inner = [r for r in region.roots if self._is_private(r, region.nodes)]
            if not inner:
                return
            region = self._closed((self._makers[inner[-1]], *region.nodes))

    def freed(self, region: Region) -> list[Node]:
        """The nodes of a region that nobody needs once its output is computed otherwise."""
        found = [region.nodes[-1]]
        for node in reversed(region.nodes[:-1]):
            if self._is_private(node.outputs[0], tuple(found)):
                found.append(node)
        return found

    def _closed(self, nodes: tuple[Node, ...]) -> Region | None:
        """The least region that holds `nodes`; None if there is none."""
        while len(nodes) <= _MOST_NODES and all(OPS[n.op].elementwise for n in nodes):
            roots = self._roots(nodes)
            wide = [r for r in roots if self.graph.types[r].dtype is not DType.I8]
            if not wide:
                order = sorted(nodes, key=lambda n: self._position[n.outputs[0]])
                return Region(tuple(order), tuple(roots))
            makes = self._shared and wide[-1] in self._makers
            if not (makes or self._is_private(wide[-1], nodes)):
                return None
            nodes = (self._makers[wide[-1]], *nodes)
        return None

    def _roots(self, nodes: tuple[Node, ...]) -> list[str]:
        """What `nodes` read that none of them makes, without constants, the last one last."""
        made = {n.outputs[0] for n in nodes}
        read = dict.fromkeys(v for n in nodes for v in n.inputs)
        roots = [v for v in read if v not in made and v not in self.graph.consts]
        return sorted(roots, key=lambda v: self._position.get(v, -1))

    def _is_private(self, value: str, nodes: tuple[Node, ...]) -> bool:
        """Whether a node makes `value`, and only `nodes` read it."""
        if value not in self._makers or value in self.graph.outputs:
            return False
        outputs = {n.outputs[0] for n in nodes}
        return all(n.outputs[0] in outputs for n in self._readers[value])


def tabulate(region: Region, graph: Graph, roots: Mapping[str, Array]) -> Array:
    """What the region computes for `roots`, by the operators' references. Its constants broadcast
    as their last axis, or not at all."""
    return computed(region, graph, roots, reference)


def reference(node: Node, inputs: Sequence[Array]) -> Array:
    (result,) = OPS[node.op].reference(inputs, node.attrs)
    return result


def computed(
    region: Region,
    graph: Graph,
    roots: Mapping[str, Array],
    step: Callable[[Node, Sequence[Array]], Array],
) -> Array:
    """As `tabulate`, each node computed by `step` from its inputs."""
    values = dict(roots)
    for node in region.nodes:
        for i, v in enumerate(node.inputs):
            if v in graph.consts:
                is_table = i in OPS[node.op].tables
                values[v] = graph.consts[v] if is_table else _flat(graph.consts[v])
        values[node.outputs[0]] = step(node, [values[v] for v in node.inputs])
    return values[region.output]


def _flat(array: Array) -> Array:
    return array.reshape(() if array.size == 1 else -1)


def vectors(region: Region, graph: Graph) -> list[str]:
    """The constants of more than one element that the region reads element by element."""
    return [
        v
        for node in region.nodes
        for i, v in enumerate(node.inputs)
        if v in graph.consts and i not in OPS[node.op].tables and graph.types[v].elements != 1
    ]
