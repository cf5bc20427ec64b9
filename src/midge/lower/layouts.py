"""The order in which an operator's output lies in memory: the one its readers want.

An operator stores its results one by one anyway, so it writes them where the next one reads them
best; no tensor is ever transposed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from midge.core.registry import Registry
from midge.core.target import Target
from midge.graph.ir import OPS, Graph
from midge.lower.fuse import Group

# Value -> its axes in the order in which they lie in memory; others lie as their shapes say.
Layouts = Mapping[str, tuple[int, ...]]
CHANNELS_FIRST = (0, 3, 1, 2)

Wanted = Callable[[Graph, Group, Target], tuple[int, ...] | None]
# Operator of the anchor -> the order in which it wants its first input on that target, if it has
# one that it prefers.
WANTED: Registry[Wanted] = Registry("layout")


def choose_layouts(graph: Graph, groups: Sequence[Group], target: Target) -> Layouts:
    """The layout of every value that all its readers want in one same order.

    Inputs and outputs of the model, constants, and what other nodes see under another shape lie as
    they are declared.
    """
    fixed = {*graph.inputs, *graph.outputs, *graph.consts}
    for node in graph.nodes:
        if OPS[node.op].alias:
            fixed.update((*node.inputs, *node.outputs))
    stored = {g.output for g in groups} - fixed
    wishes: dict[str, set[tuple[int, ...] | None]] = {}
    for group in groups:
        made = {n.outputs[0] for n in group.nodes}
        rule = WANTED.get(group.anchor.op) if group.anchor is not None else None
        order = rule(graph, group, target) if rule is not None else None
        for node in group.nodes:
            for position, value in enumerate(node.inputs):
                if value in stored and value not in made:
                    first = node is group.anchor and position == 0
                    wishes.setdefault(value, set()).add(order if first else None)
    found = {v: next(iter(w)) for v, w in wishes.items() if len(w) == 1}
    return {v: order for v, order in found.items() if order is not None}
