"""Values of an unrolled recurrent layer that mean the same at every step.

A recurrent layer comes as its steps one after the other, each with the same weights. If every step
had scales of its own, each would need kernels and tables of its own; so what corresponds to each
other at different steps is to have one scale.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from midge.core.types import DType, TensorType
from midge.graph.ir import Graph, Node
from midge.graph.quantizing import QUANTIZING

Key = tuple[object, ...]


def join_steps(graph: Graph, find: Callable[[str], str], unite: Callable[[str, str], bool]) -> None:
    """Unite values of different steps. find: the group that a value is in.  unite: puts two values
    into one group if they may be; whether anything has changed.

    Steps are known by layers that share their weights. From there on, operators are alike if they
    read alike operands; of those on two operands one is enough, for the first step has no state.
    """
    weighted = [n for n in graph.nodes if _is_weighted(n) and n.inputs[1] in graph.consts]
    shared = _groups((_key(n, n.inputs[1:]), n) for n in weighted)
    if not shared:
        return
    steps: set[str] = set()  # groups that hold what belongs to a step
    for nodes in shared:
        _unite([n.inputs[0] for n in nodes], unite)
        _unite([n.outputs[0] for n in nodes], unite)
        steps |= {v for n in nodes for v in (n.inputs[0], n.outputs[0])}
    changed = True
    while changed:
        changed = False
        known = {find(v) for v in steps}
        for nodes in _groups(_alike(graph, find, known)):
            outputs = [n.outputs[0] for n in nodes]
            changed |= _unite(outputs, unite)
            if not steps.issuperset(outputs):
                steps.update(outputs)
                changed = True


def _is_weighted(node: Node) -> bool:
    rule = QUANTIZING.get(node.op)
    return rule is not None and rule.weighted


def _key(node: Node, rest: Sequence[object]) -> Key:
    return (node.op, tuple(sorted(node.attrs.items(), key=str)), *rest)


def _groups(keyed: Iterator[tuple[Key, Node]]) -> list[list[Node]]:
    """The nodes of each key that several have."""
    found: dict[Key, list[Node]] = {}
    for key, node in keyed:
        found.setdefault(key, []).append(node)
    return [nodes for nodes in found.values() if len(nodes) > 1]


def _unite(values: Sequence[str], unite: Callable[[str, str], bool]) -> bool:
    changed = [unite(values[0], other) for other in values[1:]]
    return any(changed)


def _alike(graph: Graph, find: Callable[[str], str], steps: set[str]) -> Iterator[tuple[Key, Node]]:
    """Nodes with what makes them alike: operator, attributes, constants, and the group of an
    operand that belongs to a step."""
    for node in graph.nodes:
        rule = QUANTIZING.get(node.op)
        if rule is None or rule.weighted or len(node.outputs) != 1:
            continue
        consts = tuple((i, v) for i, v in enumerate(node.inputs) if v in graph.consts)
        t: TensorType = graph.types[node.outputs[0]]
        if t.dtype is not DType.F32:
            continue
        for i, value in enumerate(node.inputs):
            is_float = graph.types[value].dtype is DType.F32
            if is_float and value not in graph.consts and find(value) in steps:
                yield _key(node, (consts, i, find(value), t.shape, t.dtype)), node
