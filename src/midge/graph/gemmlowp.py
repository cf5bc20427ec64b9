"""The fixed-point functions of the reference kernels' library, in Python integers.

Names and steps follow gemmlowp/fixedpoint/fixedpoint.h; Qm.n is a 32-bit value with m integer bits.
Only used at compile time, to make tables.
"""

from __future__ import annotations

import math

from midge.core.errors import ModelError
from midge.core.rounding import high_mul, round_shift
from midge.graph.fixed_point import quantize_multiplier

_MAX = (1 << 31) - 1
_MIN = -(1 << 31)


def shift_left(x: int, exponent: int) -> int:
    """SaturatingRoundingMultiplyByPOT with a positive exponent."""
    return max(_MIN, min(_MAX, x << exponent))


def _exp_quarter(a: int) -> int:
    """exp(a) for a in [-1/4, 0), Q0.31 in and out: a Taylor expansion around -1/8."""
    constant = 1895147668  # exp(-1/8)
    third = 715827883
    x = a + (1 << 28)
    x2 = high_mul(x, x)
    x3 = high_mul(x2, x)
    x4 = high_mul(x2, x2)
    rest = round_shift(high_mul(round_shift(x4, 2) + x3, third) + x2, 1)
    return min(constant + high_mul(constant, x + rest), _MAX)


_EXP_STEPS = (
    (-2, 1672461947),
    (-1, 1302514674),
    (0, 790015084),
    (1, 290630308),
    (2, 39332535),
    (3, 720401),
    (4, 242),
)  # exp(-2^k) in Q0.31


def exp_on_negative_values(a: int, integer_bits: int) -> int:
    """exp(a) in Q0.31 for a <= 0 in Q(integer_bits)."""
    if a == 0:
        return _MAX
    fraction = 31 - integer_bits
    quarter = 1 << (fraction - 2)
    reduced = (a & (quarter - 1)) - quarter
    result = _exp_quarter(shift_left(reduced, integer_bits))
    remainder = reduced - a
    for exponent, multiplier in _EXP_STEPS:
        if integer_bits > exponent and remainder & (1 << (fraction + exponent)):
            result = high_mul(result, multiplier)
    if integer_bits > 5 and a < -(1 << (fraction + 5)):
        return 0
    return result


def softmax_scaling(
    beta: float, scale: float, integer_bits: int, where: str
) -> tuple[int, int, int]:
    """Multiplier, left shift and least difference of PreprocessSoftmaxScaling; ModelError where
    the framework stops."""
    real = min(beta * scale * (1 << (31 - integer_bits)), float(_MAX))
    if not real > 1:
        raise ModelError(
            f"the input scale {scale:g} times beta {beta:g} is too small for exponentials",
            where=where,
            hint="no framework defines the result; convert again with more calibration data",
        )
    multiplier, shift = quantize_multiplier(real)
    radius = ((1 << integer_bits) - 1) * (1 << (31 - integer_bits)) / math.pow(2.0, shift)
    return multiplier, shift, -math.floor(radius)


def inverse_root(x: int) -> tuple[int, int]:
    """1 / sqrt(x) as (multiplier in Q0.31, left shift); x = 0 counts as 1.

    GetInvSqrtQuantizedMultiplierExp in lite/kernels/internal/common.h: five Newton steps from 1 in
    Q3, on x scaled by a power of four to 1/2..2.
    """
    if x <= 1:
        return _MAX, 0
    shift = 11
    while x >= 1 << 29:
        x, shift = x // 4, shift + 1
    pairs = (31 - x.bit_length()) // 2 - 1
    shift -= pairs
    scaled = (x << 2 * pairs) >> 1
    half = round_shift(scaled, 1)
    half_three = (1 << 28) + (1 << 27)
    y = 1 << 28
    for _ in range(5):
        cube = shift_left(high_mul(high_mul(y, y), y), 6)
        y = shift_left(high_mul(half_three, y) - high_mul(half, cube), 3)
    y = high_mul(y, 1518500250)  # sqrt(1/2)
    if shift < 0:
        y, shift = y << -shift, 0
    return y, -shift
