"""Move reshapes behind layers below the elementwise operators that follow.

Frameworks multiply [batch, time, features] by a matrix; a dense layer has rows of features. The
bias, the activation and the residual addition that come after can be fused with the layer only if
no reshape stands between.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from midge.core.types import Array, TensorType
from midge.graph.ir import OPS, Graph, Node, fresh
from midge.passes.drop_dead import drop_dead


def sink_reshapes(graph: Graph) -> Graph:
    """y = add(reshape(dense(x)), c)   ->   y = reshape(add(dense(x), c))

    c is a value of one element, one per feature or per row, or of the same shape (then it is
    reshaped, which costs nothing). Only where the last axis stays.
    """
    if not any(n.op == "reshape" for n in graph.nodes):
        return graph
    sinker = _Sinker(graph)
    for node in graph.nodes:
        sinker.node(node)
    types, consts = sinker.types, sinker.consts
    return drop_dead(replace(graph, types=types, consts=consts).with_nodes(sinker.nodes))


class _Sinker:
    """flat: of a value that is a reshaped matrix [rows, features], the matrix.  same: of a value
    that is such a matrix again, that matrix."""

    def __init__(self, graph: Graph) -> None:
        self.types: dict[str, TensorType] = dict(graph.types)
        self.consts: dict[str, Array] = dict(graph.consts)
        self.makers: Mapping[str, Node] = {o: n for n in graph.nodes for o in n.outputs}
        self.nodes: list[Node] = []
        self.flat: dict[str, str] = {}
        self.same: dict[str, str] = {}

    def node(self, node: Node) -> None:
        node = replace(node, inputs=tuple(self.same.get(n, n) for n in node.inputs))
        if node.op == "reshape":
            self.reshape(node)
        if OPS[node.op].elementwise:
            moved = self.moved(node)
            if moved is not None:
                self.nodes += moved
                return
        self.nodes.append(node)

    def reshape(self, node: Node) -> None:
        """Remembers the reshape of a dense layer's rows, and the one back."""
        (x,) = node.inputs
        (y,) = node.outputs
        if x in self.flat and self.types[self.flat[x]] == self.types[y]:
            self.same[y] = self.flat[x]
            return
        maker = self.makers.get(x)
        source, target = self.types[x].shape, self.types[y].shape
        rows = maker is not None and maker.op == "dense"
        if rows and len(target) > 2 and source[-1] == target[-1]:
            self.flat[y] = x

    def moved(self, node: Node) -> list[Node] | None:
        """The operator on matrices and a reshape of its result; None if it does not fit."""
        first = next((n for n in node.inputs if n in self.flat), None)
        y = node.outputs[0]
        if first is None or self.types[first].shape != self.types[y].shape:
            return None
        shape = self.types[self.flat[first]].shape
        before = [
            self.types[n].shape
            if i in OPS[node.op].tables
            else self.operand(n, self.types[y].shape, shape)
            for i, n in enumerate(node.inputs)
        ]
        if any(target is None for target in before):
            return None
        nodes: list[Node] = []
        inputs = [
            self.reshaped(n, t, node, nodes) for n, t in zip(node.inputs, before, strict=True)
        ]
        flat = fresh(f"{y}/rows", self.types)
        self.types[flat] = replace(self.types[y], shape=shape)
        self.flat[y] = flat
        nodes.append(replace(node, inputs=tuple(inputs), outputs=(flat,)))
        attrs = {"shape": self.types[y].shape}
        nodes.append(Node("reshape", (flat,), (y,), attrs, node.src, node.kind))
        return nodes

    def operand(
        self, name: str, full: tuple[int, ...], shape: tuple[int, ...]
    ) -> tuple[int, ...] | None:
        """The shape that an operand needs for matrices, None if it cannot be had."""
        t = self.types[name]
        own = (1,) * (len(full) - len(t.shape)) + t.shape
        if t.quant is not None and t.quant.axis is not None:
            return None
        if own == full:
            return shape
        if t.elements == 1:
            return (1,)
        if own[:-1] == full[:-1]:
            return (shape[0], 1)
        if t.elements == full[-1] == own[-1]:
            return (full[-1],)
        return None

    def reshaped(
        self, name: str, shape: tuple[int, ...] | None, node: Node, nodes: list[Node]
    ) -> str:
        """The operand under its shape for matrices, by a reshape in `nodes` if it needs one."""
        assert shape is not None
        if name in self.flat:
            return self.flat[name]
        t = self.types[name]
        if t.shape in (shape, ()):
            return name
        made = fresh(f"{name}/rows", self.types)
        self.types[made] = replace(t, shape=shape)
        if name in self.consts:
            self.consts[made] = self.consts[name].reshape(shape)
        else:
            attrs = {"shape": shape}
            nodes.append(Node("reshape", (name,), (made,), attrs, node.src, node.kind))
        return made
