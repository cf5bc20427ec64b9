"""ONNX's Conv: conv2d, or depthwise_conv2d where every channel is a group of its own."""

from __future__ import annotations

from midge.core.types import DType
from midge.graph.importers import IMPORTERS, Foreign, Steps
from midge.graph.ir import Node
from midge.ops.onnx_window import (
    from_image,
    spatial_of,
    to_image,
    window,
    window_attrs,
)


def from_onnx(op: Foreign) -> tuple[Node, ...]:
    """Conv of one or two spatial dimensions; of i16, it is the middle of a ConvInteger."""
    op.expect_inputs(2, 3)
    op.expect_dtype(0, DType.F32, DType.I16)
    op.expect_dtype(1, op.type(0).dtype)
    x, w = op.type(0), op.type(1)
    spatial = spatial_of(op, x)
    channels, groups = x.shape[1], int(op.attrs.get("group", 1))
    if len(w.shape) != len(x.shape) or w.elements == 0 or groups < 1:
        raise op.error(f"weights are {w} for an input {x} and {groups} groups")
    if channels != groups * w.shape[1] or w.shape[0] % groups:
        raise op.error(f"weights {w} and {groups} groups do not fit an input {x}")
    axes = window(op, spatial, w.shape[2:])
    steps = Steps(op)
    image = to_image(steps, op.inputs[0])
    is_depthwise = groups == channels > 1
    weights = _weights(steps, op.inputs[1], is_depthwise)
    kind = "depthwise_conv2d" if is_depthwise else "conv2d"
    inputs = [image, weights, *(op.inputs[2:3] if op.has(2) else ())]
    return from_image(steps, steps.emit(kind, inputs, window_attrs(axes)), len(x.shape))


def _weights(steps: Steps, w: str, is_depthwise: bool) -> str:
    """[OC, IC, H, W] (or without W) as [OC, H, W, IC]; depthwise [OC, 1, H, W] as [1, H, W, OC]."""
    oc, ic, *kernel = steps.type(w).shape
    height, width = (*kernel, 1)[:2]
    square = w
    if len(kernel) == 1:
        square = steps.emit("reshape", [w], {"shape": (oc, ic, height, width)})
    perm = (1, 2, 3, 0) if is_depthwise else (0, 2, 3, 1)
    return steps.emit("transpose", [square], {"perm": perm})


IMPORTERS["onnx"].add("Conv", from_onnx)
