"""Small ONNX models: a builder, and networks as their frameworks export them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

from midge.core.types import Array

_TYPES = {"f32": 1, "i64": 7, "i32": 6, "bool": 9, "u8": 2, "i8": 3}
Port = tuple[str, Sequence[int | str]]


class OnnxModel:
    """Nodes and constants as they are added; `build` gives the file's bytes."""

    def __init__(self, seed: int = 0, opset: int = 17) -> None:
        self.rng, self.opset = np.random.default_rng(seed), opset
        self.nodes: list[Any] = []
        self.constants: list[Any] = []
        self.domains = {"": opset}

    def const(self, value: Any, dtype: Any = np.float32) -> str:
        name = f"c{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(np.asarray(value, dtype), name))
        return name

    def ints(self, *values: int) -> str:
        return self.const(values, np.int64)

    def weights(self, *shape: int) -> str:
        return self.const(self.rng.normal(0, 0.3, shape))

    def op(self, kind: str, *inputs: str, output: str = "", **attrs: Any) -> str:
        """One operator of one output."""
        name = output or f"v{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, inputs, [name], **attrs))
        return name

    def conv(self, x: str, ic: int, oc: int, k: int = 3, *, bias: bool = True, **attrs: Any) -> str:
        """A convolution that keeps the size, unless there are strides."""
        inputs = [x, self.weights(oc, ic // attrs.get("group", 1), k, k)]
        inputs += [self.weights(oc)] if bias else []
        return self.op("Conv", *inputs, pads=[k // 2] * 4, **attrs)

    def norm(self, x: str, channels: int) -> str:
        """Batch normalisation with statistics as after training."""
        scale, bias, mean = (self.weights(channels) for _ in range(3))
        variance = self.const(self.rng.uniform(0.5, 1.5, channels))
        return self.op("BatchNormalization", x, scale, bias, mean, variance)

    def linear(self, x: str, n: int, m: int, output: str = "") -> str:
        return self.op("Gemm", x, self.weights(m, n), self.weights(m), output=output, transB=1)

    def build(self, inputs: Sequence[Port], outputs: Sequence[str], dtype: str = "f32") -> bytes:
        ins = [helper.make_tensor_value_info(n, _TYPES[dtype], list(s)) for n, s in inputs]
        outs = [onnx.ValueInfoProto(name=n) for n in outputs]
        graph = helper.make_graph(self.nodes, "net", ins, outs, self.constants)
        imports = [helper.make_opsetid(d, v) for d, v in self.domains.items()]
        model = helper.make_model(graph, opset_imports=imports, ir_version=8)
        return bytes(model.SerializeToString())


def resnet() -> bytes:
    """A stem, a plain block and one with a strided shortcut, global average, classifier."""
    m = OnnxModel()
    x = m.op("Relu", m.norm(m.conv("image", 3, 8, bias=False, strides=[2, 2]), 8))
    x = m.op("MaxPool", x, kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1])
    y = m.norm(m.conv(m.op("Relu", m.norm(m.conv(x, 8, 8), 8)), 8, 8), 8)
    x = m.op("Relu", m.op("Add", x, y))
    y = m.op("Relu", m.norm(m.conv(x, 8, 12, strides=[2, 2]), 12))
    y = m.norm(m.conv(y, 12, 12), 12)
    x = m.op("Relu", m.op("Add", y, m.norm(m.conv(x, 8, 12, 1, strides=[2, 2]), 12)))
    x = m.op("Flatten", m.op("GlobalAveragePool", x))
    m.linear(x, 12, 5, output="scores")
    return m.build([("image", ["N", 3, 16, 16])], ["scores"])


def mobilenet() -> bytes:
    """Inverted residual blocks with squeeze-and-excitation, HardSwish and ReLU6."""
    m = OnnxModel(1)
    low, high = m.const(0.0), m.const(6.0)
    x = m.op("HardSwish", m.conv("image", 3, 8, strides=[2, 2]))
    y = m.op("Clip", m.conv(x, 8, 16, 1), low, high)
    y = m.op("Clip", m.conv(y, 16, 16, group=16), low, high)
    s = m.op("Relu", m.conv(m.op("GlobalAveragePool", y), 16, 4, 1))
    s = m.op("HardSigmoid", m.conv(s, 4, 16, 1), alpha=1 / 6, beta=0.5)
    x = m.op("Add", x, m.norm(m.conv(m.op("Mul", y, s), 16, 8, 1), 8))
    x = m.op("ReduceMean", x, axes=[2, 3], keepdims=0)
    m.linear(x, 8, 4, output="scores")
    return m.build([("image", ["N", 3, 16, 16])], ["scores"])


def unet() -> bytes:
    """Down, up by a transposed convolution and by resizing, with skips."""
    m = OnnxModel(2)
    a = m.op("Relu", m.conv("image", 1, 4))
    b = m.op("Relu", m.conv(m.op("MaxPool", a, kernel_shape=[2, 2], strides=[2, 2]), 4, 6))
    c = m.op("Relu", m.conv(m.op("AveragePool", b, kernel_shape=[2, 2], strides=[2, 2]), 6, 8))
    u = m.op("ConvTranspose", c, m.weights(8, 6, 2, 2), m.weights(6), strides=[2, 2])
    u = m.op("LeakyRelu", m.conv(m.op("Concat", u, b, axis=1), 12, 6), alpha=0.1)
    scales = m.const([1, 1, 2, 2])
    u = m.op("Resize", u, "", scales, mode="linear")
    u = m.op("Relu", m.conv(m.op("Concat", u, a, axis=1), 10, 4))
    m.op("Sigmoid", m.conv(u, 4, 2, 1), output="mask")
    return m.build([("image", [1, 1, 16, 12])], ["mask"])


def vgg() -> bytes:
    """Convolutions, flattened into dense layers."""
    m = OnnxModel(3)
    x = m.op("Relu", m.conv("image", 1, 4))
    x = m.op("MaxPool", x, kernel_shape=[2, 2], strides=[2, 2])
    x = m.op("Relu", m.conv(x, 4, 6))
    x = m.op("Dropout", m.op("Relu", m.op("Flatten", x)))
    x = m.op("Relu", m.linear(x, 96, 10))
    x = m.linear(x, 10, 5)
    m.op("Softmax", x, output="scores", axis=1)
    return m.build([("image", ["N", 1, 8, 8])], ["scores"])


def shufflenet() -> bytes:
    """Grouped convolutions with a channel shuffle and split channels."""
    m = OnnxModel(4)
    x = m.op("Relu", m.conv("image", 4, 8, 1, group=2))
    x = m.op("Reshape", x, m.ints(0, 2, 4, 6, 6))
    x = m.op("Transpose", x, perm=[0, 2, 1, 3, 4])
    x = m.op("Reshape", x, m.ints(0, -1, 6, 6))
    a = m.op("Slice", x, m.ints(0), m.ints(4), m.ints(1))
    b = m.op("Slice", x, m.ints(4), m.ints(8), m.ints(1))
    b = m.op("PRelu", m.conv(b, 4, 4, group=4), m.weights(4, 1, 1))
    x = m.op("Pad", m.op("Concat", a, b, axis=1), m.ints(0, 0, 1, 0, 0, 0, 0, 1))
    x = m.op("Relu", m.op("Conv", x, m.weights(4, 8, 3, 3)))
    x = m.op("GlobalMaxPool", x)
    m.op("Squeeze", x, m.ints(2, 3), output="y")
    return m.build([("image", [1, 4, 6, 6])], ["y"])


def cnn1d() -> bytes:
    """Convolutions over a window of three sensors."""
    m = OnnxModel(5)
    x = m.op("Conv", "window", m.weights(8, 3, 5), m.weights(8), pads=[2, 2], strides=[2])
    x = m.op("MaxPool", m.op("Relu", m.norm(x, 8)), kernel_shape=[2], strides=[2])
    x = m.op("Relu", m.op("Conv", x, m.weights(6, 8, 3), m.weights(6), dilations=[2]))
    x = m.op("ReduceMean", x, axes=[2], keepdims=0)
    m.linear(x, 6, 4, output="scores")
    return m.build([("window", ["N", 3, 64])], ["scores"])


def _recurrent(kind: str, gates: int, **attrs: Any) -> bytes:
    """A recurrent layer as PyTorch exports one with batch first, its last step classified."""
    m = OnnxModel(6)
    directions = 2 if attrs.get("direction") == "bidirectional" else 1
    x = m.op("Transpose", "window", perm=[1, 0, 2])
    w, r = m.weights(directions, gates * 5, 3), m.weights(directions, gates * 5, 5)
    b = m.weights(directions, 2 * gates * 5)
    inputs = [x, w, r, b, "", m.const(np.zeros((directions, 1, 5)))]
    inputs += [m.weights(directions, 1, 5)] if kind == "LSTM" else []
    m.nodes.append(helper.make_node(kind, inputs, ["seq", "last"], hidden_size=5, **attrs))
    y = m.op("Squeeze", m.op("Slice", "seq", m.ints(-1), m.ints(1 << 62), m.ints(0)), m.ints(0))
    y = m.op("Reshape", m.op("Transpose", y, perm=[1, 0, 2]), m.ints(1, directions * 5))
    m.linear(y, directions * 5, 4, output="scores")
    return m.build([("window", ["N", 6, 3])], ["scores", "last"])


def lstm() -> bytes:
    return _recurrent("LSTM", 4)


def lstm_both_ways() -> bytes:
    return _recurrent("LSTM", 4, direction="bidirectional")


def gru() -> bytes:
    return _recurrent("GRU", 3, linear_before_reset=1)


def gru_backwards() -> bytes:
    return _recurrent("GRU", 3, direction="reverse")


def rnn() -> bytes:
    return _recurrent("RNN", 1, activations=["Relu"], clip=0.5)


def transformer() -> bytes:
    """An encoder layer: two heads of attention with a causal mask, Gelu, layer norms."""
    m = OnnxModel(7)
    n, d, heads = 5, 8, 2

    def projected(x: str) -> str:
        return m.op("Add", m.op("MatMul", x, m.weights(d, d)), m.weights(d))

    def head(x: str, perm: list[int]) -> str:
        split = m.op("Reshape", projected(x), m.ints(1, n, heads, d // heads))
        return m.op("Transpose", split, perm=perm)

    def norm(x: str, output: str = "") -> str:
        return m.op("LayerNormalization", x, m.weights(d), m.weights(d), output=output, axis=-1)

    x = norm("tokens")
    q, k, v = (head(x, p) for p in ([0, 2, 1, 3], [0, 2, 3, 1], [0, 2, 1, 3]))
    scores = m.op("Div", m.op("MatMul", q, k), m.const(np.sqrt(d / heads)))
    mask = m.const(np.triu(np.full((n, n), -np.inf), 1))
    attention = m.op("Softmax", m.op("Add", scores, mask), axis=-1)
    y = m.op("Transpose", m.op("MatMul", attention, v), perm=[0, 2, 1, 3])
    x = m.op("Add", "tokens", projected(m.op("Reshape", y, m.ints(1, n, d))))
    y = m.op("MatMul", norm(x), m.weights(d, 12))
    half, one, root = m.const(0.5), m.const(1.0), m.const(np.sqrt(2))
    gelu = m.op("Mul", y, m.op("Mul", m.op("Add", m.op("Erf", m.op("Div", y, root)), one), half))
    norm(m.op("Add", x, m.op("MatMul", gelu, m.weights(12, d))), output="encoded")
    return m.build([("tokens", ["N", n, d])], ["encoded"])


def repvgg() -> bytes:
    """Windows beside a branch that reads the same tensor, and is computed first."""
    m = OnnxModel(9)
    x = m.conv("image", 3, 4)
    x = m.op("Relu", m.op("Add", m.op("Mul", x, m.weights(1, 4, 1, 1)), m.conv(x, 4, 4)))
    x = m.op("Relu", m.op("Add", m.norm(x, 4), m.conv(x, 4, 4, group=4)))
    for kind in ("MaxPool", "AveragePool"):
        scaled = m.op("Mul", x, m.weights(1, 4, 1, 1))
        x = m.op("Add", scaled, m.op(kind, x, kernel_shape=[3, 3], pads=[1, 1, 1, 1]))
    m.op("Identity", x, output="features")
    return m.build([("image", ["N", 3, 6, 5])], ["features"])


NETS: dict[str, Callable[[], bytes]] = {
    f.__name__: f
    for f in (
        resnet, mobilenet, unet, vgg, shufflenet, cnn1d, lstm, lstm_both_ways, gru, gru_backwards,
        rnn, transformer, repvgg,
    )
}  # fmt: skip
# Those made of convolutions, in which nothing is transposed but at the border.
CONVOLUTIONAL = ("resnet", "mobilenet", "unet", "vgg", "shufflenet", "cnn1d", "repvgg")


def random_inputs(shapes: dict[str, tuple[int, ...]], seed: int = 0) -> dict[str, Array]:
    rng = np.random.default_rng(seed)
    return {n: rng.normal(size=s).astype(np.float32) for n, s in shapes.items()}
