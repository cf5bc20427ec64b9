"""Concatenations that nobody executes: each part is written where it lies in the whole.

A part along the last axis lies between the channels of the others, in every pixel; one along the
first axis that is not 1 lies in one piece.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import prod

from midge.graph.attrs import integer
from midge.graph.ir import OPS, Graph
from midge.loop.program import Inside, resolve
from midge.lower.fuse import Group
from midge.lower.layouts import Layouts


def parts_of(graph: Graph, group: Group) -> tuple[str, ...]:
    """The values that the operands of a concatenation stand for, if its parts are to be written
    into it; () for any other group."""
    node = group.anchor
    if node is None or node.op != "concat" or "joined" not in node.attrs or len(group.nodes) > 1:
        return ()
    aliases = {n.outputs[0]: n.inputs[0] for n in graph.nodes if OPS[n.op].alias}
    return tuple(resolve(aliases, v) for v in node.inputs)


def by_channels(graph: Graph, group: Group) -> bool:
    """Whether parts lie between each other, not one after the other."""
    assert group.anchor is not None
    shape = graph.types[group.output].shape
    return integer(group.anchor.attrs, "axis") == len(shape) - 1


def places_of(
    graph: Graph, group: Group, layouts: Layouts, planes: Mapping[str, int]
) -> dict[str, Inside]:
    """Where each part lies."""
    assert group.anchor is not None
    whole = graph.types[group.output].shape
    pixels, channels = prod(whole[:-1]), whole[-1]
    found, start = {}, 0
    for value, part in zip(parts_of(graph, group), group.anchor.inputs, strict=True):
        shape = graph.types[part].shape
        if not by_channels(graph, group):
            found[value] = Inside(group.output, start)
            start += prod(shape)
        elif group.output in layouts:
            plane = planes.get(group.output, pixels)
            found[value] = Inside(group.output, start * plane)
            start += shape[-1]
        else:
            found[value] = Inside(group.output, start, channels if pixels > 1 else 0)
            start += shape[-1]
    return found


def with_parts(
    graph: Graph, joined: Sequence[Group], layouts: Layouts
) -> dict[str, tuple[int, ...]]:
    """Layouts of which parts have that of their whole; those that lie one after the other have
    none."""
    found = dict(layouts)
    for group in joined:
        if not by_channels(graph, group):
            found.pop(group.output, None)
            continue
        for value in parts_of(graph, group):
            found.pop(value, None)
            if group.output in found:
                found[value] = found[group.output]
    return found
