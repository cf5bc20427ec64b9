"""FULLY_CONNECTED against LiteRT's reference kernel, which multiplies by a double."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from midge.graph.ir import expand
from midge.graph.real_product import fit_multiplier, round_product
from midge.loop.intrinsics import requantize_once, requantize_real
from oracle import ACTIVATIONS, load, quant, random, same
from tflite_builder import TFLiteModel


@dataclass(frozen=True)
class Case:
    dtype: str = "int8"
    bias: str = "int32"
    rows: int = 5
    depth: int = 17
    width: int = 6
    per_channel: bool = False
    activation: str = "none"
    bias_type: int = 0
    scales: tuple[float, float, float] | None = None


def model(c: Case, seed: int) -> tuple[bytes, dict[str, object]]:
    rng = np.random.default_rng(seed)
    m = TFLiteModel()
    sx, zx = quant(rng, c.dtype, *((-2, -1) if c.dtype == "int8" else (-4, -3)))
    scales = 10 ** rng.uniform(-3, -1.5, c.width if c.per_channel else 1)
    sy = sx * scales.max() * np.sqrt(c.depth) * 60 if sx else None
    if c.scales is not None:
        sx, scales, sy = c.scales[0], np.array([c.scales[1]]), c.scales[2]
    w = random(rng, (c.width, c.depth), "int8" if sx else "float32")
    b = rng.integers(-2000, 2000, c.width).astype((c.bias or "int32") if sx else "float32")
    x = m.input((c.rows, c.depth), c.dtype, sx, zx)
    inputs = [x, m.const(w, list(scales)) if sx else m.const(w)]
    if c.bias:
        inputs.append(m.const(b, list(sx * scales)) if sx else m.const(b))
    _, zy = quant(rng, c.dtype)
    y = m.value((c.rows, c.width), c.dtype, sy, zy)
    fields = {"quantizedBiasType": c.bias_type} if c.bias_type else {}
    activation = ACTIVATIONS[c.activation]
    options = "FullyConnectedOptions"
    m.op("FULLY_CONNECTED", inputs, [y], options, fusedActivationFunction=activation, **fields)
    return m.build([y]), {"t0": random(rng, (c.rows, c.depth), c.dtype)}


def check(c: Case, seed: int = 0) -> None:
    data, inputs = model(c, seed)
    same(data, inputs)


TYPES = {
    "int8": Case(),
    "int16": Case("int16", "int64"),
    "int16, 32-bit bias": Case("int16", "int32", bias_type=2),
    "float": Case("float32"),
}


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("per_channel", [False, True])
@pytest.mark.parametrize("dtype", TYPES)
def test_quantisation(dtype: str, per_channel: bool, seed: int) -> None:
    check(replace(TYPES[dtype], per_channel=per_channel, rows=40), seed)


@pytest.mark.parametrize("shape", [(1, 1, 1), (1, 640, 32), (3, 5, 1), (1, 2, 40)])
@pytest.mark.parametrize("dtype", TYPES)
def test_shapes(dtype: str, shape: tuple[int, int, int]) -> None:
    rows, depth, width = shape
    check(replace(TYPES[dtype], rows=rows, depth=depth, width=width))


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("dtype", TYPES)
def test_fused_activations(dtype: str, activation: str) -> None:
    check(replace(TYPES[dtype], activation=activation))


@pytest.mark.parametrize("dtype", ["int8", "int16", "float"])
def test_without_bias(dtype: str) -> None:
    check(replace(TYPES[dtype], bias=""))


@pytest.mark.parametrize("exponent", range(-7, 3))
def test_ties_go_away_from_zero(exponent: int) -> None:
    """Scales that are powers of two make every other result a tie."""
    check(Case(rows=300, depth=4, scales=(2.0**-3, 2.0**-4, 2.0**exponent)), exponent + 7)
    check(Case("int16", "int64", 300, 4, scales=(2.0**-9, 2.0**-4, 2.0 ** (exponent - 3))))


def test_the_multiplier_of_int8_is_fitted() -> None:
    """Where a fixed-point multiplier is exact, and it is in practice, no wide product is left."""
    graph = load(model(Case(per_channel=True), 1)[0])
    nodes = expand(graph.nodes[0], graph.types, graph.consts).nodes
    assert [n.op for n in nodes] == ["dense", "requantize"]


@pytest.mark.parametrize("keep", [False, True])
def test_more_axes(keep: bool) -> None:
    rng = np.random.default_rng(1)
    m = TFLiteModel()
    x = m.input((2, 3, 4), "int8", 0.1, 3)
    w = m.const(random(rng, (5, 4), "int8"), 0.02)
    y = m.value((2, 3, 5) if keep else (6, 5), "int8", 0.3, -4)
    m.op("FULLY_CONNECTED", [x, w], [y], "FullyConnectedOptions", keepNumDims=keep)
    same(m.build([y]), {"t0": random(rng, (2, 3, 4), "int8")})


def test_one_value_is_fitted_too() -> None:
    """104.5: a tie, and no other sum to hold the multiplier."""
    pair = fit_multiplier(0.1, 1045, 1045, -128, 127)
    assert pair is None or requantize_once(1045, *pair) == round_product(1045, 0.1) == 105


@settings(max_examples=300, deadline=None)
@given(
    st.floats(2.0**-20, 4.0),
    st.integers(-(1 << 20), 1 << 20),
    st.integers(0, 1 << 21),
    st.data(),
)
def test_a_fitted_multiplier_is_exact(
    real: float, least: int, size: int, data: st.DataObject
) -> None:
    most = least + size
    pair = fit_multiplier(real, least, most, -128, 127)
    if pair is None:
        return
    x = data.draw(st.integers(least, most))
    for value in (x, least, most):
        want = max(-128, min(127, round_product(value, real)))
        assert max(-128, min(127, requantize_once(value, *pair))) == want


@settings(max_examples=300, deadline=None)
@given(st.floats(2.0**-40, 2.0**20), st.integers(-(1 << 52), 1 << 52))
def test_the_wide_product_is_that_of_doubles(real: float, x: int) -> None:
    from midge.graph.real_product import split_real

    want = max(-(1 << 30), min(1 << 30, round_product(x, real)))
    assert requantize_real(x, *split_real(real)) == want
