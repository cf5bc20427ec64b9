"""Remove nodes whose outputs nobody reads, and constants that nobody needs any more."""

from __future__ import annotations

from midge.graph.ir import Graph, Node


def drop_dead(graph: Graph) -> Graph:
    """y = f(x); z = g(x); return y   ->   y = f(x); return y"""
    live = set(graph.outputs)
    kept: list[Node] = []
    for node in reversed(graph.nodes):
        if live.intersection(node.outputs):
            live.update(node.inputs)
            kept.append(node)
    return graph.with_nodes(kept[::-1])
