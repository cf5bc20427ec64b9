"""Let images come in and go out with their channels last, as the kernels read and write them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from midge.graph.ir import Graph, Node, fresh
from midge.passes.move_transposes import move_transposes, moved_elements
from midge.passes.mover import renamed


def channels_last_io(graph: Graph) -> Graph:
    """x: [N, C, H, W]; t = transpose(x); y = conv2d(t)   ->   x: [N, H, W, C]; y = conv2d(x)

    Images and signals ([N, C, L] becomes [N, L, C]) among inputs and outputs, where that saves
    moving elements, or a reshape: with one channel both orders are the same bytes. Names stay. The
    caller has to hand over, and gets, the other order.
    """
    return last_io(graph)[0]


def last_io(graph: Graph) -> tuple[Graph, frozenset[str]]:
    """What `channels_last_io` makes of `graph`, and the inputs and outputs that it turned."""
    best = move_transposes(graph)
    turned = set()
    for turn, names in ((_input_last, best.inputs), (_output_last, best.outputs)):
        for name in _candidates(best, names):
            trial = move_transposes(turn(best, name))
            if _cost(trial) < _cost(best):
                best = trial
                turned.add(name)
    return best, frozenset(turned)


def _cost(graph: Graph) -> tuple[int, int]:
    """Elements that are moved, and operators."""
    return moved_elements(graph), len(graph.nodes)


def _candidates(graph: Graph, names: Iterable[str]) -> list[str]:
    return [n for n in dict.fromkeys(names) if len(graph.types[n].shape) in (3, 4)]


def _input_last(graph: Graph, name: str) -> Graph:
    """The same with input `name` transposed, and a node that transposes it back."""
    t = graph.types[name]
    first = fresh(f"{name}/first", graph.types)
    rank = len(t.shape)
    types = {**graph.types, first: t}
    types[name] = replace(t, shape=(t.shape[0], *t.shape[2:], t.shape[1]))
    back = Node("transpose", (name,), (first,), {"perm": (0, rank - 1, *range(1, rank - 1))})
    nodes = [back, *(renamed(n, {name: first}) for n in graph.nodes)]
    outputs = tuple(first if n == name else n for n in graph.outputs)
    return replace(graph, types=types, outputs=outputs).with_nodes(nodes)


def _output_last(graph: Graph, name: str) -> Graph:
    """The same with output `name` transposed."""
    if name in graph.inputs or name in graph.consts:
        return graph
    t = graph.types[name]
    first = fresh(f"{name}/first", graph.types)
    rank = len(t.shape)
    types = {**graph.types, first: t}
    types[name] = replace(t, shape=(t.shape[0], *t.shape[2:], t.shape[1]))
    last = Node("transpose", (first,), (name,), {"perm": (0, *range(2, rank), 1)})
    nodes = [*(renamed(n, {name: first}) for n in graph.nodes), last]
    return replace(graph, types=types).with_nodes(nodes)
