"""CONV_2D and DEPTHWISE_CONV_2D against LiteRT's reference kernels."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pytest

from midge.core.errors import ModelError
from oracle import ACTIVATIONS, both_refuse, load, quant, random, same
from tflite_builder import TFLiteModel

CONV, DEPTHWISE = "CONV_2D", "DEPTHWISE_CONV_2D"


@dataclass(frozen=True)
class Case:
    """One convolution; `width` of the weights is output channels, or the depth multiplier."""

    kind: str = CONV
    dtype: str = "int8"
    bias: str = "int32"
    x: tuple[int, int, int, int] = (2, 5, 6, 3)
    kernel: tuple[int, int] = (3, 2)
    width: int = 4
    groups: int = 1
    stride: tuple[int, int] = (1, 1)
    dilation: tuple[int, int] = (1, 1)
    same: bool = True
    activation: str = "none"
    per_channel: bool = True
    bias_type: int = 0

    @property
    def depthwise(self) -> bool:
        return self.kind == DEPTHWISE

    @property
    def channels(self) -> int:
        return self.x[3] * self.width if self.depthwise else self.width

    @property
    def output(self) -> tuple[int, int, int, int]:
        sizes = []
        for n, k, s, d in zip(self.x[1:3], self.kernel, self.stride, self.dilation, strict=True):
            sizes.append(-(-n // s) if self.same else (n - (k - 1) * d - 1) // s + 1)
        return (self.x[0], sizes[0], sizes[1], self.channels)

    @property
    def weights(self) -> tuple[int, int, int, int]:
        if self.depthwise:
            return (1, *self.kernel, self.channels)
        return (self.channels, *self.kernel, self.x[3] // self.groups)


def model(c: Case, seed: int) -> tuple[bytes, dict[str, object]]:
    rng = np.random.default_rng(seed)
    m = TFLiteModel()
    sx, zx = quant(rng, c.dtype, *((-2, -1) if c.dtype == "int8" else (-4, -3)))
    x = m.input(c.x, c.dtype, sx, zx)
    count = c.channels if c.per_channel else 1
    scales = 10 ** rng.uniform(-3, -1.5, count)
    w = random(rng, c.weights, "int8" if sx else "float32")
    b = rng.integers(-2000, 2000, c.channels).astype(c.bias if sx else "float32")
    if sx:
        axis = 3 if c.depthwise else 0
        inputs = [x, m.const(w, list(scales), axis=axis), m.const(b, list(sx * scales))]
    else:
        inputs = [x, m.const(w), m.const(b)]
    terms = w.size / c.channels
    _, zy = quant(rng, c.dtype)
    sy = sx * scales.max() * np.sqrt(terms) * 60 if sx else None
    y = m.value(c.output, c.dtype, sy, zy)
    fields = {"depthMultiplier": c.width} if c.depthwise else {}
    if c.bias_type:
        fields["quantizedBiasType"] = c.bias_type
    m.op(
        c.kind,
        inputs,
        [y],
        "DepthwiseConv2DOptions" if c.depthwise else "Conv2DOptions",
        strideH=c.stride[0],
        strideW=c.stride[1],
        dilationHFactor=c.dilation[0],
        dilationWFactor=c.dilation[1],
        padding=0 if c.same else 1,
        fusedActivationFunction=ACTIVATIONS[c.activation],
        **fields,
    )
    return m.build([y]), {"t0": random(rng, c.x, c.dtype)}


SHAPES = {
    "same": Case(),
    "valid": Case(same=False),
    "strided": Case(stride=(2, 2)),
    "strides differ": Case(stride=(1, 2), same=False),
    "even kernel, odd image": Case(x=(1, 7, 7, 2), kernel=(2, 4), stride=(2, 2)),
    "dilated": Case(dilation=(2, 2)),
    "dilated, valid": Case(x=(1, 7, 5, 2), dilation=(2, 1), same=False),
    "pointwise": Case(x=(1, 4, 3, 5), kernel=(1, 1), width=7),
    "one pixel": Case(x=(1, 1, 1, 3), kernel=(3, 3), width=2),
    "one channel": Case(x=(1, 5, 4, 1), width=1),
    "kernel larger than image": Case(x=(1, 2, 3, 2), kernel=(5, 4)),
}
TYPES = {"int8": Case(), "int16": Case(dtype="int16", bias="int64"), "float": Case(dtype="float32")}


def check(c: Case, seed: int = 0) -> None:
    data, inputs = model(c, seed)
    same(data, inputs)


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("kind", [CONV, DEPTHWISE])
@pytest.mark.parametrize("shape", SHAPES)
def test_shapes(kind: str, dtype: str, shape: str) -> None:
    t = TYPES[dtype]
    check(replace(SHAPES[shape], kind=kind, dtype=t.dtype, bias=t.bias))


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("kind", [CONV, DEPTHWISE])
def test_quantisation(kind: str, dtype: str, seed: int) -> None:
    """Random scales and zero points, saturation included; one scale for all where seed is odd."""
    per_channel = kind == DEPTHWISE or seed % 2 == 0
    check(replace(TYPES[dtype], kind=kind, per_channel=per_channel), seed)


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("kind", [CONV, DEPTHWISE])
def test_fused_activations(kind: str, dtype: str, activation: str) -> None:
    for seed in range(3):
        check(replace(TYPES[dtype], kind=kind, activation=activation), seed)


@pytest.mark.parametrize("dtype", TYPES)
def test_grouped_convolution(dtype: str) -> None:
    check(replace(TYPES[dtype], x=(1, 5, 5, 6), width=9, groups=3))


@pytest.mark.parametrize("seed", range(4))
def test_int16_with_a_32_bit_bias_rounds_twice(seed: int) -> None:
    check(Case(dtype="int16", bias="int32", bias_type=2), seed)


def test_depthwise_weights_with_one_scale() -> None:
    check(Case(kind=DEPTHWISE, per_channel=False))


def test_weights_with_a_zero_point_are_refused() -> None:
    m = TFLiteModel()
    x = m.input((1, 2, 2, 1), "int8", 0.1, 0)
    w = m.const(np.ones((1, 1, 1, 1), np.int8), 0.1, 3)
    b = m.const(np.zeros(1, np.int32), 0.01)
    y = m.value((1, 2, 2, 1), "int8", 0.1, 0)
    m.op(CONV, [x, w, b], [y], "Conv2DOptions", strideH=1, strideW=1)
    both_refuse(m.build([y]), {"t0": np.zeros((1, 2, 2, 1), np.int8)})


def test_computed_weights_of_another_type_are_refused() -> None:
    m = TFLiteModel()
    x = m.input((1, 2, 2, 1), "int8", 0.1, 0)
    w = m.input((1, 1, 1, 1), "int16", 0.1, 0)
    y = m.value((1, 2, 2, 1), "int8", 0.1, 0)
    m.op(CONV, [x, w], [y], "Conv2DOptions", strideH=1, strideW=1)
    with pytest.raises(ModelError, match=r"CONV_2D.*input 1 is i16"):
        load(m.build([y]))
