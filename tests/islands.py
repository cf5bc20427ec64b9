"""Float operators between dequantisation and quantisation, with scales that make ties."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from midge.core.types import Array
from test_onnx_quantized import Model, onnx

SCALES = (0.0235, 0.05, 0.1, 0.0371, 1 / 64, 0.25)
Build = Callable[["Island"], str]


class Island(Model):
    """Inputs are quantised, mostly by the scale that the result has, too."""

    def __init__(self, seed: int, opset: int = 17) -> None:
        super().__init__(seed)
        self.opset = opset
        self.scale = float(self.rng.choice(SCALES))
        self.dtype: Any = np.uint8 if self.rng.random() < 0.4 else np.int8
        self.values: dict[str, Array] = {}

    def zero(self) -> Any:
        point = int(self.rng.choice([0, -128, 3, -11]))
        return np.array(point + (128 if self.dtype is np.uint8 else 0), self.dtype)

    def source(self, *shape: int) -> str:
        name = self.input(f"x{len(self.values)}", shape)
        self.values[name] = (self.rng.integers(-128, 128, shape) * self.scale).astype(np.float32)
        return self.through(name, self.scale, self.zero())

    def floats(self, *shape: int) -> str:
        return self.const(self.rng.normal(1, 0.3, shape).astype(np.float32))

    def bytes(self, *shape: int) -> str:
        """Weights, and a scale for each of the first axis."""
        scales = 10 ** self.rng.uniform(-3, -1, shape[0])
        w = self.const(self.rng.integers(-127, 128, shape).astype(np.int8))
        return self.real(w, scales, np.zeros(shape[0], np.int8), axis=0)

    def finished(self, values: Sequence[str]) -> bytes:
        """The model; results have the scale of the inputs in two of three."""
        kind = onnx.TensorProto.UINT8 if self.dtype is np.uint8 else onnx.TensorProto.INT8
        outputs = []
        for value in values:
            scale = self.scale if self.rng.random() < 0.7 else float(self.rng.choice(SCALES))
            y = self.quantized(value, scale, self.zero())
            outputs.append(onnx.helper.make_tensor_value_info(y, kind, None))
        graph = onnx.helper.make_graph(self.nodes, "g", self.inputs, outputs, self.consts)
        imports = [onnx.helper.make_opsetid("", self.opset)]
        model = onnx.helper.make_model(graph, opset_imports=imports, ir_version=8)
        return bytes(model.SerializeToString())


def resized(place: str, *scales: float, **attrs: Any) -> Build:
    def build(m: Island) -> str:
        factors = m.const(np.array([1, 1, *scales], np.float32))
        more = {"mode": "linear", "coordinate_transformation_mode": place, **attrs}
        region = m.const(np.zeros(0, np.float32)) if m.opset < 13 else ""
        return m.op("Resize", m.source(1, 3, 5, 6), region, factors, **more)

    return build


def pooled(*shape: int, **attrs: Any) -> Build:
    return lambda m: m.op("AveragePool", m.source(*shape), **attrs)


def unary(kind: str, **attrs: Any) -> Build:
    return lambda m: m.op(kind, m.source(4, 64), **attrs)


def padded(m: Island) -> str:
    """The value comes through DequantizeLinear, as ONNX Runtime's quantiser leaves it."""
    pads = m.const(np.array([0, 0, 1, 1, 0, 0, 1, 2], np.int64))
    value = m.real(m.const(np.array(17, m.dtype)), m.scale, m.zero())
    return m.op("Pad", m.source(1, 2, 3, 3), pads, value)


def limited(m: Island) -> str:
    low, high = (m.real(m.const(np.array(v, m.dtype)), m.scale, m.zero()) for v in (5, 100))
    return m.op("Clip", m.source(4, 64), low, high)


def mixed(m: Island) -> str:
    return m.op("Add", m.op("Mul", m.source(4, 16), m.source(4, 16)), m.source(4, 16))


def swish(m: Island) -> str:
    x = m.op("Add", m.source(4, 16), m.source(4, 16))
    return m.op("Mul", x, m.op("Sigmoid", x))


def gelu(m: Island) -> str:
    x = m.op("Add", m.source(4, 16), m.source(4, 16))
    part = m.op("Erf", m.op("Div", x, m.const(np.float32(np.sqrt(2)))))
    both = m.op("Mul", x, m.op("Add", part, m.const(np.float32(1))))
    return m.op("Mul", both, m.const(np.float32(0.5)))


def powers(m: Island) -> str:
    exponents = (np.float32(2), np.float32(3), np.float32(1.7))
    parts = [m.op("Pow", m.op("Abs", m.source(2, 16)), m.const(e)) for e in exponents]
    return m.op("Concat", *parts, axis=0)


# ONNX Runtime's bytes.
EXACT: dict[str, Build] = {
    "average 3x3, padding left out": pooled(
        1, 4, 7, 7, kernel_shape=[3, 3], pads=[1] * 4, count_include_pad=0
    ),
    "average 3x3, padding counted": pooled(
        1, 4, 7, 7, kernel_shape=[3, 3], pads=[1] * 4, count_include_pad=1
    ),
    "average 2x2": pooled(1, 4, 8, 8, kernel_shape=[2, 2], strides=[2, 2]),
    "average of rows that end early": pooled(
        1, 3, 7, 8, kernel_shape=[3, 2], strides=[2, 2], ceil_mode=1, pads=[0, 1, 1, 0]
    ),
    "average of a series": pooled(1, 4, 19, kernel_shape=[4], strides=[2], pads=[1, 1]),
    "average with wide strides": pooled(
        1, 3, 13, 13, kernel_shape=[5, 4], strides=[3, 3], pads=[2, 1, 2, 1]
    ),
    "average of an image": pooled(1, 4, 7, 6, kernel_shape=[7, 6]),
    "global average": lambda m: m.op("GlobalAveragePool", m.source(1, 4, 6, 8)),
    "global average of an odd number": lambda m: m.op("GlobalAveragePool", m.source(2, 3, 7, 7)),
    "linear, half pixel": resized("half_pixel", 2, 2),
    "linear, half pixel, odd": resized("half_pixel", 1.7, 3),
    "linear, smaller": resized("half_pixel", 0.6, 0.5),
    "linear, aligned": resized("align_corners", 2, 2),
    "linear, aligned, odd": resized("align_corners", 1.7, 0.7),
    "linear, aligned, one row": resized("align_corners", 0.3, 2.5),
    "linear, asymmetric": resized("asymmetric", 2, 2),
    "linear, asymmetric, odd": resized("asymmetric", 1.7, 3),
    "linear, as PyTorch": resized("pytorch_half_pixel", 2, 3),
    "padding by a dequantised value": padded,
    "limits from dequantised values": limited,
    "a sum of products": mixed,
    "HardSwish": unary("HardSwish"),
    "HardSigmoid": unary("HardSigmoid"),
    "Softsign": unary("Softsign"),
    "Sqrt": unary("Sqrt"),
    "LeakyRelu": unary("LeakyRelu", alpha=0.1),
}
# Bounded by a step.
BOUNDED: dict[str, Build] = {
    "Softmax": unary("Softmax"),
    "LogSoftmax": unary("LogSoftmax"),
    "Sigmoid": unary("Sigmoid"),
    "Elu": unary("Elu"),
    "swish of a sum": swish,
    "gelu of a sum": gelu,
    "powers": powers,
    "layer norm": lambda m: m.op("LayerNormalization", m.source(4, 16), m.floats(16), m.floats(16)),
    "convolution": lambda m: m.op(
        "Conv", m.source(1, 3, 6, 6), m.bytes(4, 3, 3, 3), m.floats(4), pads=[1] * 4
    ),
    "convolution by floats": lambda m: m.op(
        "Conv", m.source(1, 3, 6, 6), m.floats(4, 3, 3, 3), m.floats(4), pads=[1] * 4
    ),
    "Gemm by floats": lambda m: m.op("Gemm", m.source(4, 9), m.floats(9, 5), m.floats(5)),
    "ConvTranspose": lambda m: m.op(
        "ConvTranspose", m.source(1, 3, 6, 6), m.floats(3, 4, 3, 3), m.floats(4), strides=[2, 2]
    ),
    "MatMul": lambda m: m.op("MatMul", m.source(4, 9), m.source(9, 5)),
    "ReduceMean": lambda m: m.op("ReduceMean", m.source(2, 8, 4, 3), axes=[1]),
    "ReduceL2": lambda m: m.op("ReduceL2", m.source(2, 3, 4, 6), axes=[1]),
    "cubic": resized("half_pixel", 2, 2, mode="cubic"),
    "LRN": lambda m: m.op("LRN", m.source(1, 6, 5, 5), size=3),
}
