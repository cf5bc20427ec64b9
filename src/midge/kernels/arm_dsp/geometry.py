"""Which convolutions the int8 kernels compute."""

from __future__ import annotations

from midge.core.types import DType
from midge.kernels.arm.geometry import Layer, layer_of
from midge.lower.candidates import Request


def int8_layer(request: Request) -> Layer | None:
    """The geometry of an int8 convolution with constant weights and bias; None if it is something
    else, its inputs lie in another way, or `Request.anchor` has none."""
    graph, node = request.graph, request.anchor
    if node is None or node.inputs[0] in request.layouts:
        return None
    constant = all(v in graph.consts for v in node.inputs[1:])
    if not constant:
        return None
    return layer_of(graph, node) if graph.types[node.inputs[0]].dtype is DType.I8 else None
