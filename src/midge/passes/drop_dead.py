"""Remove nodes whose outputs nobody reads, and constants that nobody needs any more."""

from __future__ import annotations

from midge.graph.ir import Graph, live


def drop_dead(graph: Graph) -> Graph:
    """y = f(x); z = g(x); return y   ->   y = f(x); return y"""
    return graph.with_nodes(live(graph.nodes, graph.outputs))
