"""Let layers read weights of half precision, in place of floats made of them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from midge.core.types import DType, TensorType
from midge.graph.ir import Graph, Node, fresh


def read_halves(graph: Graph) -> Graph:
    """w = cast(h: f16 constant); y = conv2d(x: f32, w)   ->   y = conv2d(x, h) halves=1

    Half the flash and some cycles more: the layer converts a weight each time it reads it. `h` is
    then the numbers' bits as i16. Casts that others read too stay.
    """
    types, consts = dict(graph.types), dict(graph.consts)
    stored = {n.outputs[0]: n.inputs[0] for n in graph.nodes if _is_half(graph, n)}
    nodes: list[Node] = []
    for node in graph.nodes:
        half = stored.get(node.inputs[1]) if _is_layer(graph, node) else None
        if half is not None:
            bits = fresh(f"{half}/bits", types)
            consts[bits] = graph.consts[half].view(np.int16)
            types[bits] = TensorType(types[half].shape, DType.I16)
            inputs = (node.inputs[0], bits, *node.inputs[2:])
            node = replace(node, inputs=inputs, attrs={**node.attrs, "halves": 1})
        nodes.append(node)
    return replace(graph, types=types, consts=consts).with_nodes(nodes)


def _is_half(graph: Graph, node: Node) -> bool:
    """Whether a node makes floats of a constant of finite half-precision numbers."""
    if node.op != "cast" or node.inputs[0] not in graph.consts:
        return False
    array = graph.consts[node.inputs[0]]
    return array.dtype == np.float16 and bool(np.isfinite(array).all())


def _is_layer(graph: Graph, node: Node) -> bool:
    layer = node.op in ("conv2d", "depthwise_conv2d", "dense")
    return layer and graph.types[node.inputs[0]].dtype is DType.F32
