"""Move transpositions towards the outputs until they meet their inverse or a weight.

Frontends of channels-first formats put one before and one after every convolution. What lies
between two convolutions can be computed in either order of axes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from midge.graph.attrs import integer, integers
from midge.graph.ir import OPS, Attr, Graph, Node, fresh
from midge.passes.mover import Mover

REDUCTIONS = frozenset({"mean", "sum", "reduce_max", "reduce_min", "reduce_prod"})


def move_transposes(graph: Graph) -> Graph:
    """y = transpose(relu(transpose(x)))   ->   y = relu(x), where they are inverse

    Through elementwise operators, concat, pad, slice, tile, reductions, softmax over an axis that
    stays the last, and reshapes that keep axes whole; into constants, and into the columns of dense
    weights. A transposition that only moves axes of length 1 becomes a reshape.
    """
    if not any(n.op == "transpose" for n in graph.nodes):
        return graph
    mover = Mover(graph)
    for node in graph.nodes:
        rule = _elementwise if OPS[node.op].elementwise else _RULES.get(node.op)
        if rule is None or not rule(mover, node):
            mover.keep(node)
    mover.outputs(graph)
    types, consts = mover.types, mover.consts
    moved = replace(graph, types=types, consts=consts).with_nodes(mover.nodes)
    # A value that is wanted in both orders may have become two.
    return min(graph, moved, key=lambda g: (moved_elements(g), g is graph))


def moved_elements(graph: Graph) -> int:
    """Elements that transpositions move."""
    return sum(graph.types[n.outputs[0]].elements for n in graph.nodes if n.op == "transpose")


Rule = Callable[[Mover, Node], bool]


def _elementwise(m: Mover, node: Node) -> bool:
    tables = OPS[node.op].tables
    names = [n for i, n in enumerate(node.inputs) if i not in tables]
    if len(node.inputs) == 1 and names[0] in m.views:
        view = m.views[names[0]]
        return m.finish(node, [m.as_shape(view.value, view.shape, node)], node.attrs, view)
    return m.combined(node, names, None)


def _concat(m: Mover, node: Node) -> bool:
    return m.combined(node, node.inputs, integer(node.attrs, "axis"))


def _transpose(m: Mover, node: Node) -> bool:
    if not _keeps(m, node):
        return False
    return m.look(node, m.view(node.inputs[0]).transposed(integers(node.attrs, "perm")))


def _reshape(m: Mover, node: Node) -> bool:
    (name,) = node.inputs
    if not _keeps(m, node) or name not in m.views:
        return False
    view = m.views[name].reshaped(m.types[node.outputs[0]].shape)
    return view is not None and m.look(node, view)


def _keeps(m: Mover, node: Node) -> bool:
    """Whether output and input differ in nothing but shape, and there is something to move."""
    x, y = m.types[node.inputs[0]], m.types[node.outputs[0]]
    return (x.quant is None or x.quant.axis is None) and x.quant == y.quant and x.elements > 0


def _axiswise(m: Mover, node: Node, names: Sequence[str], idle: Callable[[int, int], int]) -> bool:
    """pad, slice, tile: attributes with entries per axis. idle: attribute number, extent -> what
    leaves an axis of that extent alone."""
    (name,) = node.inputs
    if not m.is_view(name):
        return False
    view = m.views[name]
    rank = len(view.groups)
    rows = [_rows(node, key, rank) for key in names]

    def is_idle(d: int) -> bool:
        extent = view.extents[d]
        return all({*row[d]} <= {idle(i, extent)} for i, row in enumerate(rows))

    busy = [view.groups[d] for d in range(rank) if not is_idle(d)]
    if () in busy:
        return False
    if any(len(group) > 1 for group in busy):
        view = m.settled(view, node)
    attrs: dict[str, Attr] = dict(node.attrs)
    for i, (key, row) in enumerate(zip(names, rows, strict=True)):
        moved = [(idle(i, n),) * len(row[0]) for n in view.shape]
        for group, own in zip(view.groups, row, strict=True):
            if len(group) == 1:
                moved[group[0]] = own
        attrs[key] = tuple(v for own in moved for v in own)
    return m.finish(node, [m.as_shape(view.value, view.shape, node)], attrs, view)


def _rows(node: Node, key: str, rank: int) -> list[tuple[int, ...]]:
    """The entries of an attribute, axis by axis."""
    given = integers(node.attrs, key)
    width = len(given) // rank
    return [tuple(given[d * width : (d + 1) * width]) for d in range(rank)]


def _pad(m: Mover, node: Node) -> bool:
    return _axiswise(m, node, ["paddings"], lambda number, extent: 0)


def _tile(m: Mover, node: Node) -> bool:
    return _axiswise(m, node, ["repeats"], lambda number, extent: 1)


def _slice(m: Mover, node: Node) -> bool:
    # An axis left alone begins at 0, has all its elements, and a step of 1.
    return _axiswise(
        m, node, ["begin", "size", "strides"], lambda number, extent: (0, extent, 1)[number]
    )


def _reduce(m: Mover, node: Node) -> bool:
    name, *so_far = node.inputs
    if so_far or not m.is_view(name):
        return False
    view = m.views[name]
    axes = sorted(a for d in integers(node.attrs, "axes") for a in view.groups[d])
    if not axes:
        return False
    attrs: dict[str, Attr] = {**node.attrs, "axes": tuple(axes)}
    gone = {d: () for d in integers(node.attrs, "axes")}
    groups = tuple(gone.get(d, g) for d, g in enumerate(view.groups))
    value = m.as_shape(view.value, view.shape, node)
    return m.finish(node, [value], attrs, replace(view, groups=groups))


def _gather(m: Mover, node: Node) -> bool:
    """Along an axis that is a single one of what the view looks at."""
    name, index = node.inputs
    axis, count = integer(node.attrs, "axis"), len(m.types[index].shape)
    if not m.is_view(name) or count != 1 or integer(node.attrs, "batch", 0):
        return False
    view = m.views[name]
    if len(view.groups[axis]) != 1:
        return False
    (own,) = view.groups[axis]
    value = m.as_shape(view.value, view.shape, node)
    return m.finish(node, [value, m.real(index)], {**node.attrs, "axis": own}, view)


def _softmax(m: Mover, node: Node) -> bool:
    (name,) = node.inputs
    if not m.is_view(name):
        return False
    view = m.views[name]
    last = max(view.order)
    if view.groups[-1] != (last,):
        return False
    # Axes of length 1 behind it would be the last.
    value = m.as_shape(view.value, view.shape[: last + 1], node)
    return m.finish(node, [value], node.attrs, view)


def _dense(m: Mover, node: Node) -> bool:
    """The columns of constant weights, or of the integers behind them, take the order in which the
    features lie."""
    name, real = node.inputs[:2]
    made = next((n for n in m.nodes if n.op == "dequantize" and n.outputs[0] == real), None)
    weights = made.inputs[0] if made is not None else real
    if not m.is_view(name) or weights not in m.consts:
        return False
    if (quant := m.types[weights].quant) is not None and quant.axis == 1:
        return False
    rows, features = m.views[name].groups
    if list(rows) != sorted(rows) or (rows and max(rows) > min(features, default=len(rows))):
        return False
    view = m.views[name]
    w = m.consts[weights]
    rank = {a: i for i, a in enumerate(features)}
    order = [1 + rank[a] for a in sorted(features)]
    parts = w.reshape(w.shape[0], *(view.shape[a] for a in features))
    columns = m.constant(weights, parts.transpose([0, *order]).reshape(w.shape))
    if made is not None:
        result = fresh(f"{real}/moved", m.types)
        m.types[result] = m.types[real]
        m.nodes.append(replace(made, inputs=(columns,), outputs=(result,)))
        columns = result
    value = m.as_shape(view.value, m.types[name].shape, node)
    m.nodes.append(replace(node, inputs=(value, columns, *map(m.real, node.inputs[2:]))))
    return True


_RULES: dict[str, Rule] = {
    "transpose": _transpose,
    "reshape": _reshape,
    "concat": _concat,
    "pad": _pad,
    "tile": _tile,
    "slice": _slice,
    "gather": _gather,
    "softmax": _softmax,
    "dense": _dense,
    **dict.fromkeys(REDUCTIONS, _reduce),
}
