"""Which nodes become one kernel: an anchor with the elementwise nodes that follow it.

Done once for all operators, on the plain graph. An elementwise node joins the group that makes its
input if nobody else reads that input. Where two anchors meet (a residual add), the one with more
anchors before it takes the elementwise node: it is ready last, and the other's rows wait for it,
not the rows of what both are made of. The other's group is cut where its value is narrowest, so
that no 32-bit accumulator ever goes to memory.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from midge.graph.ir import OPS, Graph, Node


@dataclass(frozen=True, slots=True)
class Group:
    """nodes in topological order, the last one's output is stored; anchor: the one with loops of
    its own, None if all are elementwise."""

    nodes: tuple[Node, ...]
    anchor: Node | None

    @property
    def output(self) -> str:
        return self.nodes[-1].outputs[0]


def fuse(graph: Graph) -> tuple[Group, ...]:
    """The groups in execution order; alias nodes belong to none."""
    return _Fuser(graph).run()


class _Fuser:
    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.position = {n.outputs[0]: i for i, n in enumerate(graph.nodes)}
        self.uses = {name: len(nodes) for name, nodes in graph.consumers().items()}
        for name in graph.outputs:
            self.uses[name] = self.uses.get(name, 0) + 2  # must be in memory: never fused away
        self.groups: dict[str, Group] = {}  # by the value the group stores
        self.depths: dict[str, int] = {}
        for node in graph.nodes:
            most = max((self.depths.get(v, 0) for v in node.inputs), default=0)
            op = OPS[node.op]
            self.depths[node.outputs[0]] = most + (not op.elementwise and not op.alias)

    def run(self) -> tuple[Group, ...]:
        for node in self.graph.nodes:
            op = OPS[node.op]
            assert len(node.outputs) == 1, f"{node.where}: plain nodes have one output"
            if op.alias:
                continue
            group = self.join(node) if op.elementwise else Group((node,), node)
            self.groups[group.output] = group
        return tuple(sorted(self.groups.values(), key=lambda g: self.position[g.output]))

    def join(self, node: Node) -> Group:
        """The group of an elementwise node with everything that is inlined into it."""
        inputs = [n for n in dict.fromkeys(node.inputs) if self.joinable(n)]
        anchored = [n for n in inputs if self.groups[n].anchor is not None]
        shape = self.graph.types[node.outputs[0]].shape
        fits = [n for n in anchored if self.graph.types[n].shape == shape]
        chain = max(fits, key=lambda n: self.readiness(n), default=None)
        nodes: list[Node] = []
        anchor = None
        for name in inputs:
            group = self.groups.pop(name)
            if group.anchor is not None and name != chain:
                group, moved = self.cut(group)
                self.groups[group.output] = group
                nodes.extend(moved)
                continue
            anchor = anchor or group.anchor
            nodes.extend(group.nodes)
        ordered = sorted(nodes, key=lambda n: self.position[n.outputs[0]])
        return Group((*ordered, node), anchor)

    def joinable(self, name: str) -> bool:
        return name in self.groups and self.uses[name] == 1

    def readiness(self, name: str) -> tuple[int, int]:
        """Anchors on the longest way to the anchor that makes `name`, and its position."""
        anchor = self.groups[name].anchor
        assert anchor is not None
        return self.depths[anchor.outputs[0]], self.position[anchor.outputs[0]]

    def cut(self, group: Group) -> tuple[Group, list[Node]]:
        """`group` up to the last of its narrowest values, and the nodes after it."""
        assert group.anchor is not None
        start = group.nodes.index(group.anchor)
        chain = self.descendants(group.nodes[start:])
        narrowest = min(self.width(n) for n in chain)
        last = [n for n in chain if self.width(n) == narrowest][-1]
        kept = self.ancestors(group.nodes, last)
        moved = [n for n in group.nodes if n not in kept]
        return Group(tuple(kept), group.anchor), moved

    def width(self, node: Node) -> int:
        return self.graph.types[node.outputs[0]].dtype.size

    def descendants(self, nodes: Iterable[Node]) -> list[Node]:
        """The first node and those that read it, directly or not."""
        found: list[Node] = []
        reached: set[str] = set()
        for node in nodes:
            if not found or reached.intersection(node.inputs):
                found.append(node)
                reached.update(node.outputs)
        return found

    def ancestors(self, nodes: tuple[Node, ...], last: Node) -> list[Node]:
        """The nodes of the group that `last` needs, itself included."""
        needed = {last.outputs[0]}
        kept = []
        for node in reversed(nodes):
            if needed.intersection(node.outputs):
                kept.append(node)
                needed.update(node.inputs)
        return kept[::-1]
