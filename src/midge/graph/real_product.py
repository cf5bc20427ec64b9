"""round(x * real) as the framework computes it in binary64, and how integers reproduce it.

The reference kernel of FULLY_CONNECTED multiplies its accumulator by a double and calls round(),
ties away from zero. That function of an integer is a staircase: a fixed-point multiplier is exact
if it has the same steps, which is checked step by step when compiling.
"""

from __future__ import annotations

import math
from functools import lru_cache

from midge.graph.fixed_point import quantize_multiplier

MANTISSA_BITS = 53
LOW_BITS = 27  # of a mantissa's lower part


def round_product(x: int, real: float) -> int:
    """C's round((double)x * real); |x| < 2^53."""
    y = x * real
    whole = math.trunc(y)
    rest = y - whole
    return whole + (rest >= 0.5) - (rest <= -0.5)


def split_real(real: float) -> tuple[int, int, int]:
    """(high, low, shift): real = (high * 2^27 + low) * 2^-shift with a mantissa of 53 bits.

    Zero where no 64-bit x could give anything but zero.
    """
    fraction, exponent = math.frexp(real)
    mantissa = int(math.ldexp(fraction, MANTISSA_BITS))
    shift = MANTISSA_BITS - exponent
    if real <= 0.0 or shift > 120:
        return 0, 0, MANTISSA_BITS
    return mantissa >> LOW_BITS, mantissa & ((1 << LOW_BITS) - 1), shift


@lru_cache(maxsize=4096)
def fit_multiplier(
    real: float, least: int, most: int, low: int, high: int
) -> tuple[int, int] | None:
    """(multiplier, shift) with (x * multiplier + 2^(30 - shift)) >> (31 - shift), limited to
    low..high, equal to `round_product` so limited, for every x in least..most.

    The multiplier nearest to 2^(31 - shift) * real that has this property; None if none does, and
    where the product leaves 31 bits.
    """
    nominal, shift = quantize_multiplier(real)
    if nominal == 0 or not -31 <= shift <= 29:
        return None
    if max(-round_product(least, real), round_product(most, real)) >= 1 << 30:
        return None
    floor, ceiling = 1 << 30, (1 << 31) - 1
    half = 1 << (30 - shift)
    first = max(low, round_product(least, real)) + 1
    last = min(high, round_product(most, real))
    # The ends, which are no steps: least * multiplier >= bound, most * multiplier < bound.
    if first - 1 > low:
        bound = ((first - 1) << (31 - shift)) - half
        floor, ceiling = _narrowed(floor, ceiling, least, bound)
    if last < high:
        bound = ((last + 1) << (31 - shift)) - half
        floor, ceiling = _narrowed(floor, ceiling, -most, 1 - bound)
    if floor > ceiling:
        return None
    for q in range(first, last + 1):
        step = first_at_least(q, real)
        bound = (q << (31 - shift)) - half
        # step * multiplier >= bound, and (step - 1) * multiplier < bound.
        floor, ceiling = _narrowed(floor, ceiling, step, bound)
        if step > least:
            floor, ceiling = _narrowed(floor, ceiling, 1 - step, 1 - bound)
        if floor > ceiling:
            return None
    return min(max(nominal, floor), ceiling), shift


def first_at_least(q: int, real: float) -> int:
    """The least x with round_product(x) >= q."""
    x = math.ceil((q - 0.5) / real)
    while round_product(x, real) >= q:
        x -= 1
    while round_product(x, real) < q:
        x += 1
    return x


def _narrowed(floor: int, ceiling: int, factor: int, bound: int) -> tuple[int, int]:
    """The multipliers of floor..ceiling with factor * multiplier >= bound."""
    if factor > 0:
        return max(floor, -(-bound // factor)), ceiling
    if factor < 0:
        return floor, min(ceiling, bound // factor)
    return (floor, ceiling) if bound <= 0 else (1, 0)
