"""Scalar functions that loop functions may call: meaning in Python, spelling in the C runtime.

An intrinsic `name` is the C function `midge_<name>` of the runtime header `header`; the meaning is
what the interpreter runs. `test_intrinsics` holds the two against each other over the edges.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from midge.core.registry import Registry
from midge.core.rounding import high_mul, round_shift
from midge.core.types import DType


@dataclass(frozen=True, slots=True)
class Intrinsic:
    """name: without the prefix.  args, result: element types.  meaning: on Python numbers."""

    name: str
    args: tuple[DType, ...]
    result: DType
    meaning: Callable[..., int | float]
    header: str


INTRINSICS: Registry[Intrinsic] = Registry("intrinsic")


def wrap32(x: int) -> int:
    """x modulo 2^32 as i32."""
    return ((x + (1 << 31)) & 0xFFFFFFFF) - (1 << 31)


def requantize_twice(x: int, multiplier: int, shift: int) -> int:
    """round(round(x * 2^max(shift, 0) * multiplier / 2^31) / 2^max(-shift, 0)).

    MultiplyByQuantizedMultiplier of the reference kernels in its two-rounding form. The left
    shift wraps as the reference's multiplication does on every two's complement machine.
    """
    return round_shift(high_mul(wrap32(x << max(shift, 0)), multiplier), max(-shift, 0))


def requantize_once(x: int, multiplier: int, shift: int) -> int:
    """round(x * multiplier / 2^(31 - shift)), ties towards +infinity; -31 <= shift <= 30."""
    return wrap32((x * multiplier + (1 << (30 - shift))) >> (31 - shift))


def requantize_wide(x: int, multiplier: int, shift: int) -> int:
    """round(x * multiplier / 2^(15 - shift)) for a 64-bit x and a 16-bit multiplier."""
    return wrap32((x * multiplier + (1 << (14 - shift))) >> (15 - shift))


def requantize_real(x: int, high: int, low: int, shift: int) -> int:
    """round(x * real) for real = (high * 2^27 + low) * 2^-shift, the product rounded to binary64
    first; ties away from zero; limited to -2^30..2^30."""
    product = float(abs(x)) * math.ldexp(float((high << 27) + low), -shift)
    whole = math.trunc(product)
    limited = min(whole + (product - whole >= 0.5), 1 << 30)
    return -limited if x < 0 else limited


def high_word(x: int, left: int, factor: int) -> int:
    """x * 2^left * factor / 2^32, rounded down; x * 2^left fits 32 bits."""
    return ((x << left) * factor) >> 32


def nudged(x: int, nudge: int) -> int:
    """x, where it is negative plus `nudge`: what turns rounding up into rounding away from zero."""
    return x + nudge if x < 0 else x


def low_half(x: int) -> int:
    """The lower 16 bits of a word, with their sign."""
    return ((x + (1 << 15)) & 0xFFFF) - (1 << 15)


def high_half(x: int) -> int:
    """The upper 16 bits of a word, with their sign."""
    return low_half(x >> 16)


def _byte(x: int, shift: int) -> int:
    return (((x >> shift) + 128) & 0xFF) - 128


def _halves(low: int, high: int) -> int:
    return wrap32((high << 16) | (low & 0xFFFF))


# The words of Arm's DSP extension (Arm Architecture Reference Manual, Armv7-M, section A7.7), on
# words of two halves or four bytes.
_DSP_WORDS: dict[str, Callable[..., int]] = {
    "smlad": lambda x, y, acc: wrap32(
        low_half(x) * low_half(y) + high_half(x) * high_half(y) + acc
    ),
    "smlabb": lambda x, y, acc: wrap32(low_half(x) * low_half(y) + acc),
    "smlabt": lambda x, y, acc: wrap32(low_half(x) * high_half(y) + acc),
    "smlatb": lambda x, y, acc: wrap32(high_half(x) * low_half(y) + acc),
    "smlatt": lambda x, y, acc: wrap32(high_half(x) * high_half(y) + acc),
    "sxtb16": lambda x: _halves(_byte(x, 0), _byte(x, 16)),
    "sxtb16_ror8": lambda x: _halves(_byte(x, 8), _byte(x, 24)),
    "pkhbt": lambda x, y: _halves(low_half(x), low_half(y)),
    "pkhtb": lambda x, y: _halves(high_half(y), high_half(x)),
    "smmul": lambda x, y: (x * y) >> 32,
    "smmulr": lambda x, y: wrap32((x * y + (1 << 31)) >> 32),
    "ssat8": lambda x: max(-128, min(127, x)),
    "ssat16": lambda x: max(-32768, min(32767, x)),
}


def smlald(acc: int, x: int, y: int) -> int:
    """acc + both products of halves, modulo 2^64."""
    total = acc + low_half(x) * low_half(y) + high_half(x) * high_half(y)
    return ((total + (1 << 63)) & ((1 << 64) - 1)) - (1 << 63)


def leading_zeros(x: int) -> int:
    """Zero bits above the highest set bit of a 32-bit x > 0."""
    return 32 - x.bit_length()


def reciprocal(x: int) -> int:
    """2^31 / (x scaled to [1, 2)) in Q0.31, for x > 0: the shifted scale of GetReciprocal.

    Three Newton-Raphson steps from 48/17 - 32/17 * d, as gemmlowp's one_over_one_plus_x.
    """
    fraction = (x << leading_zeros(x)) - (1 << 31)
    half = (fraction + (1 << 31)) >> 1
    estimate = 1515870810 + high_mul(half, -1010580540)
    for _ in range(3):
        error = (1 << 29) - high_mul(half, estimate)
        estimate += _saturate(high_mul(estimate, error) << 2)
    return _saturate(estimate << 1)


def _saturate(x: int) -> int:
    return max(-(1 << 31), min((1 << 31) - 1, x))


def round_to_int(x: float) -> int:
    """x to the nearest integer, ties away from zero, limited to -2^30..2^30; -2^30 for NaN."""
    if not x > -(1 << 30):
        return -(1 << 30)
    if x >= 1 << 30:
        return 1 << 30
    whole = math.trunc(x)
    rest = x - whole
    return whole + (rest >= 0.5) - (rest <= -0.5)


def _f32(function: Callable[[float], float]) -> Callable[[float], float]:
    def meaning(x: float) -> float:
        with np.errstate(all="ignore"):
            try:
                return float(np.float32(function(x)))
            except OverflowError:
                return math.inf

    return meaning


def logistic(x: float) -> float:
    """1 / (1 + exp(-x)), without overflow for any x."""
    return 1.0 / (1.0 + math.exp(-x)) if x >= 0 else math.exp(x) / (1.0 + math.exp(x))


def _add(
    name: str,
    args: tuple[DType, ...],
    result: DType,
    meaning: Callable[..., int | float],
    header: str,
) -> None:
    INTRINSICS.add(name, Intrinsic(name, args, result, meaning, header))


_I32, _I64, _F32 = DType.I32, DType.I64, DType.F32
_FIXED, _FLOAT = "midge_fixed.h", "midge_float.h"
_add("high_mul", (_I32, _I32), _I32, high_mul, _FIXED)
_add("round_shift", (_I32, _I32), _I32, round_shift, _FIXED)
_add("requantize_twice", (_I32, _I32, _I32), _I32, requantize_twice, _FIXED)
_add("requantize_once", (_I32, _I32, _I32), _I32, requantize_once, _FIXED)
_add("requantize_wide", (_I64, _I32, _I32), _I32, requantize_wide, _FIXED)
_add("requantize_real", (_I64, _I32, _I32, _I32), _I32, requantize_real, "midge_real.h")
_add("high_word", (_I32, _I32, _I32), _I32, high_word, _FIXED)
_add("nudged", (_I32, _I32), _I32, nudged, _FIXED)
_add("leading_zeros", (_I32,), _I32, leading_zeros, _FIXED)
_add("reciprocal", (_I32,), _I32, reciprocal, _FIXED)
for _name, _meaning in _DSP_WORDS.items():
    _count = _meaning.__code__.co_argcount
    _add(_name, (_I32,) * _count, _I32, _meaning, "midge_dsp.h")
_add("smlald", (_I64, _I32, _I32), _I64, smlald, "midge_dsp.h")
_add("round_to_int", (_F32,), _I32, round_to_int, "midge_round.h")
_add("exp", (_F32,), _F32, _f32(math.exp), _FLOAT)
_add("tanh", (_F32,), _F32, _f32(math.tanh), _FLOAT)
_add("logistic", (_F32,), _F32, _f32(logistic), _FLOAT)
