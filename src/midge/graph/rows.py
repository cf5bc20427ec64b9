"""Which rows of its input an operator reads for a row of its output.

Rows are axis 1 of images [1, height, width, channels]. A group of nodes whose rows can be made a
band at a time is cut to a band by `cut`: the same nodes on smaller types.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from midge.core.types import TensorType
from midge.graph.attrs import Attrs, integers
from midge.graph.ir import OPS, Graph, Node, Rows

SAME = Rows(1, 1, 0, 0)


@dataclass(frozen=True, slots=True)
class Bandable:
    """How the rows of a group's output come about.

    inputs: for each input that is an image of rows, its rows under those of the output; inputs
    that are read as a whole are not in it.  accumulates: the output is no image but the sum of all
    rows of the one input.
    """

    inputs: Mapping[str, Rows]
    accumulates: bool = False


# As `OpDef.rows`.
Rule = Callable[[Attrs, Sequence[TensorType]], Rows | None]
NO_RULES: Mapping[str, Rule] = {}


def bandable(
    graph: Graph,
    nodes: tuple[Node, ...],
    anchor: Node | None,
    rules: Mapping[str, Rule] = NO_RULES,
) -> Bandable | None:
    """How the rows of `nodes` (the anchor and elementwise nodes) come about; None if its output
    cannot be made row by row. rules: of operators, before their own."""
    if anchor is not None and anchor.op == "sum":
        return _accumulated(graph, nodes, anchor)
    height = _height(graph.types[nodes[-1].outputs[0]])
    if height is None or any(_height(graph.types[n.outputs[0]]) != height for n in nodes):
        return None
    made = {n.outputs[0] for n in nodes}
    found: dict[str, Rows] = {}
    for node in nodes:
        for position, value in enumerate(node.inputs):
            if value in made:
                continue
            rows = _input_rows(graph, node, position, anchor, height, rules)
            if rows is None or found.setdefault(value, rows) != rows:
                return None
    images = {value: rows for value, rows in found.items() if rows != _WHOLE}
    return Bandable(images) if images else None


def seen_rows(graph: Graph) -> dict[str, TensorType]:
    """Tensors of which nobody reads anything but views, all with the same rows, and not the
    tensor's own: their rows are those of the views."""
    views = {n.outputs[0]: n.inputs[0] for n in graph.nodes if OPS[n.op].alias}
    seen: dict[str, set[tuple[int, ...]]] = {}
    for node in graph.nodes:
        for value in () if OPS[node.op].alias else node.inputs:
            base = value
            while base in views:
                base = views[base]
            seen.setdefault(base, set()).add(graph.types[value].shape)
    found = {}
    for base in graph.inputs:
        shapes = seen.get(base, set())
        types = [replace(graph.types[base], shape=s) for s in shapes]
        if len(types) == 1 and _height(types[0]) and types[0].shape != graph.types[base].shape:
            found[base] = types[0]
    return found


def by_own_rows(graph: Graph, how: Bandable) -> bool:
    """Whether the rows that are read are rows of what is in memory: not those of a view with other
    rows, unless all who read it see the same (`seen_rows`)."""
    views = {n.outputs[0]: n.inputs[0] for n in graph.nodes if OPS[n.op].alias}
    for value in how.inputs:
        base = value
        while base in views:
            base = views[base]
        height = _height(graph.types[base])
        if base != value and height != _height(graph.types[value]) and base not in seen_rows(graph):
            return False
    return True


_WHOLE = Rows(0, 0, 0, 0)  # of an input that does not depend on the row


def _input_rows(
    graph: Graph,
    node: Node,
    position: int,
    anchor: Node | None,
    height: int,
    rules: Mapping[str, Rule],
) -> Rows | None:
    """How the node reads an input: _WHOLE if every row needs all of it, None if not known."""
    value = node.inputs[position]
    t = graph.types[value]
    if node is anchor:
        rule = rules.get(node.op, OPS[node.op].rows)
        types = [graph.types[v] for v in node.inputs]
        rows = rule(node.attrs, types) if rule is not None else None
        if rows is None or _height(types[0]) is None:
            return None
        each = (rows.stride, rows.taps, rows.top) == (1, 1, 0)
        if value in graph.consts:
            image = each and _height(t) == height and height > 1
            return None if image else _WHOLE  # rows of a constant are not handed over
        if each:
            if _height(t) != height:
                return None  # rows are added below
            rows = SAME
        return rows if position == 0 or rows == SAME else None
    if position in OPS[node.op].tables or len(t.shape) < 3:
        return _WHOLE
    own = t.shape[-3]
    if own == 1 and (height > 1 or value in graph.consts):
        return _WHOLE
    return SAME if _height(t) == height and value not in graph.consts else None


def _height(t: TensorType) -> int | None:
    return t.shape[1] if len(t.shape) == 4 and t.shape[0] == 1 and t.elements else None


def _accumulated(graph: Graph, nodes: tuple[Node, ...], anchor: Node) -> Bandable | None:
    """A sum over all rows and columns, whatever is done with it afterwards."""
    x = graph.types[anchor.inputs[0]]
    whole = tuple(integers(anchor.attrs, "axes")) == (1, 2) and _height(x) is not None
    alone = len(nodes) == 1 and len(anchor.inputs) == 1
    return Bandable({anchor.inputs[0]: SAME}, True) if whole and alone else None


def cut(graph: Graph, nodes: tuple[Node, ...], how: Bandable, count: int) -> Graph:
    """`nodes` alone, for a band of `count` rows of their output; rows beyond the image are those of
    the inputs, which are higher for that."""
    types = dict(graph.types)
    for value, rows in how.inputs.items():
        types[value] = _of_rows(types[value], (count - 1) * rows.stride + rows.taps)
    cut_nodes = []
    for node in nodes:
        if not how.accumulates:
            types[node.outputs[0]] = _of_rows(types[node.outputs[0]], count)
        cut_nodes.append(_moved(_without_border(node), count))
    made = {n.outputs[0] for n in nodes}
    inputs = dict.fromkeys(v for n in nodes for v in n.inputs if v not in made)
    external = tuple(v for v in inputs if v not in graph.consts)
    band = replace(graph, inputs=external, outputs=(nodes[-1].outputs[0],), types=types)
    return band.with_nodes(cut_nodes)


def _of_rows(t: TensorType, count: int) -> TensorType:
    return replace(t, shape=(t.shape[0], count, *t.shape[2:]))


def _without_border(node: Node) -> Node:
    if "padding" not in node.attrs:
        return node
    _, _, left, right = integers(node.attrs, "padding")
    return replace(node, attrs={**node.attrs, "padding": (0, 0, left, right)})


def _moved(node: Node, count: int) -> Node:
    """A slice takes the rows that it is given."""
    if node.op != "slice":
        return node
    begin, size, strides = (list(integers(node.attrs, n)) for n in ("begin", "size", "strides"))
    begin[1], size[1] = 0, count
    attrs = {"begin": tuple(begin), "size": tuple(size), "strides": tuple(strides)}
    return replace(node, attrs={**node.attrs, **attrs})
