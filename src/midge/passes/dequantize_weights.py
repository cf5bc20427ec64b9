"""Hybrid models: float activations with int8 weights become float models at compile time."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from midge.core.types import Array, DType, TensorType
from midge.graph.ir import Graph

_WEIGHTED = frozenset({"conv2d", "depthwise_conv2d", "dense"})


def dequantize_weights(graph: Graph) -> Graph:
    """y: f32 = conv2d(x: f32, w: i8 with Quant)   ->   y = conv2d(x, float w)

    The framework instead quantises the activations at run time; that is less exact than this.
    """
    types, consts = dict(graph.types), dict(graph.consts)
    for node in graph.nodes:
        if node.op not in _WEIGHTED or graph.types[node.inputs[0]].dtype is not DType.F32:
            continue
        for name in node.inputs[1:]:
            if name in consts and types[name].quant is not None and types[name].dtype is DType.I8:
                consts[name] = dequantize(graph.consts[name], graph.types[name])
                types[name] = TensorType(types[name].shape, DType.F32)
    return replace(graph, types=types, consts=consts)


def dequantize(array: Array, t: TensorType) -> Array:
    """scale * (q - zero point) in binary32."""
    assert t.quant is not None
    shape = [1] * array.ndim
    if t.quant.axis is not None:
        shape[t.quant.axis] = -1
    scale = np.array(t.quant.scale, np.float32).reshape(shape)
    zero = np.array(t.quant.zero_point, np.float32).reshape(shape)
    result: Array = (array.astype(np.float32) - zero) * scale
    return result.astype(np.float32)
