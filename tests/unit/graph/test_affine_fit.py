"""Fitted staircases give every value they were fitted to, without leaving 32 bits."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from midge.core.types import Array
from midge.graph.affine_fit import Fit, Line, Staircase, fit_all

BYTES = np.arange(-128, 128, dtype=np.int64)
PAIRS = np.stack([np.repeat(BYTES, 256), np.tile(BYTES, 256)])
LIMIT = 2**31


def apply(fit: Fit, stairs: Staircase) -> Array:
    """What the C computes, term by term; fails where a partial sum leaves 32 bits."""
    u = np.zeros(stairs.x.shape[1], np.int64)
    for factor, x in zip(fit.factors, stairs.x, strict=True):
        u = u + factor * x
        assert np.abs(u).max() < LIMIT
    u = u + fit.centre
    u = u + np.where(u < 0, fit.nudge, 0)
    total = u + fit.offset
    assert max(np.abs(u).max(), np.abs(total).max()) < LIMIT
    return np.clip(total >> fit.shift, stairs.low, stairs.high)


def away(x: Array) -> Array:
    """round(x), ties away from zero."""
    return (np.sign(x) * np.floor(np.abs(x) + 0.5)).astype(np.int64)


def stairs_of(line: Line, x: Array, low: int = -128, high: int = 127) -> Staircase:
    return Staircase(x, np.clip(away(line.at(x)) + line.zero, low, high), low, high)


ratios = st.floats(0.003, 4.0).map(lambda v: float(np.float32(v)))
zeros = st.one_of(st.sampled_from([-128, 127, 0]), st.integers(-128, 127))


@given(ratios, ratios, st.booleans(), zeros, zeros, zeros)
@settings(max_examples=60)
def test_a_sum_of_two_bytes(a: float, b: float, minus: bool, za: int, zb: int, zy: int) -> None:
    """Nearly always there is a fit; where there is, all 65536 pairs are right."""
    b = -b if minus else b
    line = Line((a, b), -a * za - b * zb, zy)
    stairs = stairs_of(line, PAIRS)
    fit = stairs.fit(line)
    assume(fit is not None)
    assert fit is not None
    np.testing.assert_array_equal(apply(fit, stairs), stairs.y)


def test_nearly_all_sums_have_a_fit() -> None:
    rng = np.random.default_rng(1)
    found = 0
    for _ in range(40):
        a, b = rng.uniform(0.1, 1.5, 2)
        za, zb, zy = (int(z) for z in rng.integers(-128, 128, 3))
        line = Line((a, b), -a * za - b * zb, zy)
        found += stairs_of(line, PAIRS).fit(line) is not None
    assert found >= 38


@pytest.mark.parametrize("slopes", [(0.5, 0.5), (1.0, 0.5), (0.25, -0.25), (0.5, 0.0)])
@pytest.mark.parametrize("zero", [-128, 0, 9, 127])
def test_ties_are_rounded_away_from_zero(slopes: tuple[float, float], zero: int) -> None:
    line = Line(slopes, slopes[0] * 4, zero)
    stairs = stairs_of(line, PAIRS)
    fit = stairs.fit(line)
    assert fit is not None
    assert fit.nudge == 0  # factors a little larger do it
    np.testing.assert_array_equal(apply(fit, stairs), stairs.y)


def test_a_nudge_where_the_steps_of_one_sign_lie_apart() -> None:
    x = np.arange(-600, 600)[None]
    y = np.where(x[0] < 0, (x[0] - 3) >> 3, x[0] >> 3)
    stairs = Staircase(x, y, -128, 127)
    line = Line((0.125,), 0.0, 0)
    fit = stairs.fit(line)
    assert fit is not None
    assert fit.nudge < 0
    np.testing.assert_array_equal(apply(fit, stairs), y)
    assert stairs.fit(line, may_nudge=False) is None


@given(st.integers(-128, 127), st.integers(-128, 127))
def test_a_constant(value: int, low: int) -> None:
    """Even where it is a limit, so that nothing binds on one side."""
    for limit in (value, min(value, low)):
        stairs = Staircase(PAIRS, np.full(65536, value), limit, 127)
        fit = stairs.fit(Line((1e-9, 1e-9), 0.0, value))
        assert fit is not None
        np.testing.assert_array_equal(apply(fit, stairs), stairs.y)


def test_what_is_no_staircase_has_no_fit() -> None:
    line = Line((0.7123, 0.4071), 1.3, 5)
    stairs = stairs_of(line, PAIRS)
    broken = stairs.y.copy()
    middle = 128 * 256 + 128
    assert -128 < broken[middle] < 127
    broken[middle] += 1
    assert stairs.fit(line) is not None
    assert Staircase(PAIRS, broken, -128, 127).fit(line) is None


def test_steps_far_from_the_line_do_not_fit_32_bits() -> None:
    """The line says how many bits are left; the offset that the steps need may be another one."""
    stairs = Staircase(BYTES[None], BYTES + 100_000, -(2**20), 2**20)
    assert stairs.fit(Line((1.0,), 0.0, 0)) is None
    assert stairs.fit(Line((1.0,), 0.0, 100_000)) is not None


def test_ratios_that_leave_no_bits_have_no_fit() -> None:
    line = Line((2.0**25, 2.0**25), 0.0, 0)
    assert stairs_of(line, PAIRS).fit(line) is None


def test_offsets_have_as_few_bits_as_the_steps_allow() -> None:
    """A number that compilers spell in one instruction, where there is one."""
    line = Line((1.0,), 0.0, 0)
    stairs = stairs_of(line, BYTES[None])
    fit = stairs.fit(line)
    assert fit is not None
    assert fit.offset & ((1 << (fit.shift - 4)) - 1) == 0


def test_channels_share_the_shift() -> None:
    lines = [Line((s,), s * 100, 3) for s in (0.01, 0.9, -3.3)]
    stairs = [stairs_of(line, BYTES[None]) for line in lines]
    fits = fit_all(stairs, lines)
    assert len({f.shift for f in fits}) == 1
    for fit, s in zip(fits, stairs, strict=True):
        assert fit.nudge == fit.centre == 0
        np.testing.assert_array_equal(apply(fit, s), s.y)


def test_one_channel_without_a_fit_means_none() -> None:
    lines = [Line((s,), 0.0, 0) for s in (0.01, 0.9)]
    stairs = [stairs_of(line, BYTES[None]) for line in lines]
    noise = Staircase(BYTES[None], np.roll(stairs[1].y, 100), -128, 127)
    assert fit_all([stairs[0], noise], lines) == []
