"""RELU and its family, LOGISTIC, TANH, LEAKY_RELU, HARD_SWISH and ABS against LiteRT: every value
of int8 and int16, over random scales."""

from __future__ import annotations

import numpy as np
import pytest

from oracle import both_refuse, every, quant, random, same, unary

SEEDS = range(8)
RELUS = ["RELU", "RELU6", "RELU_N1_TO_1"]
BYTE, WORD = every("int8"), every("int16")


def check(
    kind: str, x: object, *quants: tuple[float, int], options: str = "", **fields: object
) -> None:
    same(unary(kind, x, str(x.dtype), *quants, options, **fields), {"t0": x})  # type: ignore[attr-defined]


def near(rng: np.random.Generator, scale: float, dtype: str) -> tuple[float, int]:
    """A scale of the output around that of the input."""
    return scale * float(10 ** rng.uniform(-0.7, 1)), quant(rng, dtype)[1]


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("kind", RELUS)
def test_relu_of_int8(kind: str, seed: int) -> None:
    rng = np.random.default_rng(seed)
    q = quant(rng, "int8")
    check(kind, BYTE, q, near(rng, q[0], "int8"))
    check(kind, BYTE, q, q)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("kind", RELUS[:2])
def test_relu_of_int16(kind: str, seed: int) -> None:
    rng = np.random.default_rng(seed)
    q = quant(rng, "int16", -4, -2)
    check(kind, WORD, q, near(rng, q[0], "int16"))


def test_relu_n1_to_1_of_int16_is_refused() -> None:
    both_refuse(unary("RELU_N1_TO_1", WORD, "int16", (1e-3, 0), (1e-3, 0)), {"t0": WORD})


@pytest.mark.parametrize("kind", RELUS)
def test_relu_of_floats(kind: str) -> None:
    x = random(np.random.default_rng(0), (3, 40), "float32")
    same(unary(kind, x, "float32", (None, 0), (None, 0)), {"t0": x})


@pytest.mark.parametrize("seed", SEEDS)
def test_logistic_and_tanh_of_int8(seed: int) -> None:
    rng = np.random.default_rng(seed)
    q = quant(rng, "int8")
    check("LOGISTIC", BYTE, q, (1 / 256, -128))
    check("LOGISTIC", BYTE, q, (1 / 256, quant(rng, "int8")[1]))
    check("TANH", BYTE, q, (1 / 128, 0))
    check("TANH", BYTE, q, near(rng, 1 / 128, "int8"))


SCALES = [2.0**-12, 2.0**-11, 2.0**-10, 2.0**-15, 1.0, 3e-4, 1.7e-3, 2.3e-5]


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("kind", ["LOGISTIC", "TANH"])
def test_logistic_and_tanh_of_int16(kind: str, scale: float) -> None:
    check(kind, WORD, (scale, 0), (1 / 32768, 0))


@pytest.mark.parametrize("kind", ["LOGISTIC", "TANH"])
def test_logistic_and_tanh_of_floats(kind: str) -> None:
    """Within 2 ulp."""
    x = np.linspace(-20, 20, 999).astype(np.float32)
    same(unary(kind, x, "float32", (None, 0), (None, 0)), {"t0": x}, ulps=2)


def test_other_output_scales_are_refused() -> None:
    both_refuse(unary("LOGISTIC", BYTE, "int8", (0.1, 0), (1 / 128, -128)), {"t0": BYTE})
    both_refuse(unary("LOGISTIC", WORD, "int16", (1e-3, 0), (1 / 16384, 0)), {"t0": WORD})
    both_refuse(unary("TANH", WORD, "int16", (1e-3, 0), (1e-4, 0)), {"t0": WORD})


@pytest.mark.parametrize("seed", SEEDS)
def test_leaky_relu(seed: int) -> None:
    rng = np.random.default_rng(seed)
    alpha = float(rng.choice([0.0, 0.1, 0.3, 1.0, 1.7, -0.5, -1.2]))
    q = quant(rng, "int8")
    check("LEAKY_RELU", BYTE, q, near(rng, q[0], "int8"), options="LeakyReluOptions", alpha=alpha)
    q = quant(rng, "int16")
    check("LEAKY_RELU", WORD, q, near(rng, q[0], "int16"), options="LeakyReluOptions", alpha=alpha)


@pytest.mark.parametrize("alpha", [0.2, -0.5, 0.0])
def test_leaky_relu_of_floats(alpha: float) -> None:
    x = random(np.random.default_rng(0), (3, 40), "float32")
    none = (None, 0)
    same(unary("LEAKY_RELU", x, "float32", none, none, "LeakyReluOptions", alpha=alpha), {"t0": x})


@pytest.mark.parametrize("seed", range(16))
def test_hard_swish(seed: int) -> None:
    rng = np.random.default_rng(seed)
    scale, zero = quant(rng, "int8")
    check(
        "HARD_SWISH", BYTE, (scale, zero), (scale * 10 ** rng.uniform(0, 1), quant(rng, "int8")[1])
    )


def test_hard_swish_to_a_much_finer_scale_is_refused() -> None:
    both_refuse(unary("HARD_SWISH", BYTE, "int8", (0.5, 0), (0.001, 0)), {"t0": BYTE})


def test_hard_swish_of_floats() -> None:
    x = np.linspace(-5, 5, 999).astype(np.float32)
    same(unary("HARD_SWISH", x, "float32", (None, 0), (None, 0)), {"t0": x}, ulps=1)


@pytest.mark.parametrize("seed", SEEDS)
def test_abs(seed: int) -> None:
    rng = np.random.default_rng(seed)
    q, w = quant(rng, "int8"), quant(rng, "int16")
    check("ABS", BYTE, q, near(rng, q[0], "int8"))
    check("ABS", BYTE, q, (q[0], quant(rng, "int8")[1]))
    check("ABS", WORD, w, near(rng, w[0], "int16"))
    check("ABS", WORD, w, w)


def test_abs_of_plain_numbers() -> None:
    rng = np.random.default_rng(0)
    for dtype in ("float32", "int32"):
        x = random(rng, (3, 40), dtype)
        same(unary("ABS", x, dtype, (None, 0), (None, 0)), {"t0": x})
