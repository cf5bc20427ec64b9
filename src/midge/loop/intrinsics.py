"""Scalar functions that loop functions may call: meaning in Python, spelling in the C runtime.

An intrinsic `name` is the C function `midge_<name>` of the runtime header `header`; the meaning is
what the interpreter runs. `test_intrinsics` holds the two against each other over the edges.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from midge.core import angles, reals
from midge.core.registry import Registry
from midge.core.rounding import high_mul, round_shift
from midge.core.types import Array, DType


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


def log_q12(x: int) -> int:
    """log(x) in Q5.26 for x in Q12.19, x >= 1, with a rational function near the fourth root of
    1/2: log_x_for_x_greater_than_or_equal_to_1 in lite/kernels/internal/common.h."""
    fourth_root, square_root = 1805811301, 1518500250
    zeros_a, zeros_b = leading_zeros(x), leading_zeros(high_mul(x, square_root)) - 1
    r_a = _saturate(high_mul(_saturate(x << (zeros_a - 1)), square_root) << 1)
    r_b = _saturate(x << zeros_b)
    power = max(((12 - zeros_a) << 25) + (1 << 23), ((12 - zeros_b) << 25) - (1 << 23))
    r = min(r_a, r_b)
    p, q = (r + fourth_root + 1) // 2, 2 * (r - fourth_root)
    square = high_mul(q, q)
    above = high_mul(q, r) + high_mul(high_mul(q, square), 117049297)
    below = high_mul(p, 1057819769 + q + high_mul(127690142, square)) + high_mul(638450708, q)
    inverse = reciprocal((below + (1 << 31)) // 2)
    return _saturate((high_mul(power, 1488522236) + high_mul(round_shift(above, 6), inverse)) << 1)


def round_to_int(x: float) -> int:
    """x to the nearest integer, ties away from zero, limited to -2^30..2^30; -2^30 for NaN."""
    if not x > -(1 << 30):
        return -(1 << 30)
    if x >= 1 << 30:
        return 1 << 30
    whole = math.trunc(x)
    rest = x - whole
    return whole + (rest >= 0.5) - (rest <= -0.5)


def round_even(x: float) -> int:
    """To the nearest integer, ties to even, limited to +-2^30; NaN gives the least."""
    return round(min(max(x, -(1 << 30)), 1 << 30)) if not math.isnan(x) else -(1 << 30)


def _real(function: Callable[..., Array]) -> Callable[..., float]:
    """One of `reals` or `angles`, of numbers."""
    return lambda *args: float(function(*(np.float32(a) for a in args)))


def divided(a: int, b: int) -> int:
    """a / b towards zero; 0 for b = 0."""
    if b == 0:
        return 0
    return abs(a) // abs(b) * (1 if (a < 0) == (b < 0) else -1)


def remainder(a: int, b: int) -> int:
    """What `divided` leaves, with the sign of a; 0 for b = 0."""
    return a - b * divided(a, b) if b else 0


def modulus(a: int, b: int) -> int:
    """a - b * floor(a / b); 0 for b = 0."""
    return a % b if b else 0


def power(a: int, b: int) -> int:
    """a^b modulo 2^64; for b < 0 the power towards zero."""
    if b < 0:
        return 0 if abs(a) != 1 else a ** (b & 1)
    return pow(a, b, 1 << 64)


def wrap64(x: int) -> int:
    """x modulo 2^64 as i64."""
    return ((x + (1 << 63)) & ((1 << 64) - 1)) - (1 << 63)


def shifted_left(a: int, b: int, bits: int) -> int:
    """a * 2^b modulo 2^bits, signed; 0 for b outside of 0..bits - 1."""
    value = (a << b) & ((1 << bits) - 1) if 0 <= b < bits else 0
    return value - (1 << bits) if value >> (bits - 1) else value


def shifted_right(a: int, b: int, bits: int) -> int:
    """floor(a / 2^b); 0 or -1, as a's sign, for b outside of 0..bits - 1."""
    return a >> (b if 0 <= b < bits else bits - 1)


def truncated(x: float, bits: int) -> int:
    """x towards zero, limited to a signed integer of so many bits; 0 for NaN."""
    if math.isnan(x):
        return 0
    limit = 1 << (bits - 1)
    return limit - 1 if x >= limit else -limit if x <= -limit else math.trunc(x)


def half_value(bits: int) -> float:
    """The lower 16 bits as a binary16; there are no infinities and NaNs, but numbers beyond."""
    magnitude = bits & 0x7FFF
    exponent, fraction = magnitude >> 10, magnitude & 0x3FF
    value = math.ldexp(fraction + (1024 if exponent else 0), max(exponent, 1) - 25)
    return -value if bits & 0x8000 else value


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
_add("log_q12", (_I32,), _I32, log_q12, "midge_fixed_log.h")
for _name, _meaning in _DSP_WORDS.items():
    _count = _meaning.__code__.co_argcount
    _add(_name, (_I32,) * _count, _I32, _meaning, "midge_dsp.h")
_add("smlald", (_I64, _I32, _I32), _I64, smlald, "midge_dsp.h")
_add("round_to_int", (_F32,), _I32, round_to_int, "midge_round.h")
_add("round_even", (_F32,), _I32, round_even, "midge_round.h")
_add("half_value", (_I32,), _F32, half_value, "midge_half.h")
_add("exp", (_F32,), _F32, _real(reals.exp), _FLOAT)
_add("tanh", (_F32,), _F32, _real(reals.tanh), _FLOAT)
_add("logistic", (_F32,), _F32, _real(reals.logistic), _FLOAT)
_MATH, _ANGLE, _INTEGER = "midge_math.h", "midge_angle.h", "midge_integer.h"
for _function in (
    "log", "log1p", "expm1", "sqrt", "sinh", "cosh", "asinh", "acosh", "atanh", "floor", "ceil",
    "trunc", "rint", "erf",
):  # fmt: skip
    _add(_function, (_F32,), _F32, _real(getattr(reals, _function)), _MATH)
_add("pow", (_F32, _F32), _F32, _real(reals.pow_), _MATH)
_add("fmod", (_F32, _F32), _F32, _real(reals.fmod), _MATH)
for _function in ("sin", "cos", "tan", "asin", "acos", "atan"):
    _add(_function, (_F32,), _F32, _real(getattr(angles, _function)), _ANGLE)
for _name, _dtype, _wrap in (("i32", _I32, wrap32), ("i64", _I64, wrap64)):
    _add(f"div_{_name}", (_dtype,) * 2, _dtype, lambda a, b, w=_wrap: w(divided(a, b)), _INTEGER)
    _add(f"rem_{_name}", (_dtype,) * 2, _dtype, remainder, _INTEGER)
    _add(f"mod_{_name}", (_dtype,) * 2, _dtype, modulus, _INTEGER)
    _add(f"pow_{_name}", (_dtype,) * 2, _dtype, lambda a, b, w=_wrap: w(power(a, b)), _INTEGER)
    _bits = 8 * _dtype.size
    for _side, _shift in (("left", shifted_left), ("right", shifted_right)):
        _add(
            f"shift_{_side}_{_name}",
            (_dtype,) * 2,
            _dtype,
            lambda a, b, f=_shift, n=_bits: f(a, b, n),
            _INTEGER,
        )
    _add(f"trunc_{_name}", (_F32,), _dtype, lambda x, n=_bits: truncated(x, n), _INTEGER)
_add("bits_of", (_F32,), _I32, lambda x: int(np.float32(x).view(np.int32)), _INTEGER)
_add("float_of", (_I32,), _F32, lambda x: float(np.int32(x).view(np.float32)), _INTEGER)
_add("wrap_i8", (_I32,), _I32, lambda x: _byte(x, 0), _INTEGER)
_add("wrap_i16", (_I32,), _I32, low_half, _INTEGER)
_add("wrap_i32", (_I64,), _I32, wrap32, _INTEGER)
