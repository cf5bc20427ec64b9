"""ONNX's normalisations, by means, products and sums."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

import numpy as np

from midge.core.types import Array, DType
from midge.graph.importers import IMPORTERS, Foreign, Steps
from midge.graph.ir import Node
from midge.ops.onnx_slices import axis_of
from midge.ops.onnx_window import Axis, from_image, to_image, window_attrs


def floats(*values: float) -> Array:
    return np.array(values, np.float32)


def centred(steps: Steps, x: str, axes: Sequence[int]) -> str:
    """x minus its mean over `axes`."""
    return steps.emit("sub", [x, steps.emit("mean", [x], {"axes": tuple(axes)})])


def inverse_deviation(steps: Steps, x: str, axes: Sequence[int], epsilon: float) -> str:
    """1 / sqrt(mean of x^2 + epsilon) over `axes`, which stay as 1."""
    variance = steps.emit("mean", [steps.emit("mul", [x, x])], {"axes": tuple(axes)})
    return steps.emit(
        "rsqrt", [steps.emit("add", [variance, steps.const(floats(epsilon), "epsilon")])]
    )


def normalized(steps: Steps, x: str, axes: Sequence[int], epsilon: float) -> str:
    """x with mean 0 and variance 1 over `axes`."""
    middle = centred(steps, x, axes)
    return steps.emit("mul", [middle, inverse_deviation(steps, middle, axes, epsilon)])


def _epsilon(op: Foreign) -> float:
    return float(op.attrs.get("epsilon", 1e-5))


def _channelwise(steps: Steps, name: str, rank: int) -> str:
    """A vector of one element per channel, to be broadcast over [N, C, ...]."""
    t = steps.type(name)
    if len(t.shape) != 1:
        raise steps.op.error(f"{name!r} is {t}, expected one element per channel")
    if rank <= 2:
        return name
    return steps.emit("reshape", [name], {"shape": (*t.shape, *(1,) * (rank - 2))})


def batch_from_onnx(op: Foreign) -> tuple[Node, ...]:
    """BatchNormalization for inference: one product and one sum per channel."""
    op.expect_inputs(5)
    op.expect_dtype(0, DType.F32)
    if op.attrs.get("training_mode", 0) or len(op.outputs) > 1:
        raise op.error("training mode is not supported", "export the model for inference")
    rank = len(op.type(0).shape)
    channels = op.type(0).shape[1] if rank > 1 else 1
    if any(op.type(i).shape != (channels,) for i in (1, 2, 3, 4)):
        raise op.error(f"scale, bias, mean or variance do not fit {op.type(0)}")
    if any(name not in op.consts for name in op.inputs[1:]):
        return _batch_of_values(op, (channels, *(1,) * (rank - 2)))
    names = ("scale", "bias", "mean", "variance")
    scale, bias, mean, variance = (
        op.const(i + 1, n).astype(np.float64) for i, n in enumerate(names)
    )
    factor = scale / np.sqrt(variance + _epsilon(op))
    shape = (channels, *(1,) * (rank - 2))
    steps = Steps(op)
    parts = [
        steps.const(a.astype(np.float32).reshape(shape), name)
        for a, name in ((factor, "factor"), (bias - mean * factor, "offset"))
    ]
    return steps.finish("add", [steps.emit("mul", [op.inputs[0], parts[0]]), parts[1]])


def _batch_of_values(op: Foreign, shape: tuple[int, ...]) -> tuple[Node, ...]:
    """The same where the parameters are values of the graph, as behind a DequantizeLinear; rounded
    where ONNX Runtime rounds (core/providers/cpu/nn/batch_norm.h), so that what is quantised next
    is the same integer."""
    steps = Steps(op)
    scale, bias, mean, variance = (
        steps.emit("reshape", [name], {"shape": shape}) for name in op.inputs[1:]
    )
    epsilon = steps.const(np.array(_epsilon(op), np.float32), "epsilon")
    root = steps.emit("sqrt", [steps.emit("add", [variance, epsilon])])
    one = steps.const(np.array(1, np.float32), "one")
    factor = steps.emit("mul", [steps.emit("div", [one, root]), scale])
    offset = steps.emit("sub", [bias, steps.emit("mul", [mean, factor])])
    return steps.finish("add", [steps.emit("mul", [op.inputs[0], factor]), offset])


def instance_from_onnx(op: Foreign) -> tuple[Node, ...]:
    """InstanceNormalization: every channel of every image alone."""
    op.expect_inputs(3)
    op.expect_dtype(0, DType.F32)
    rank = len(op.type(0).shape)
    if rank < 3 or op.type(0).elements == 0:
        raise op.error(f"the input is {op.type(0)}", "expected [N, C, ...]")
    steps = Steps(op)
    y = normalized(steps, op.inputs[0], range(2, rank), _epsilon(op))
    scale, bias = (_channelwise(steps, n, rank) for n in op.inputs[1:])
    return steps.finish("add", [steps.emit("mul", [y, scale]), bias])


def layer_from_onnx(op: Foreign) -> tuple[Node, ...]:
    """LayerNormalization over the last axes; also its mean and inverse deviation."""
    op.expect_inputs(2, 3)
    op.expect_dtype(0, DType.F32)
    x = op.type(0)
    axes = range(axis_of(op, len(x.shape), -1), len(x.shape))
    steps = Steps(op)
    if len(op.outputs) > 1:
        steps.emit("mean", op.inputs[:1], {"axes": tuple(axes)}, output=op.outputs[1])
    middle = centred(steps, op.inputs[0], axes)
    inverse = inverse_deviation(steps, middle, axes, _epsilon(op))
    if len(op.outputs) > 2:
        steps.emit("copy", [inverse], output=op.outputs[2])
    return _scaled(steps, steps.emit("mul", [middle, inverse]))


def rms_from_onnx(op: Foreign) -> tuple[Node, ...]:
    """RMSNormalization over the last axes."""
    op.expect_inputs(2)
    op.expect_dtype(0, DType.F32)
    x = op.type(0)
    axes = range(axis_of(op, len(x.shape), -1), len(x.shape))
    steps = Steps(op)
    inverse = inverse_deviation(steps, op.inputs[0], axes, _epsilon(op))
    return _scaled(steps, steps.emit("mul", [op.inputs[0], inverse]))


def _scaled(steps: Steps, y: str) -> tuple[Node, ...]:
    """Times the scale (input 1), and the bias (input 2) where there is one, added."""
    op = steps.op
    if not op.has(2):
        return steps.finish("mul", [y, op.inputs[1]])
    return steps.finish("add", [steps.emit("mul", [y, op.inputs[1]]), op.inputs[2]])


def group_from_onnx(op: Foreign) -> tuple[Node, ...]:
    """GroupNormalization; before operator set 21 scale and bias are of groups."""
    op.expect_inputs(3)
    op.expect_dtype(0, DType.F32)
    shape = op.type(0).shape
    groups = int(op.attrs.get("num_groups", 0))
    if len(shape) < 2 or groups < 1 or shape[1] % groups or op.type(0).elements == 0:
        raise op.error(f"{groups} groups of {op.type(0)}")
    steps = Steps(op)
    parts = (shape[0], groups, prod(shape[1:]) // groups)
    y = normalized(steps, steps.emit("reshape", op.inputs[:1], {"shape": parts}), [2], _epsilon(op))
    if op.opset < 21:
        scale, bias = (_channelwise(steps, n, 3) for n in op.inputs[1:])
        y = steps.emit("add", [steps.emit("mul", [y, scale]), bias])
        return steps.finish("reshape", [y], {"shape": shape})
    y = steps.emit("reshape", [y], {"shape": shape})
    scale, bias = (_channelwise(steps, n, len(shape)) for n in op.inputs[1:])
    return steps.finish("add", [steps.emit("mul", [y, scale]), bias])


def local_from_onnx(op: Foreign) -> tuple[Node, ...]:
    """LRN: x / (bias + alpha / size * sum of the squares of near channels)^beta."""
    op.expect_inputs(1)
    op.expect_dtype(0, DType.F32)
    shape, size = op.type(0).shape, int(op.attrs.get("size", 0))
    if len(shape) not in (3, 4) or size < 1 or shape[1] > 4096 or op.type(0).elements == 0:
        raise op.error(f"{size} channels of {op.type(0)}")
    steps = Steps(op)
    channels = np.arange(shape[1])
    distance = channels[None, :] - channels[:, None]
    near = (-((size - 1) // 2) <= distance) & (distance <= -(-(size - 1) // 2))
    weights = near * float(op.attrs.get("alpha", 1e-4)) / size
    image = to_image(steps, op.inputs[0])
    one = window_attrs([Axis(1, 1)])
    bias = np.full(shape[1], op.attrs.get("bias", 1.0), np.float32)
    total = steps.emit(
        "conv2d",
        [
            steps.emit("mul", [image, image]),
            steps.const(weights.astype(np.float32)[:, None, None, :], "near"),
            steps.const(bias, "bias"),
        ],
        one,
    )
    power = steps.const(floats(-float(op.attrs.get("beta", 0.75))), "power")
    factor = steps.emit("pow", [total, power])
    return from_image(steps, steps.emit("mul", [image, factor]), len(shape))


for _kind, _importer in (
    ("BatchNormalization", batch_from_onnx),
    ("InstanceNormalization", instance_from_onnx),
    ("LayerNormalization", layer_from_onnx),
    ("RMSNormalization", rms_from_onnx),
    ("GroupNormalization", group_from_onnx),
    ("LRN", local_from_onnx),
):
    IMPORTERS["onnx"].add(_kind, _importer)
