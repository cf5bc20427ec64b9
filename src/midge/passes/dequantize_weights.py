"""Hybrid models: float activations with int8 weights become float models at compile time."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

from midge.core.types import DType, TensorType
from midge.graph.fixed_point import dequantize
from midge.graph.ir import Graph, Node, fresh


def dequantize_weights(graph: Graph) -> Graph:
    """y: f32 = conv2d(x: f32, w: i8 with Quant)   ->   y = conv2d(x, float w)

    The framework instead quantises the activations at run time; that is less exact than this.
    Nothing but layers reads int8 beside floats.
    """
    types, consts = dict(graph.types), dict(graph.consts)
    nodes: list[Node] = []
    for node in graph.nodes:
        if graph.types[node.inputs[0]].dtype is DType.F32:
            for name in filter(partial(_is_quantised, graph), node.inputs[1:]):
                floats = fresh(f"{name}/float", types)
                consts[floats] = dequantize(graph.consts[name], graph.types[name])
                types[floats] = TensorType(types[name].shape, DType.F32)
                inputs = tuple(floats if n == name else n for n in node.inputs)
                node = replace(node, inputs=inputs)
        nodes.append(node)
    return replace(graph, types=types, consts=consts).with_nodes(nodes)


def _is_quantised(graph: Graph, name: str) -> bool:
    t = graph.types[name]
    return name in graph.consts and t.quant is not None and t.dtype is DType.I8
