"""EXP, LOG, SQRT, RSQRT, GELU, ELU, SIN, COS, NEG, FLOOR and their kin, SQUARED_DIFFERENCE, DIV,
POW, PRELU and LOG_SOFTMAX against LiteRT's reference kernels."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from oracle import (
    ACTIVATIONS,
    OPTIMISED,
    REFERENCE,
    both_refuse,
    every,
    quant,
    random,
    same,
    unary,
)
from tflite_builder import TFLiteModel

# LiteRT has these only among its optimised kernels, which compute the same.
WITHOUT_REFERENCE = {"CEIL", "ROUND", "ELU"}
BYTE, WORD = every("int8"), every("int16")
NONE = (None, 0)
# Ranges in which the functions are defined, and the ulp of both implementations together.
FLOATS = {
    "EXP": (-80, 80, 3), "LOG": (1e-6, 1e6, 2), "SQRT": (0, 1e6, 0), "RSQRT": (1e-6, 1e6, 1),
    "SIN": (-900, 900, 4), "COS": (-900, 900, 4), "FLOOR": (-40, 40, 0), "CEIL": (-40, 40, 0),
    "ROUND": (-40, 40, 0), "SQUARE": (-40, 40, 0), "NEG": (-40, 40, 0), "ELU": (-20, 20, 3),
}  # fmt: skip


def kernels(kind: str) -> str:
    return OPTIMISED if kind in WITHOUT_REFERENCE else REFERENCE


@pytest.mark.parametrize("kind", FLOATS)
def test_functions_of_floats(kind: str) -> None:
    low, high, ulps = FLOATS[kind]
    x = np.linspace(low, high, 1001).astype(np.float32)
    same(unary(kind, x, "float32", NONE, NONE), {"t0": x}, ulps=ulps, kernels=kernels(kind))


@pytest.mark.parametrize("approximate", [False, True])
def test_gelu_of_floats(approximate: bool) -> None:
    x = np.linspace(-6, 6, 1001).astype(np.float32)
    data = unary("GELU", x, "float32", NONE, NONE, "GeluOptions", approximate=approximate)
    same(data, {"t0": x}, ulps=2)


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("kind", ["EXP", "LOG", "ELU", "GELU", "GELU'"])
def test_tables_of_int8(kind: str, seed: int) -> None:
    rng = np.random.default_rng(seed)
    q, y = quant(rng, "int8", -3, -1), quant(rng, "int8", -3, 0)
    fields: dict[str, Any] = {}
    if kind.startswith("GELU"):
        fields = {"options": "GeluOptions", "approximate": kind == "GELU'"}
    data = unary(kind.strip("'"), BYTE, "int8", q, y, **fields)
    same(data, {"t0": BYTE}, kernels=kernels(kind))


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("kind", ["EXP", "LOG"])
def test_tables_of_int16(kind: str, seed: int) -> None:
    rng = np.random.default_rng(seed)
    x = WORD
    same(
        unary(kind, x, "int16", quant(rng, "int16", -4, -3), quant(rng, "int16", -4, -2)), {"t0": x}
    )


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("kind", ["SQRT", "RSQRT"])
def test_roots_of_int8(kind: str, seed: int) -> None:
    """Of values that are not negative: the kernels stop at others."""
    rng = np.random.default_rng(seed)
    q, y = quant(rng, "int8", -3, 0), quant(rng, "int8", -3, 0)
    x = BYTE[q[1] <= BYTE]
    same(unary(kind, x, "int8", q, y), {"t0": x})


@pytest.mark.parametrize("seed", range(4))
def test_rsqrt_of_int16(seed: int) -> None:
    rng = np.random.default_rng(seed)
    x = WORD[WORD >= 0]
    same(
        unary("RSQRT", x, "int16", quant(rng, "int16", -4, -2), quant(rng, "int16", -4, -2)),
        {"t0": x},
    )


@pytest.mark.parametrize("kind", ["SIN", "COS", "FLOOR", "CEIL", "ROUND", "SQUARE"])
def test_quantised_functions_without_a_kernel_are_refused(kind: str) -> None:
    both_refuse(unary(kind, BYTE, "int8", (0.1, 0), (0.1, 0)), {"t0": BYTE})


@pytest.mark.parametrize("dtype", ["int32", "int64"])
def test_neg_of_integers(dtype: str) -> None:
    x = np.arange(-40, 40).astype(dtype)
    same(unary("NEG", x, dtype, NONE, NONE), {"t0": x})


SHAPES = [((2, 3, 4), (2, 3, 4)), ((2, 3, 4), (4,)), ((1, 3, 1), (2, 1, 4)), ((5,), (1,))]


def binary(
    kind: str,
    a: Any,
    b: Any,
    dtype: str,
    quants: tuple[tuple[Any, int], ...] = (NONE, NONE, NONE),
    options: str = "",
    **fields: Any,
) -> tuple[bytes, dict[str, Any]]:
    m = TFLiteModel()
    x = m.input(a.shape, str(a.dtype), *quants[0])
    z = m.input(b.shape, str(b.dtype), *quants[1])
    y = m.value(np.broadcast_shapes(a.shape, b.shape), dtype, *quants[2])
    m.op(kind, [x, z], [y], options, **fields)
    return m.build([y]), {"t0": a, "t1": b}


@pytest.mark.parametrize("shapes", SHAPES, ids=str)
@pytest.mark.parametrize("seed", range(4))
def test_squared_difference_of_int8(shapes: Any, seed: int) -> None:
    rng = np.random.default_rng(seed)
    qa, qb = quant(rng, "int8"), quant(rng, "int8")
    scale = max(qa[0], qb[0]) ** 2 * 10 ** rng.uniform(0.5, 4)
    a, b = (random(rng, s, "int8") for s in shapes)
    quants = (qa, qb, (scale, quant(rng, "int8")[1]))
    same(*binary("SQUARED_DIFFERENCE", a, b, "int8", quants, "SquaredDifferenceOptions"))


@pytest.mark.parametrize("shapes", SHAPES, ids=str)
@pytest.mark.parametrize("kind", ["SQUARED_DIFFERENCE", "DIV", "POW"])
@pytest.mark.parametrize("dtype", ["float32", "int32"])
def test_arithmetic(kind: str, dtype: str, shapes: Any) -> None:
    rng = np.random.default_rng(0)
    a, b = (rng.uniform(1, 9, s).astype(dtype) for s in shapes)
    if kind != "POW":
        a = a * rng.choice(np.array([-1, 1], dtype), a.shape)
    options = {"DIV": "DivOptions", "POW": "PowOptions"}.get(kind, "SquaredDifferenceOptions")
    same(*binary(kind, a, b, dtype, options=options), ulps=3 * (kind == "POW"))


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_div_with_an_activation(activation: str) -> None:
    rng = np.random.default_rng(1)
    a, b = (rng.normal(0, 3, (3, 5)).astype(np.float32) for _ in "ab")
    code = ACTIVATIONS[activation]
    data = binary("DIV", a, b, "float32", options="DivOptions", fusedActivationFunction=code)
    same(*data)


def test_div_of_int8_is_refused() -> None:
    q = (0.1, 0)
    both_refuse(*binary("DIV", BYTE, BYTE, "int8", (q, q, q), "DivOptions"))


@pytest.mark.parametrize("seed", range(6))
def test_prelu_of_int8(seed: int) -> None:
    rng = np.random.default_rng(seed)
    x, slope = random(rng, (2, 5, 7, 3), "int8"), random(rng, (1, 1, 3), "int8")
    qx, qs = quant(rng, "int8"), quant(rng, "int8", -3, -2)
    quants = (qx, qs, (qx[0] * 10 ** rng.uniform(-0.3, 1), quant(rng, "int8")[1]))
    same(*binary("PRELU", x, slope, "int8", quants))


def test_prelu_of_floats() -> None:
    rng = np.random.default_rng(0)
    x, slope = random(rng, (2, 5, 7, 3), "float32"), random(rng, (1, 1, 3), "float32")
    same(*binary("PRELU", x, slope, "float32"))


def test_log_softmax_of_floats() -> None:
    x = random(np.random.default_rng(0), (4, 9), "float32") * 9
    same(unary("LOG_SOFTMAX", x, "float32", NONE, NONE, "LogSoftmaxOptions"), {"t0": x}, ulps=4)


@pytest.mark.parametrize("seed", range(12))
def test_log_softmax_of_int8(seed: int) -> None:
    rng = np.random.default_rng(seed)
    q = quant(rng, "int8", -3, 0)
    x = random(rng, (8, [1, 3, 10, 200][seed % 4]), "int8")
    x[4:] //= 16
    data = unary("LOG_SOFTMAX", x, "int8", q, (16 / 256, 127), "LogSoftmaxOptions")
    same(data, {"t0": x})


def test_log_softmax_to_another_scale_is_refused() -> None:
    x = BYTE.reshape(16, 16)
    data = unary("LOG_SOFTMAX", x, "int8", (0.1, 0), (0.1, 127), "LogSoftmaxOptions")
    both_refuse(data, {"t0": x})
