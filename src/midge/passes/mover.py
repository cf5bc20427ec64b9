"""The graph in which transpositions move: values are views until somebody needs them as such."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from math import prod

import numpy as np

from midge.core.types import Array
from midge.graph.ir import OPS, Attr, Graph, Node, fresh
from midge.passes.views import View, frame


class Mover:
    """Values of the graph are views until somebody needs them as they are."""

    def __init__(self, graph: Graph) -> None:
        self.types = dict(graph.types)
        self.consts = dict(graph.consts)
        self.nodes: list[Node] = []
        self.views: dict[str, View] = {}
        self.source: dict[str, Node] = {}  # who made a view, for the notes of its nodes
        self.made: dict[tuple[str, tuple[int, ...], object], str] = {}

    def keep(self, node: Node) -> None:
        """A node that reads values as they are."""
        self.nodes.append(replace(node, inputs=tuple(map(self.real, node.inputs))))

    # Values.

    def view(self, name: str) -> View:
        return self.views.get(name) or View.of(name, self.types[name].shape)

    def is_view(self, name: str) -> bool:
        """Whether the value would cost a transposition."""
        return name in self.views and not self.views[name].in_order

    def look(self, node: Node, view: View) -> bool:
        """The node's output is this view; True."""
        (name,) = node.outputs
        self.views[name], self.source[name] = view, node
        return True

    def real(self, name: str) -> str:
        """The value as it is: another one that is the same, or written here."""
        view = self.views.get(name)
        if view is None:
            return name
        shape = self.types[name].shape
        same = view.value if view.in_order else self.made.get(self.key(view))
        if same is not None and self.types[same].shape == shape:
            return same
        del self.views[name]
        if same is not None:
            self.emit("reshape", same, {"shape": shape}, self.source[name], name)
            return name
        self.write(view, shape, self.source[name], name)
        self.made[self.key(view)] = name
        return name

    def outputs(self, graph: Graph) -> None:
        """Writes the outputs of the graph, under their own names whatever they are called here."""
        values = {name: self.real(name) for name in graph.outputs}
        own = {value: name for name, value in values.items() if value not in graph.types}
        self.nodes = [renamed(node, own) for node in self.nodes]
        for name, value in values.items():
            if name not in (value, own.get(value)):
                source = own.get(value, value)
                self.types[source] = self.types[name]
                self.emit(
                    "reshape", source, {"shape": self.types[name].shape}, self.source[name], name
                )

    def write(self, view: View, shape: tuple[int, ...], node: Node, output: str) -> None:
        """The nodes that transpose what `view` looks at and write it under `shape` to `output`."""
        value, perm = view.value, view.permutation()
        if view.shape != self.types[value].shape:
            core = tuple(n for n in view.shape if n != 1)
            rank = {a: i for i, a in enumerate(sorted(view.order))}
            value = self.as_shape(value, core, node)
            perm = tuple(rank[a] for a in view.order)
        elif perm is None:
            spare = (a for a, n in enumerate(view.shape) if n == 1)
            perm = (*spare, *view.order)
        turned = tuple(self.types[value].shape[p] for p in perm)
        if turned == shape:
            self.emit("transpose", value, {"perm": perm}, node, output)
            return
        middle = self.emit("transpose", value, {"perm": perm}, node)
        self.emit("reshape", middle, {"shape": shape}, node, output)

    def emit(
        self,
        op: str,
        value: str,
        attrs: Mapping[str, Attr],
        node: Node,
        output: str = "",
    ) -> str:
        name = output or fresh(f"{node.outputs[0]}/{op}", self.types)
        (result,) = OPS[op].infer([self.types[value]], attrs)
        self.types[name] = replace(self.types[value], shape=result.shape)
        self.nodes.append(Node(op, (value,), (name,), attrs, node.src, node.kind))
        return name

    def as_shape(self, value: str, shape: tuple[int, ...], node: Node) -> str:
        """The value under another shape, for free."""
        if self.types[value].shape == shape:
            return value
        if value in self.consts:
            return self.constant(value, self.consts[value].reshape(shape))
        key = (value, shape, None)
        if key not in self.made:
            self.made[key] = self.emit("reshape", value, {"shape": shape}, node)
        return self.made[key]

    def constant(self, name: str, array: Array) -> str:
        new = fresh(f"{name}/moved", self.types)
        self.types[new] = replace(self.types[name], shape=array.shape)
        self.consts[new] = np.ascontiguousarray(array)
        return new

    def cost(self, view: View) -> int:
        """Elements that are moved to write a view."""
        if view.in_order or view.value in self.consts or self.key(view) in self.made:
            return 0
        return prod(view.shape)

    def key(self, view: View) -> tuple[str, tuple[int, ...], object]:
        return (view.value, view.shape, view.order)

    def laid_out(self, view: View, shape: tuple[int, ...], node: Node) -> str:
        """The value that a view shows, under `shape`, written at most once."""
        if view.in_order:
            return self.as_shape(view.value, shape, node)
        if view.value in self.consts:
            array = view.computed(self.consts[view.value]).reshape(shape)
            return self.constant(view.value, array)
        key = self.key(view)
        if key not in self.made:
            name = fresh(f"{node.outputs[0]}/transpose", self.types)
            self.types[name] = replace(self.types[view.value], shape=shape)
            self.made[key] = name
            self.write(view, shape, node, name)
        return self.as_shape(self.made[key], shape, node)

    def settled(self, view: View, node: Node) -> View:
        """The same view of a tensor in which each of its axes is one, the axes in the order in
        which they begin in what it looks at so far."""
        order = sorted((g for g in view.groups if g), key=min)
        merged = View(view.value, view.shape, tuple(order))
        value = self.laid_out(merged, merged.extents, node)
        place = {g: (i,) for i, g in enumerate(order)}
        return View(value, merged.extents, tuple(place.get(g, ()) for g in view.groups))

    # Operators.

    def finish(self, node: Node, inputs: Sequence[str], attrs: Mapping[str, Attr], v: View) -> bool:
        """The node on what views look at; its output is a view as `v` is of its own result."""
        (output,) = node.outputs
        types = [self.types[n] for n in inputs]
        (result,) = OPS[node.op].infer(types, attrs)
        name = fresh(f"{output}/moved", self.types)
        self.types[name] = replace(self.types[output], shape=result.shape)
        moved = replace(node, inputs=tuple(inputs), outputs=(name,), attrs=attrs)
        self.nodes.append(moved)
        groups = tuple(tuple(a for a in g if result.shape[a] != 1) for g in v.groups)
        return self.look(node, View(name, result.shape, groups))

    def combined(self, node: Node, names: Sequence[str], axis: int | None) -> bool:
        """An operator on several tensors of one order of axes, along `axis` of own lengths."""
        leader = self.leader(node, names, axis)
        if leader is None or (axis is not None and len(leader.groups[axis]) != 1):
            return False
        framed: dict[str, View] = {}
        for name in names:
            if self.types[name].elements == 1:
                continue
            found = self.framed(leader, name, axis)
            if found is None:
                self.real(name)
                found = self.framed(leader, name, axis)
            if found is None:
                return False
            framed[name] = found
        stay = sum(self.types[n].elements for n in {*names} if self.is_view(n))
        if sum(map(self.cost, framed.values())) >= stay:
            return False
        inputs = [
            self.laid_out(framed[n], framed[n].extents, node)
            if n in framed
            else self.single(n, len(leader.shape), node)
            for n in node.inputs
        ]
        attrs = dict(node.attrs)
        if axis is not None:
            attrs["axis"] = leader.groups[axis][0]
        return self.finish(node, inputs, attrs, leader)

    def single(self, name: str, rank: int, node: Node) -> str:
        """A value of one element that adds no axes to those of `rank` axes."""
        value = self.real(name)
        more = len(self.types[value].shape) > rank
        return self.as_shape(value, (1,) * rank, node) if more else value

    def framed(self, leader: View, name: str, axis: int | None) -> View | None:
        """A value as it is combined with what the leader looks at."""
        operand = self.view(name).padded_to(len(leader.groups))
        own = [n if d == axis else None for d, n in enumerate(operand.extents)]
        return frame(leader, operand, own)

    def leader(self, node: Node, names: Sequence[str], axis: int | None) -> View | None:
        """The view that the others are to follow: the largest that is out of order."""
        shape = self.types[node.outputs[0]].shape
        found = [
            self.views[n]
            for n in names
            if self.is_view(n) and (axis is not None or self.types[n].shape == shape)
        ]
        return max(found, key=lambda v: prod(v.shape), default=None)


def renamed(node: Node, names: Mapping[str, str]) -> Node:
    """The node with some values under other names."""
    return replace(
        node,
        inputs=tuple(names.get(n, n) for n in node.inputs),
        outputs=tuple(names.get(n, n) for n in node.outputs),
    )
