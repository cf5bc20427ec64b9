"""TILE, BROADCAST_TO, FILL, REVERSE_V2, and whole numbers divided, against LiteRT."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from midge.core.errors import ModelError
from oracle import OPTIMISED, kept, load, random, same
from tflite_builder import TFLiteModel

DTYPES = ["int8", "float32", "int32"]


def quantised(dtype: str) -> tuple[float | None, int]:
    return (0.1, -9) if dtype == "int8" else (None, 0)


def moved(
    kind: str, shape: Any, spec: Any, out: Any, dtype: str, options: str = "", version: int = 1
) -> bytes:
    m = TFLiteModel()
    x, y = (f(s, dtype, *quantised(dtype)) for f, s in ((m.input, shape), (m.value, out)))
    m.op(kind, [x, m.const(np.array(spec, np.int32))], [y], options, version=version)
    return m.build([y])


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    ("shape", "repeats"), [((2, 3), (2, 1)), ((1, 4, 1), (3, 1, 2)), ((5,), (1,)), ((1,), (4,))]
)
def test_tile(shape: Any, repeats: Any, dtype: str) -> None:
    out = [n * r for n, r in zip(shape, repeats, strict=True)]
    data = moved("TILE", shape, repeats, out, dtype, "TileOptions", 3)
    same(data, {"t0": random(np.random.default_rng(0), shape, dtype)}, kernels=OPTIMISED)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    ("shape", "wanted"), [((2, 1), (2, 3)), ((3,), (2, 3)), ((1, 4), (2, 1, 4)), ((1,), (1,))]
)
def test_broadcast_to(shape: Any, wanted: Any, dtype: str) -> None:
    data = moved("BROADCAST_TO", shape, wanted, wanted, dtype, version=3)
    same(data, {"t0": random(np.random.default_rng(0), shape, dtype)})


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("shape", "axis"), [((2, 3, 4), 1), ((5,), 0), ((2, 1, 3), -1)])
def test_reverse(shape: Any, axis: int, dtype: str) -> None:
    data = moved("REVERSE_V2", shape, [axis], shape, dtype, "ReverseV2Options", 3)
    same(data, {"t0": random(np.random.default_rng(0), shape, dtype)})


@pytest.mark.parametrize("result", [(0.12, -9), (0.1, 4), (0.1, -9)])
def test_a_reversed_tensor_of_another_scale(result: tuple[float, int]) -> None:
    """As converters write it behind bidirectional layers: the bytes are the same, and read by the
    new scale by who comes next."""
    m = TFLiteModel()
    x, y = m.input((2, 5), "int8", 0.1, -9), m.value((2, 5), "int8", *result)
    m.op("REVERSE_V2", [x, m.const(np.array([1], np.int32))], [y], "ReverseV2Options", version=3)
    z = m.value((2, 5), "float32")
    m.op("DEQUANTIZE", [y], [z], "DequantizeOptions")
    data, inputs = m.build([y, z]), {"t0": random(np.random.default_rng(0), (2, 5), "int8")}
    same(data, inputs)
    kept(load(data), inputs)


@pytest.mark.parametrize("constant", [True, False])
@pytest.mark.parametrize("dtype", DTYPES)
def test_fill(dtype: str, constant: bool) -> None:
    """Of a constant, and of what arrives."""
    m = TFLiteModel()
    x = m.input((2, 3), dtype, *quantised(dtype))
    value = random(np.random.default_rng(1), (), dtype)
    q = quantised(dtype)
    v = m.const(value, *q) if constant else m.input((), dtype, *q)
    z, y = m.value((2, 3), dtype, *q), m.value((4, 3), dtype, *q)
    m.op("FILL", [m.const(np.array([2, 3], np.int32)), v], [z], version=3)
    m.op("CONCATENATION", [x, z], [y], "ConcatenationOptions", version=2, axis=0)
    inputs = {"t0": random(np.random.default_rng(0), (2, 3), dtype)}
    same(m.build([y]), inputs if constant else {**inputs, "t1": value})


@pytest.mark.parametrize("kind", ["FLOOR_DIV", "FLOOR_MOD"])
def test_whole_numbers(kind: str) -> None:
    """Signs of both, and what divides."""
    m = TFLiteModel()
    x, d = m.input((6,), "int32"), m.input((6,), "int32")
    y = m.value((6,), "int32")
    m.op(kind, [x, d], [y], f"Floor{kind[6:].title()}Options", version=2)
    values = np.array([7, -7, 7, -7, 6, 0], np.int32), np.array([2, 2, -2, -2, 3, 5], np.int32)
    same(m.build([y]), dict(zip(("t0", "t1"), values, strict=True)))


@pytest.mark.parametrize(
    ("kind", "shape", "spec", "out"),
    [
        ("TILE", (2, 3), (2,), (4, 3)),
        ("TILE", (2, 3), (0, 1), (0, 3)),
        ("TILE", (2, 3), (-1, 1), (2, 3)),
        ("BROADCAST_TO", (2, 3), (3,), (3,)),
        ("BROADCAST_TO", (2, 3), (2, 1), (2, 3)),
        ("BROADCAST_TO", (2, 3), (-2, 3), (2, 3)),
        ("REVERSE_V2", (2, 3), (2,), (2, 3)),
    ],
)
def test_what_does_not_fit_is_refused(kind: str, shape: Any, spec: Any, out: Any) -> None:
    with pytest.raises(ModelError, match=kind):
        load(moved(kind, shape, spec, out, "int8"))


@pytest.mark.parametrize("shape", [(2, -3), (0, 3), (1 << 20, 1 << 20), (3, 3)])
def test_fillings_of_an_impossible_shape_are_refused(shape: Any) -> None:
    m = TFLiteModel()
    y = m.value((2, 3), "int32")
    inputs = [m.const(np.array(shape, np.int32)), m.const(np.array(4, np.int32))]
    m.op("FILL", inputs, [y])
    m.graph.inputs = [m.value((1,), "int32")]
    with pytest.raises(ModelError, match="FILL"):
        load(m.build([y]))
