"""MEAN against LiteRT's reference kernel."""

from __future__ import annotations

import numpy as np
import pytest

from oracle import quant, random, same
from tflite_builder import TFLiteModel

CASES = [
    ((1, 3, 4, 2), (1, 2)),
    ((2, 5, 3, 2), (2, 1)),
    ((2, 5), (-1,)),
    ((3, 2), (0, 1)),
    ((2, 3, 4), (1,)),
    ((1, 1, 1, 7), (1, 2)),
    ((1, 25, 5, 3), (1, -2)),
    ((4, 3), (0, 0)),
]


def model(
    dtype: str, shape: tuple[int, ...], axes: tuple[int, ...], keep: bool, seed: int = 0
) -> tuple[bytes, dict[str, object]]:
    rng = np.random.default_rng(seed)
    dropped = {a % len(shape) for a in axes}
    out = [1 if d in dropped else n for d, n in enumerate(shape)]
    if not keep:
        out = [n for d, n in enumerate(shape) if d not in dropped]
    (sx, zx), (_, zy) = quant(rng, dtype), quant(rng, dtype)
    m = TFLiteModel()
    x = m.input(shape, dtype, sx, zx)
    a = m.const(np.array(axes, np.int32))
    y = m.value(out, dtype, sx * 10 ** rng.uniform(-0.7, 0.4) if sx else None, zy)
    m.op("MEAN", [x, a], [y], "ReducerOptions", keepDims=keep)
    return m.build([y]), {"t0": random(rng, shape, dtype)}


@pytest.mark.parametrize("keep", [False, True])
@pytest.mark.parametrize(("shape", "axes"), CASES, ids=str)
@pytest.mark.parametrize("dtype", ["int8", "int16", "float32"])
def test_shapes(dtype: str, shape: tuple[int, ...], axes: tuple[int, ...], keep: bool) -> None:
    same(*model(dtype, shape, axes, keep))


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize("dtype", ["int8", "int16"])
def test_quantisation(dtype: str, seed: int) -> None:
    same(*model(dtype, (4, 3, 3, 8), (1, 2), True, seed))


def test_the_same_scale() -> None:
    """Equal scales and zero points take another way in the framework, with the same result."""
    for shape, axes in CASES:
        rng = np.random.default_rng(3)
        m = TFLiteModel()
        x = m.input(shape, "int8", 0.1, -7)
        a = m.const(np.array(axes, np.int32))
        out = [1 if d in {a % len(shape) for a in axes} else n for d, n in enumerate(shape)]
        y = m.value(out, "int8", 0.1, -7)
        m.op("MEAN", [x, a], [y], "ReducerOptions", keepDims=True)
        same(m.build([y]), {"t0": random(rng, shape, "int8")})
