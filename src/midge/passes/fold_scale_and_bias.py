"""Fold batch normalisation, as multiplications and additions by constants, into weights."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from midge.core.types import Array, DType, TensorType
from midge.graph.ir import OPS, Graph, Node, fresh


def fold_scale_and_bias(graph: Graph) -> Graph:
    """t = conv2d(x, w, b); u = mul(t, s); y = add(u, c)   ->   y = conv2d(x, w * s, b * s + c)

    Float tensors only, s and c constants per channel, t and u read by nobody else. An activation
    of the last node is kept. The rounding of single weights changes, within the float bound.
    """
    changed = True
    while changed:
        graph, changed = _fold_one(graph)
    return graph


def _fold_one(graph: Graph) -> tuple[Graph, bool]:
    readers = graph.consumers()
    producers = {o: n for n in graph.nodes for o in n.outputs}
    for node in graph.nodes:
        if node.op not in ("mul", "add", "sub"):
            continue
        value, factor = _operands(graph, node)
        source = producers.get(value)
        if source is None or not _fits(graph, source, value, factor, readers):
            continue
        return _merge(graph, source, node, factor), True
    return graph, False


def _operands(graph: Graph, node: Node) -> tuple[str, str]:
    """(value, constant), or ("", "")."""
    a, b = node.inputs
    if b in graph.consts:
        return a, b
    if a in graph.consts and node.op != "sub":
        return b, a
    return "", ""


def _fits(
    graph: Graph, source: Node, value: str, factor: str, readers: dict[str, list[Node]]
) -> bool:
    if OPS[source.op].channel_axis is None or "activation" in source.attrs:
        return False
    channels = graph.types[value].shape[-1]
    shape = graph.types[factor].shape
    return (
        graph.types[value].dtype is DType.F32
        and value not in graph.outputs
        and len(readers[value]) == 1
        and (graph.types[factor].elements == 1 or shape[-1:] == (channels,))
        and graph.types[factor].elements in (1, channels)
        and len(shape) <= len(graph.types[value].shape)
        and all(n in graph.consts for n in source.inputs[1:])
        and graph.types[source.inputs[1]].dtype is DType.F32
    )


def _merge(graph: Graph, source: Node, node: Node, factor: str) -> Graph:
    channels = graph.types[source.outputs[0]].shape[-1]
    f = np.broadcast_to(graph.consts[factor].reshape(-1).astype(np.float64), (channels,))
    w = graph.consts[source.inputs[1]].astype(np.float64)
    b: Array = np.zeros(channels)
    if len(source.inputs) > 2:
        b = graph.consts[source.inputs[2]].astype(np.float64).reshape(-1)
    if node.op == "mul":
        shape = [1] * w.ndim
        channel = OPS[source.op].channel_axis
        assert channel is not None
        shape[channel] = channels
        w, b = w * f.reshape(shape), b * f
    else:
        b = b + f if node.op == "add" else b - f
    names = tuple(fresh(f"{node.outputs[0]}/{part}", graph.types) for part in "wb")
    new = {n: a.astype(np.float32) for n, a in zip(names, (w, b), strict=True)}
    attrs = {**source.attrs, **node.attrs}  # an activation
    merged = replace(
        source,
        inputs=(source.inputs[0], *names),
        outputs=node.outputs,
        attrs=attrs,
        kind=f"{source.kind}+{node.kind}",
    )
    types = {**graph.types, **{n: TensorType(a.shape, DType.F32) for n, a in new.items()}}
    nodes = [merged if n is node else n for n in graph.nodes if n is not source]
    return replace(graph, types=types, consts={**graph.consts, **new}).with_nodes(nodes)
