"""AVERAGE_POOL_2D and MAX_POOL_2D against LiteRT's reference kernels."""

from __future__ import annotations

import numpy as np
import pytest

from midge.core.errors import ModelError
from oracle import ACTIVATIONS, load, quant, random, same
from tflite_builder import TFLiteModel

KINDS = ["AVERAGE_POOL_2D", "MAX_POOL_2D"]
# image, window, strides, SAME
SHAPES = [
    ((2, 5, 6, 3), (2, 2), (2, 2), False),
    ((1, 5, 5, 2), (3, 3), (2, 2), True),
    ((1, 7, 4, 1), (2, 3), (1, 2), True),
    ((1, 1, 1, 3), (3, 3), (1, 1), True),
    ((1, 4, 4, 8), (4, 4), (4, 4), False),
    ((1, 49, 10, 1), (49, 10), (1, 1), False),
]


def model(
    kind: str,
    dtype: str,
    shape: tuple[tuple[int, ...], tuple[int, int], tuple[int, int], bool],
    activation: str = "none",
    seed: int = 0,
) -> tuple[bytes, dict[str, object]]:
    rng = np.random.default_rng(seed)
    x, window, strides, same_size = shape
    sizes = [
        -(-n // s) if same_size else (n - k) // s + 1
        for n, k, s in zip(x[1:3], window, strides, strict=True)
    ]
    m = TFLiteModel()
    q = quant(rng, dtype)
    a = m.input(x, dtype, *q)
    y = m.value((x[0], *sizes, x[3]), dtype, *q)
    m.op(
        kind,
        [a],
        [y],
        "Pool2DOptions",
        filterHeight=window[0],
        filterWidth=window[1],
        strideH=strides[0],
        strideW=strides[1],
        padding=0 if same_size else 1,
        fusedActivationFunction=ACTIVATIONS[activation],
    )
    return m.build([y]), {"t0": random(rng, x, dtype)}


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("dtype", ["int8", "int16", "float32"])
@pytest.mark.parametrize("kind", KINDS)
def test_shapes(kind: str, dtype: str, shape: tuple) -> None:
    same(*model(kind, dtype, shape))


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("dtype", ["int8", "int16", "float32"])
@pytest.mark.parametrize("kind", KINDS)
def test_fused_activations(kind: str, dtype: str, activation: str) -> None:
    for seed in range(4):
        same(*model(kind, dtype, SHAPES[1], activation, seed))


def test_averages_of_small_integers_round_away_from_zero() -> None:
    data, _ = model("AVERAGE_POOL_2D", "int8", ((1, 1, 16, 1), (1, 2), (1, 2), False))
    x = np.array([1, 0, -1, 0, 3, 0, -3, 0, 2, 3, -2, -3, 127, 126, -128, -127], np.int8)
    same(data, {"t0": x.reshape(1, 1, 16, 1)})


def test_different_scales_are_refused() -> None:
    m = TFLiteModel()
    x = m.input((1, 2, 2, 1), "int8", 0.1, 0)
    y = m.value((1, 1, 1, 1), "int8", 0.2, 0)
    m.op(
        "MAX_POOL_2D",
        [x],
        [y],
        "Pool2DOptions",
        filterHeight=2,
        filterWidth=2,
        strideH=1,
        strideW=1,
        padding=1,
    )
    with pytest.raises(ModelError, match="different scales"):
        load(m.build([y]))
