"""The two roundings of the framework's fixed-point library, on Python integers."""

from __future__ import annotations


def high_mul(a: int, b: int) -> int:
    """round(a * b / 2^31), ties towards +infinity, saturated to i32.

    The saturating rounding doubling high multiply of the reference kernels' fixed-point library
    and of Arm's SQRDMULH: its nudge-and-truncate rounds ties up for both signs.
    """
    return min((a * b + (1 << 30)) >> 31, (1 << 31) - 1)


def round_shift(x: int, exponent: int) -> int:
    """round(x / 2^exponent), ties away from zero; 0 <= exponent <= 31."""
    assert 0 <= exponent <= 31, exponent
    mask = (1 << exponent) - 1
    threshold = (mask >> 1) + (1 if x < 0 else 0)
    return (x >> exponent) + (1 if (x & mask) > threshold else 0)
