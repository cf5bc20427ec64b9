"""One clip where several follow each other."""

from __future__ import annotations

from dataclasses import replace

from midge.graph.attrs import number
from midge.graph.ir import Graph, Node


def merge_clips(graph: Graph) -> Graph:
    """t = clip(x) low=0 high=inf; y = clip(t) low=-inf high=6   ->   y = clip(x) low=0 high=6

    Also where t has other readers; it stays for them. Quantised clips are left alone.
    """
    makers: dict[str, Node] = {}
    nodes = []
    for node in graph.nodes:
        merged = _merged(graph, makers.get(node.inputs[0]), node) if node.op == "clip" else node
        nodes.append(merged)
        makers[node.outputs[0]] = merged
    return graph.with_nodes(nodes)


def _merged(graph: Graph, first: Node | None, node: Node) -> Node:
    if first is None or first.op != "clip":
        return node
    if any(graph.types[n].quant is not None for n in (*first.inputs, *first.outputs)):
        return node
    low, high = (number(node.attrs, k) for k in ("low", "high"))

    def limited(key: str) -> float:
        return min(max(number(first.attrs, key), low), high)

    attrs = {**node.attrs, "low": limited("low"), "high": limited("high")}
    return replace(node, inputs=first.inputs, attrs=attrs)
