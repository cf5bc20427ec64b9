"""Small whole models as TFLite files, made from seeds: what tests of packages and runs share."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from midge import driver
from midge.frontends import tflite
from midge.graph.ir import Graph
from tflite_builder import TFLiteModel

SAME, VALID = 0, 1
NONE, RELU, RELU6 = 0, 1, 3
CONV = {"strideH": 1, "strideW": 1, "dilationHFactor": 1, "dilationWFactor": 1}


def graph(data: bytes, name: str = "model") -> Graph:
    """The graph of a TFLite file's bytes."""
    driver.load_operators()
    return tflite.read(data, name)


def cnn_int8(seed: int = 0, name: str = "x") -> bytes:
    """int8: padding, strides, per-channel and depthwise convolution, residual add, pooling, a
    fully connected layer and softmax."""
    rng = np.random.default_rng(seed)
    m = builder()
    x = m.input((1, 9, 7, 3), "int8", 0.05, -3, name=name)
    a = m.value((1, 5, 4, 8), "int8", 0.04, -128)
    _conv(m, rng, x, a, (8, 3, 3, 3), padding=SAME, strideH=2, strideW=2, activation=RELU)
    b = m.value((1, 5, 4, 8), "int8", 0.05, 4)
    _depthwise(m, rng, a, b, (1, 3, 3, 8))
    c = m.value((1, 5, 4, 8), "int8", 0.06, -7)
    _conv(m, rng, b, c, (8, 1, 1, 8), padding=VALID)
    d = m.value((1, 5, 4, 8), "int8", 0.07, -20)
    m.op("ADD", [a, c], [d], "AddOptions", fusedActivationFunction=RELU)
    e = m.value((1, 2, 2, 8), "int8", 0.07, -20)
    pool = {"filterHeight": 2, "filterWidth": 2, "strideH": 2, "strideW": 2, "padding": VALID}
    m.op("MAX_POOL_2D", [d], [e], "Pool2DOptions", **pool)
    f = m.value((1, 32), "int8", 0.07, -20)
    m.op("RESHAPE", [e, m.const(np.array([1, 32], np.int32))], [f], "ReshapeOptions")
    g = m.value((1, 5), "int8", 0.1, 11)
    _dense(m, rng, f, g, (5, 32))
    y = m.value((1, 5), "int8", 1 / 256, -128, name="scores")
    m.op("SOFTMAX", [g], [y], "SoftmaxOptions", beta=1.0)
    return m.build([y])


def cnn_float(seed: int = 0) -> bytes:
    """float32: the same operators."""
    rng = np.random.default_rng(seed)
    m = builder()
    x = m.input((1, 8, 6, 2), "float32", name="x")
    a = m.value((1, 4, 3, 4), "float32")
    _conv(m, rng, x, a, (4, 3, 3, 2), padding=SAME, strideH=2, strideW=2, activation=RELU6)
    b = m.value((1, 4, 3, 4), "float32")
    _depthwise(m, rng, a, b, (1, 3, 3, 4))
    c = m.value((1, 4, 3, 4), "float32")
    m.op("ADD", [a, b], [c], "AddOptions", fusedActivationFunction=NONE)
    d = m.value((1, 48), "float32")
    m.op("RESHAPE", [c, m.const(np.array([1, 48], np.int32))], [d], "ReshapeOptions")
    e = m.value((1, 5), "float32")
    _dense(m, rng, d, e, (5, 48))
    y = m.value((1, 5), "float32", name="scores")
    m.op("SOFTMAX", [e], [y], "SoftmaxOptions", beta=1.0)
    return m.build([y])


def cnn_int16(seed: int = 0) -> bytes:
    """int16 activations, int8 weights, 64-bit biases."""
    rng = np.random.default_rng(seed)
    m = builder()
    x = m.input((1, 6, 5, 2), "int16", 0.001, name="x")
    a = m.value((1, 6, 5, 4), "int16", 0.002)
    _conv(m, rng, x, a, (4, 3, 3, 2), padding=SAME, activation=RELU)
    b = m.value((1, 6, 5, 4), "int16", 0.003)
    _depthwise(m, rng, a, b, (1, 3, 3, 4))
    c = m.value((1, 120), "int16", 0.003)
    m.op("RESHAPE", [b, m.const(np.array([1, 120], np.int32))], [c], "ReshapeOptions")
    y = m.value((1, 3), "int16", 0.02, name="scores")
    _dense(m, rng, c, y, (3, 120))
    return m.build([y])


def two_ports() -> bytes:
    """Two inputs of different shapes, two outputs."""
    m = builder()
    a = m.input((1, 4, 6), "int8", 0.1, 1, name="left")
    b = m.input((6,), "int8", 0.2, -1, name="right")
    total = m.value((1, 4, 6), "int8", 0.25, 2, name="sum")
    m.op("ADD", [a, b], [total], "AddOptions", fusedActivationFunction=NONE)
    product = m.value((1, 4, 6), "int8", 0.9, 0, name="product")
    m.op("MUL", [total, b], [product], "MulOptions", fusedActivationFunction=NONE)
    return m.build([total, product])


MODELS: dict[str, Callable[[], bytes]] = {
    "int8": cnn_int8, "float": cnn_float, "int16": cnn_int16, "ports": two_ports,
}  # fmt: skip


def builder() -> TFLiteModel:
    """A model under construction; skips the test where the schema is not installed."""
    pytest.importorskip("ai_edge_litert", reason="needs pip install '.[verify]'")
    return TFLiteModel()


def _params(m: TFLiteModel, value: int) -> tuple[str, float | None]:
    """The name of a tensor's element type, and its scale."""
    tensor = m.graph.tensors[value]
    kinds = {0: "float32", 9: "int8", 7: "int16"}
    return kinds[tensor.type], float(tensor.quantization.scale[0]) if tensor.quantization else None


def _weights(
    m: TFLiteModel, rng: np.random.Generator, x: int, shape: tuple[int, ...], axis: int, count: int
) -> list[int]:
    """Weights and biases that suit the type of input `x`."""
    kind, scale = _params(m, x)
    if scale is None:
        w = m.const(rng.standard_normal(shape).astype(np.float32) / 4)
        return [w, m.const(rng.standard_normal(count).astype(np.float32))]
    scales = rng.uniform(0.002, 0.01, count).astype(np.float32)
    w = m.const(rng.integers(-127, 128, shape, np.int8), scales, axis=axis)
    wide: Any = np.int32 if kind == "int8" else np.int64
    return [w, m.const(rng.integers(-2000, 2000, count, wide), scales * np.float32(scale))]


def _conv(
    m: TFLiteModel, rng: np.random.Generator, x: int, y: int, shape: tuple[int, ...], *,
    activation: int = NONE, **options: int,
) -> None:  # fmt: skip
    inputs = [x, *_weights(m, rng, x, shape, 0, shape[0])]
    options = {**CONV, **options, "fusedActivationFunction": activation}
    m.op("CONV_2D", inputs, [y], "Conv2DOptions", **options)


def _depthwise(
    m: TFLiteModel, rng: np.random.Generator, x: int, y: int, shape: tuple[int, ...]
) -> None:
    inputs = [x, *_weights(m, rng, x, shape, 3, shape[3])]
    options = {**CONV, "padding": SAME, "depthMultiplier": 1, "fusedActivationFunction": NONE}
    m.op("DEPTHWISE_CONV_2D", inputs, [y], "DepthwiseConv2DOptions", **options)


def _dense(
    m: TFLiteModel, rng: np.random.Generator, x: int, y: int, shape: tuple[int, ...]
) -> None:
    kind, scale = _params(m, x)
    inputs = [x, *_weights(m, rng, x, shape, 0, 1 if scale is not None else shape[0])]
    if scale is not None:  # one scale for all channels, biases for each
        wide: Any = np.int32 if kind == "int8" else np.int64
        total = m.graph.tensors[inputs[1]].quantization.scale[0] * scale
        inputs[2] = m.const(rng.integers(-2000, 2000, shape[0], wide), total)
    m.op("FULLY_CONNECTED", inputs, [y], "FullyConnectedOptions", fusedActivationFunction=NONE)
