"""Averages of whole images as a sum, which can be added up row by row, and a division."""

from __future__ import annotations

from dataclasses import replace

from midge.core.types import DType, TensorType
from midge.graph.attrs import integers
from midge.graph.ir import Graph, Node, fresh

_SUMS = {DType.I8: DType.I32, DType.F32: DType.F32}


def split_global_pools(graph: Graph) -> Graph:
    """avg_pool2d window=(height, width)   ->   average(sum(x) axes=(1, 2)) count=height * width"""
    types = dict(graph.types)
    nodes: list[Node] = []
    for node in graph.nodes:
        if not _is_global(graph, node):
            nodes.append(node)
            continue
        x = graph.types[node.inputs[0]]
        total = fresh(f"{node.outputs[0]}/sum", types)
        shape = graph.types[node.outputs[0]].shape
        meant = {k: v for k, v in node.attrs.items() if k in ("scale", "zero")}
        dtype = DType.F32 if meant else x.dtype
        types[total] = TensorType(shape, _SUMS[dtype])
        attrs = {"count": x.shape[1] * x.shape[2], "dtype": dtype.value}
        adds = replace(node, op="sum", outputs=(total,), attrs={"axes": (1, 2), **meant})
        nodes += [adds, replace(node, op="average", inputs=(total,), attrs=attrs)]
    return replace(graph, types=types).with_nodes(nodes)


def _is_global(graph: Graph, node: Node) -> bool:
    if node.op != "avg_pool2d":
        return False
    x = graph.types[node.inputs[0]]
    if x.quant is not None or x.dtype not in _SUMS:
        return False
    if node.attrs.get("order", "rows") != "rows":
        return False
    whole = tuple(integers(node.attrs, "window")) == x.shape[1:3]
    return whole and not any(integers(node.attrs, "padding"))
