"""SOFTMAX against LiteRT's reference kernels."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from midge.core.errors import ModelError
from midge.graph.evaluate import evaluate
from oracle import load, random, same
from tflite_builder import TFLiteModel

TARGETS = {"int8": (1 / 256, -128), "int16": (1 / 32768, 0), "float32": (None, 0)}


def model(x: Any, scale: float | None, to: str, beta: float = 1.0, zero: int = 0) -> bytes:
    m = TFLiteModel()
    a = m.input(x.shape, str(x.dtype), scale, zero)
    y = m.value(x.shape, to, *TARGETS[to])
    m.op("SOFTMAX", [a], [y], "SoftmaxOptions", beta=beta)
    return m.build([y])


@pytest.mark.parametrize("beta", [1.0, 0.5, 2.3])
@pytest.mark.parametrize("exponent", [-3.0, -2.2, -1.1, -0.3, 0.4])
@pytest.mark.parametrize(("dtype", "to"), [("int8", "int8"), ("int16", "int16"), ("int8", "int16")])
def test_quantised(dtype: str, to: str, exponent: float, beta: float) -> None:
    rng = np.random.default_rng(int(exponent * 10) % 100)
    scale = 10 ** (exponent - (2 if dtype == "int16" else 0))
    for shape in ((3, 37), (2, 1), (2, 2, 5), (4,)):
        x = random(rng, shape, dtype)
        same(model(x, scale, to, beta, 5 if dtype == "int8" else 0), {"t0": x})


@pytest.mark.parametrize("dtype", ["int8", "int16"])
def test_equal_and_extreme_rows(dtype: str) -> None:
    info = np.iinfo(dtype)
    rows = [[info.min] * 8, [info.max] * 8, [info.min, info.max] * 4, [0] * 7 + [info.max]]
    x = np.array(rows, dtype)
    for scale in (0.1, 1e-4):
        same(model(x, scale if dtype == "int8" else scale / 100, dtype), {"t0": x})


def test_long_rows() -> None:
    x = random(np.random.default_rng(0), (1, 4000), "int8")
    same(model(x, 0.1, "int8"), {"t0": x})


def test_great_sums() -> None:
    """512 and more exponentials near 1 abort LiteRT's kernel; here they are what they should be."""
    x = np.zeros((1, 600), np.int8)
    x[0, ::3] = -10
    got = evaluate(load(model(x, 0.1, "int8")), {"t0": x})["t1"].astype(int)
    e = np.exp(x * 0.1)
    assert np.abs((got + 128) / 256 - e / e.sum()).max() <= 0.51 / 256


@pytest.mark.parametrize("beta", [1.0, 0.5, 2.3])
def test_float(beta: float) -> None:
    """Within 8 ulp: the framework rounds every step to binary32."""
    x = random(np.random.default_rng(1), (5, 33), "float32")
    same(model(x, None, "float32", beta), {"t0": x}, ulps=8)


def test_rows_that_overflow_the_sum_are_refused() -> None:
    x = np.zeros((1, 5000), np.int8)
    graph = load(model(x, 0.1, "int8"))
    with pytest.raises(ModelError, match="at most 4096"):
        evaluate(graph, {"t0": x})
