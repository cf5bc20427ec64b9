"""From the quantised level to the plain one: every node becomes what it stands for."""

from __future__ import annotations

from dataclasses import replace

from midge.graph.ir import Graph, Node, expand


def legalize(graph: Graph) -> Graph:
    """y = conv2d(x, w) with Quant   ->   acc = conv2d(x, w); y = requantize(acc, multiplier, shift)

    Fused activations become clips, and no tensor carries Quant any more.
    """
    types = {n: t.plain for n, t in graph.types.items()}
    consts = dict(graph.consts)
    nodes: list[Node] = []
    for node in graph.nodes:
        expansion = expand(node, graph.types, graph.consts)
        types.update(expansion.new_types)
        consts.update(expansion.new_consts)
        nodes.extend(expansion.nodes)
    return replace(graph, types=types, consts=consts).with_nodes(nodes)
