"""Let a convolution pad its own input."""

from __future__ import annotations

from dataclasses import replace

from midge.graph.attrs import integers
from midge.graph.ir import Graph, Node

_WINDOWS = frozenset({"conv2d", "depthwise_conv2d"})


def fold_padding(graph: Graph) -> Graph:
    """t = pad(x) by one; y = conv2d(t, w)   ->   y = conv2d(x, w), its own padding one larger

    Only padding of rows and columns by the value that counts as zero (0.0, or the zero point).
    """
    producers = {o: n for n in graph.nodes for o in n.outputs}
    nodes: list[Node] = []
    for node in graph.nodes:
        source = producers.get(node.inputs[0]) if node.op in _WINDOWS else None
        if source is not None and source.op == "pad" and _is_zero_padding(graph, source):
            before = integers(source.attrs, "paddings")
            extra = (before[2], before[3], before[4], before[5])
            padding = tuple(
                a + b for a, b in zip(integers(node.attrs, "padding"), extra, strict=True)
            )
            node = replace(
                node,
                inputs=(source.inputs[0], *node.inputs[1:]),
                attrs={**node.attrs, "padding": padding},
                kind=f"{source.kind}+{node.kind}",
            )
        nodes.append(node)
    return graph.with_nodes(nodes)


def _is_zero_padding(graph: Graph, pad: Node) -> bool:
    """Rank 4, only rows and columns, and with what the convolution takes for zero."""
    paddings = integers(pad.attrs, "paddings")
    if len(paddings) != 8 or any(paddings[:2]) or any(paddings[6:]) or min(paddings) < 0:
        return False
    x, y = graph.types[pad.inputs[0]], graph.types[pad.outputs[0]]
    if x.quant != y.quant:
        return False
    zero = 0 if x.quant is None else x.quant.zero_point[0]
    value = pad.attrs["value"]
    return isinstance(value, int | float) and float(value) == float(zero)
