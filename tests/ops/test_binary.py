"""ADD, SUB, MUL, MAXIMUM and MINIMUM against LiteRT's reference kernels."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from oracle import ACTIVATIONS, both_refuse, quant, random, same
from tflite_builder import TFLiteModel

OPTIONS = {
    "ADD": "AddOptions",
    "SUB": "SubOptions",
    "MUL": "MulOptions",
    "MAXIMUM": "MaximumMinimumOptions",
    "MINIMUM": "MaximumMinimumOptions",
}
SUMS = ["ADD", "SUB"]
SHAPES = [
    ((2, 3, 4), (2, 3, 4)),
    ((2, 3, 4), (4,)),
    ((1, 3, 1), (2, 1, 4)),
    ((1,), (5,)),
    ((2, 3, 2, 4), ()),
    ((2, 1, 2, 4), (1, 3, 1, 1)),
]
DTYPES = ["int8", "int16", "float32", "int32", "int64"]


def scales(rng: np.random.Generator, kind: str, dtype: str) -> list[tuple[Any, int]]:
    """Of both operands and a result that mostly fits."""
    a, b, y = (quant(rng, dtype) for _ in range(3))
    if a[0] is None:
        return [a, b, y]
    if kind in ("MAXIMUM", "MINIMUM"):
        return [a, a, a]
    if kind == "MUL":
        room = rng.uniform(0, 2.5) if dtype == "int8" else rng.uniform(1.5, 4.5)
        return [a, b, (a[0] * b[0] * 10**room, y[1])]
    return [a, b, (max(a[0], b[0]) * 10 ** rng.uniform(-0.5, 1), y[1])]


def model(
    kind: str,
    dtype: str,
    shapes: tuple[tuple[int, ...], tuple[int, ...]] = SHAPES[0],
    seed: int = 0,
    activation: str = "none",
    const: bool = False,
) -> tuple[bytes, dict[str, Any]]:
    rng = np.random.default_rng(seed)
    qa, qb, qy = scales(rng, kind, dtype)
    x, z = (_values(rng, s, dtype) for s in shapes)
    m = TFLiteModel()
    a = m.input(shapes[0], dtype, *qa)
    b = m.const(z, *qb) if const else m.input(shapes[1], dtype, *qb)
    y = m.value(np.broadcast_shapes(*shapes), dtype, *qy)
    fields = {"fusedActivationFunction": ACTIVATIONS[activation]} if kind in (*SUMS, "MUL") else {}
    m.op(kind, [a, b], [y], OPTIONS[kind], **fields)
    return m.build([y]), {"t0": x} if const else {"t0": x, "t1": z}


def _values(rng: np.random.Generator, shape: tuple[int, ...], dtype: str) -> Any:
    """32- and 64-bit integers are small: their overflow is nobody's business."""
    x = random(rng, shape, dtype)
    return x // np.array(1 << (8 * x.itemsize - 12), x.dtype) if dtype in ("int32", "int64") else x


@pytest.mark.parametrize("shapes", SHAPES, ids=str)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("kind", OPTIONS)
def test_broadcasting(kind: str, dtype: str, shapes: tuple) -> None:
    same(*model(kind, dtype, shapes))
    same(*model(kind, dtype, shapes[::-1], 1))
    same(*model(kind, dtype, shapes, 2, const=True))


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize("dtype", ["int8", "int16"])
@pytest.mark.parametrize("kind", OPTIONS)
def test_quantisation(kind: str, dtype: str, seed: int) -> None:
    same(*model(kind, dtype, ((200, 80), (200, 80)), seed))


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("dtype", ["int8", "int16", "float32", "int32"])
@pytest.mark.parametrize("kind", ["ADD", "SUB", "MUL"])
def test_fused_activations(kind: str, dtype: str, activation: str) -> None:
    for seed in range(3):
        same(*model(kind, dtype, SHAPES[1], seed, activation))


def test_the_same_tensor_twice() -> None:
    m = TFLiteModel()
    x = m.input((64,), "int8", 0.1, 3)
    y = m.value((64,), "int8", 0.15, -3)
    m.op("ADD", [x, x], [y], "AddOptions")
    same(m.build([y]), {"t0": random(np.random.default_rng(0), (64,), "int8")})


def shifted(kind: str, a: float, b: float, y: float, activation: str = "none") -> bytes:
    m = TFLiteModel()
    left, right = (m.input((50,), "int16", s, 0) for s in (a, b))
    out = m.value((50,), "int16", y, 0)
    function = ACTIVATIONS[activation]
    m.op(
        kind,
        [left, right],
        [out],
        OPTIONS[kind],
        potScaleInt16=True,
        fusedActivationFunction=function,
    )
    return m.build([out])


@pytest.mark.parametrize("activation", ["none", "relu6"])
@pytest.mark.parametrize("shift", [0, 1, 4, 15])
@pytest.mark.parametrize("kind", SUMS)
def test_int16_scales_that_are_powers_of_two(kind: str, shift: int, activation: str) -> None:
    rng = np.random.default_rng(shift)
    inputs = {"t0": random(rng, (50,), "int16"), "t1": random(rng, (50,), "int16")}
    scale = 2.0**-9
    same(shifted(kind, scale, scale / 2**shift, scale, activation), inputs)
    same(shifted(kind, scale / 2**shift, scale, scale, activation), inputs)
    same(shifted(kind, scale * 0.9, scale, scale, activation), inputs)


def test_int16_scales_below_the_outputs_are_refused() -> None:
    both_refuse(shifted("ADD", 2.0**-9, 2.0**-10, 2.0**-8), _zeros())
    both_refuse(shifted("ADD", 2.0**-7, 2.0**-8, 2.0**-8), _zeros())


def _zeros() -> dict[str, Any]:
    return {name: np.zeros(50, np.int16) for name in ("t0", "t1")}
