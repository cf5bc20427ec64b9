"""From what was seen of a value to the range its integers cover."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from midge.core.types import Array, DType, Quant
from midge.quantize.calibrate import BINS, Seen
from midge.quantize.options import METHODS, Options
from midge.quantize.ranges import chosen_range, quant_for
from midge.quantize.weights import meaning, quantize_weights

ends = st.floats(-1e6, 1e6, allow_nan=False, width=32)


def seen_of(values: Array) -> Seen:
    least, most = float(values.min()), float(values.max())
    histogram, _ = np.histogram(values, BINS, (least, most))
    return Seen(least, most, histogram)


@given(ends, ends)
def test_zero_is_an_integers_meaning_and_the_ends_are_near(a: float, b: float) -> None:
    low, high = min(a, b), max(a, b)
    quant = quant_for((low, high), DType.I8)
    (scale,), (zero,) = quant.scale, quant.zero_point
    assert float(np.float32(scale)) == scale
    assert -128 <= zero <= 127
    if high > low and max(high, 0) - min(low, 0) > 1e-30:
        assert scale * (-128 - zero) <= min(low, 0.0) + scale * 0.51
        assert scale * (127 - zero) >= max(high, 0.0) - scale * 0.51


@given(ends, ends)
def test_int16_is_symmetric(a: float, b: float) -> None:
    quant = quant_for((min(a, b), max(a, b)), DType.I16)
    assert quant.zero_point == (0,)
    if max(abs(a), abs(b)) > 1e-30:
        assert quant.scale[0] * 32767 == pytest.approx(max(abs(a), abs(b)), rel=1e-6)


def test_a_tensor_of_zeros_has_a_scale() -> None:
    for dtype in (DType.I8, DType.I16):
        assert quant_for((0.0, 0.0), dtype).scale[0] > 0


@pytest.mark.parametrize("method", METHODS)
def test_without_outliers_all_methods_cover_nearly_all(method: str) -> None:
    values = np.random.default_rng(0).uniform(-1, 3, 200_000)
    low, high = chosen_range(seen_of(values), Options(method=method))
    assert low == pytest.approx(-1, abs=0.1)
    assert high == pytest.approx(3, abs=0.3)


@pytest.mark.parametrize("method", ["percentile", "entropy"])
def test_outliers_are_cut_off(method: str) -> None:
    rng = np.random.default_rng(0)
    values = np.concatenate([rng.standard_normal(200_000), [60.0]])
    low, high = chosen_range(seen_of(values), Options(method=method))
    assert 2.0 < high < 15.0
    assert low < -0.2
    full = chosen_range(seen_of(values), Options(method="minmax"))
    assert full == (values.min(), 60.0)


@pytest.mark.parametrize("method", METHODS)
def test_what_is_never_negative_starts_at_zero(method: str) -> None:
    values = np.maximum(np.random.default_rng(0).standard_normal(100_000), 0)
    low, high = chosen_range(seen_of(values), Options(method=method))
    assert low == 0.0
    assert 2.0 < high < 5.0


def test_the_least_squared_error_is_what_mse_finds() -> None:
    rng = np.random.default_rng(1)
    values = rng.laplace(0, 1, 100_000)
    found = chosen_range(seen_of(values), Options(method="mse"))

    def error(limits: tuple[float, float]) -> float:
        quant = quant_for(limits, DType.I8)
        steps = np.clip(np.round(values / quant.scale[0]) + quant.zero_point[0], -128, 127)
        return float((((steps - quant.zero_point[0]) * quant.scale[0] - values) ** 2).mean())

    assert error(found) < error((values.min(), values.max()))
    assert error(found) < 1.05 * min(error((-k, k)) for k in np.linspace(3, 12, 40))


def test_one_share_is_cut_off_on_either_side() -> None:
    values = np.linspace(-10, 10, 100_001)
    low, high = chosen_range(seen_of(values), Options(method="percentile", percentile=90.0))
    assert (low, high) == pytest.approx((-8.0, 8.0), abs=0.02)


@given(st.integers(0, 2**32 - 1), st.sampled_from([(0, (4, 2, 3)), (2, (1, 3, 5)), (0, (1, 7))]))
def test_weights_are_within_half_a_step(seed: int, case: tuple[int, tuple[int, ...]]) -> None:
    axis, shape = case
    rng = np.random.default_rng(seed)
    weights = (rng.standard_normal(shape) * 10 ** rng.uniform(-5, 3)).astype(np.float32)
    bias = rng.standard_normal(shape[axis]) * 10 ** rng.uniform(-4, 4)
    x = Quant.per_tensor(float(np.float32(10 ** rng.uniform(-4, 1))), 3)
    for dtype in (DType.I32, DType.I64):
        made = quantize_weights(weights, bias, axis, x, dtype)
        scales = np.array(made.weight_quant.scale)
        steps = scales.reshape([-1 if d == axis else 1 for d in range(len(shape))])
        assert (np.abs(meaning(made, axis) - weights) <= 0.5001 * steps).all()
        assert np.abs(made.weights).max() <= 127
        real = made.bias * np.array(made.bias_quant.scale)
        limit = 0.51 * np.array(made.bias_quant.scale) + 1e-6 * np.abs(bias)
        assert (np.abs(real - bias) <= limit).all()
        assert np.abs(made.bias).max() <= 2 ** {DType.I32: 30, DType.I64: 40}[dtype]
