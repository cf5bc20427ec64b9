"""Let a convolution pad its own input."""

from __future__ import annotations

from dataclasses import replace

from midge.graph.attrs import integers, number
from midge.graph.ir import Graph, Node


def fold_padding(graph: Graph) -> Graph:
    """t = pad(x) by one; y = conv2d(t, w)   ->   y = conv2d(x, w), its own padding one larger

    Only padding of rows and columns by the value that counts as zero (0.0, or the zero point).
    """
    producers = {o: n for n in graph.nodes for o in n.outputs}
    nodes: list[Node] = []
    for node in graph.nodes:
        while _is_convolution(node) and (source := producers.get(node.inputs[0])) is not None:
            if source.op != "pad" or not _is_zero_padding(graph, source):
                break
            node = _padded(node, source)
        nodes.append(node)
    return graph.with_nodes(nodes)


def _is_convolution(node: Node) -> bool:
    """Whether the node sums products over windows that may reach over the border."""
    return node.op in ("conv2d", "depthwise_conv2d")


def _padded(node: Node, source: Node) -> Node:
    """The convolution `node` on what `source` pads."""
    extra = integers(source.attrs, "paddings")[2:6]
    own = integers(node.attrs, "padding", 4)
    return replace(
        node,
        inputs=(source.inputs[0], *node.inputs[1:]),
        attrs={**node.attrs, "padding": tuple(a + b for a, b in zip(own, extra, strict=True))},
        kind=f"{source.kind}+{node.kind}",
    )


def _is_zero_padding(graph: Graph, pad: Node) -> bool:
    """Only rows and columns, and with what the convolution takes for zero."""
    paddings = integers(pad.attrs, "paddings")
    if any(paddings[:2]) or any(paddings[6:]):
        return False
    x, y = graph.types[pad.inputs[0]], graph.types[pad.outputs[0]]
    if x.quant != y.quant:
        return False
    zero = 0 if x.quant is None else x.quant.zero_point[0]
    return number(pad.attrs, "value") == zero
