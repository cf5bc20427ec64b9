"""QUANTIZE and DEQUANTIZE against LiteRT's reference kernels."""

from __future__ import annotations

import numpy as np
import pytest

from midge.graph.evaluate import evaluate
from oracle import every, load, quant, random, same, unary
from tflite_builder import TFLiteModel

SEEDS = range(8)
NONE = (None, 0)
REQUANTISED = [
    ("int8", "int8"),
    ("int16", "int8"),
    ("int16", "int16"),
    ("int8", "uint8"),
    ("uint8", "int8"),
    ("uint8", "uint8"),
]


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("dtype", ["int8", "int16", "uint8"])
def test_quantize(dtype: str, seed: int) -> None:
    rng = np.random.default_rng(seed)
    scale, zero = quant(rng, dtype)
    steps = 400 if dtype != "int16" else 70000
    x = (rng.uniform(-steps, steps, 2000) * scale).astype(np.float32)
    same(unary("QUANTIZE", x, dtype, NONE, (scale, zero)), {"t0": x})


@pytest.mark.parametrize("scale", [0.5, 0.1, 1 / 3])
def test_quantize_rounds_ties_away_from_zero(scale: float) -> None:
    """Around halves of a step, binary32's neighbours included."""
    halves = ((np.arange(-300, 300) + 0.5) * np.float32(scale)).astype(np.float32)
    x = np.concatenate([halves, np.nextafter(halves, 1e9), np.nextafter(halves, -1e9)])
    x = np.concatenate([x, np.array([0.0, -0.0, 1e6, -1e6, 1e-40], np.float32)]).astype(np.float32)
    same(unary("QUANTIZE", x, "int8", NONE, (scale, 3)), {"t0": x})


def test_quantize_saturates() -> None:
    """Beyond 2^31 steps LiteRT's result is undefined: it casts to int32 before it limits."""
    x = np.array([1e30, -1e30, np.inf, -np.inf, 1e-40], np.float32)
    graph = load(unary("QUANTIZE", x, "int8", NONE, (0.1, 3)))
    assert evaluate(graph, {"t0": x})["t1"].tolist() == [127, -128, 127, -128, 3]


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize(("dtype", "to"), REQUANTISED)
def test_requantize(dtype: str, to: str, seed: int) -> None:
    rng = np.random.default_rng(seed)
    scale, zero = quant(rng, dtype)
    ratio = 10 ** rng.uniform(-0.7, 1) * (250 if (dtype, to) == ("int16", "int8") else 1)
    x = every(dtype)
    same(unary("QUANTIZE", x, to, (scale, zero), (scale * ratio, quant(rng, to)[1])), {"t0": x})


def test_requantize_32_bits() -> None:
    rng = np.random.default_rng(0)
    x = random(rng, (500,), "int32") // 256
    same(unary("QUANTIZE", x, "int8", (1e-6, 0), (0.05, 3)), {"t0": x})
    same(unary("QUANTIZE", x, "int16", (1e-6, 0), (1e-3, 0)), {"t0": x})
    x = random(rng, (500,), "int16")
    same(unary("QUANTIZE", x, "int32", (1e-3, 0), (1e-5, 0)), {"t0": x})


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("dtype", ["int8", "int16", "uint8"])
def test_dequantize(dtype: str, seed: int) -> None:
    x = every(dtype)
    q = quant(np.random.default_rng(seed), dtype)
    same(unary("DEQUANTIZE", x, "float32", q, NONE), {"t0": x})


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_dequantize_per_channel(axis: int) -> None:
    rng = np.random.default_rng(axis)
    shape = (2, 3, 4)
    m = TFLiteModel()
    scales = list(10 ** rng.uniform(-3, 0, shape[axis]))
    x = m.input(shape, "int8", scales, list(range(shape[axis])), axis=axis)
    y = m.value(shape, "float32")
    m.op("DEQUANTIZE", [x], [y], "DequantizeOptions")
    same(m.build([y]), {"t0": random(rng, shape, "int8")})


def test_half_precision_constants() -> None:
    rng = np.random.default_rng(0)
    m = TFLiteModel()
    x = m.input((3, 4), "float32")
    halves = m.const(rng.normal(size=(3, 4)).astype(np.float16))
    floats, y = m.value((3, 4), "float32"), m.value((3, 4), "float32")
    m.op("DEQUANTIZE", [halves], [floats], "DequantizeOptions")
    m.op("ADD", [x, floats], [y], "AddOptions")
    same(m.build([y]), {"t0": random(rng, (3, 4), "float32")})
