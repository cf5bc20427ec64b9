"""Move reshapes of what is computed element by element from an input to the input itself.

An image of one channel lies in memory as its transposition does, so that this is a reshape. Behind
the operators that quantise the input it hides that the rows which layers read are rows of the
input; on the input it is a view, and all that follows can be computed band by band.
"""

from __future__ import annotations

from dataclasses import replace

from midge.core.types import Array, TensorType
from midge.graph.ir import OPS, Graph, Node, fresh, live


def raise_reshapes(graph: Graph) -> Graph:
    """y = reshape(quantize(x))   ->   y = quantize(reshape(x)), where x is an input

    Only where that makes an image of several rows of what has none, and where nobody reads the
    value in between otherwise. Other operands are of one element, or constants of the same shape.
    """
    raiser = _Raiser(graph)
    for node in graph.nodes:
        raiser.node(node)
    nodes = live(raiser.nodes, graph.outputs)
    return replace(graph, types=raiser.types, consts=raiser.consts).with_nodes(nodes)


class _Raiser:
    """same: results of reshapes that another one's takes the place of."""

    def __init__(self, graph: Graph) -> None:
        self.own = graph
        self.types: dict[str, TensorType] = dict(graph.types)
        self.consts: dict[str, Array] = dict(graph.consts)
        self.makers = {o: n for n in graph.nodes for o in n.outputs}
        self.readers = graph.consumers()
        self.same: dict[str, str] = {}
        self.nodes: list[Node] = []

    def node(self, node: Node) -> None:
        if node.outputs[0] in self.same:
            return
        chain = self.chain(node) if node.op == "reshape" else []
        if chain:
            self.raise_above(chain, node)
        else:
            inputs = tuple(self.same.get(n, n) for n in node.inputs)
            self.nodes.append(replace(node, inputs=inputs))

    def chain(self, node: Node) -> list[Node]:
        """The elementwise operators from an input to what is reshaped, in order, if they can all
        have its other shape; else none."""
        value, shape = node.inputs[0], self.types[node.inputs[0]].shape
        alike = self.readers[value]
        if any((n.op, n.attrs) != (node.op, node.attrs) for n in alike):
            return []
        if not _gains_rows(shape, self.types[node.outputs[0]].shape):
            return []
        found: list[Node] = []
        unread = {o for n in alike for o in n.outputs}
        while value not in self.own.inputs:
            maker = self.makers.get(value)
            if maker is None or not OPS[maker.op].elementwise or OPS[maker.op].tables:
                return []
            if found and len(self.readers[value]) > 1:
                return []
            images = [n for n in maker.inputs if not self.is_small(n, shape)]
            if len(images) != 1 or self.types[images[0]].shape != shape:
                return []
            found.append(maker)
            unread.add(value)
            (value,) = images
        return [] if unread.intersection(self.own.outputs) else found[::-1]

    def is_small(self, name: str, shape: tuple[int, ...]) -> bool:
        """Whether an operand is of one element, or a constant of that shape."""
        t = self.types[name]
        return t.elements == 1 or (name in self.consts and t.shape == shape)

    def raise_above(self, chain: list[Node], node: Node) -> None:
        """Writes `chain` in the shape of `node`, a reshape of what it makes."""
        (y,) = node.outputs
        shape = self.types[y].shape
        alike = {o for n in self.readers[node.inputs[0]] for o in n.outputs}
        self.same |= dict.fromkeys(alike - {y}, y)
        names: dict[str, str] = {}
        for maker in chain:
            (old,) = maker.outputs
            inputs = [names.get(n) or self.operand(n, shape, maker) for n in maker.inputs]
            made = y if maker is chain[-1] else fresh(f"{old}/shaped", self.types)
            self.types[made] = replace(self.types[old], shape=shape)
            self.nodes.append(replace(maker, inputs=tuple(inputs), outputs=(made,)))
            names[old] = made

    def operand(self, name: str, shape: tuple[int, ...], maker: Node) -> str:
        """An input, a constant, or a value of one element, as it can stand beside that shape."""
        t = self.types[name]
        if t.elements == 1:
            if len(t.shape) <= len(shape):
                return name
            shape = ()
        made = fresh(f"{name}/shaped", self.types)
        self.types[made] = replace(t, shape=shape)
        if name in self.consts:
            self.consts[made] = self.consts[name].reshape(shape)
        else:
            attrs = {"shape": shape}
            self.nodes.append(Node("reshape", (name,), (made,), attrs, maker.src, maker.kind))
        return made


def _gains_rows(before: tuple[int, ...], after: tuple[int, ...]) -> bool:
    """Whether a reshape makes an image of rows, where there was one row or no image."""
    return _rows(before) <= 1 < _rows(after)


def _rows(shape: tuple[int, ...]) -> int:
    return shape[1] if len(shape) == 4 and shape[0] == 1 else 0
