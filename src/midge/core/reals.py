"""The functions of runtime/include/midge_float.h and midge_math.h, operation by operation.

NumPy's binary32 arithmetic is that of C without fused multiply-adds: what these give is what the
generated C gives, to the bit. `angles` has those of midge_angle.h.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from midge.core.types import Array

f32 = np.float32
_INFINITY, _NAN = f32(np.inf), f32(np.nan)


def function(body: Callable[..., Array]) -> Callable[..., Array]:
    """`body` on arrays of binary32 of any shape, infinities and NaN among them."""

    def values(*args: Array) -> Array:
        shape = np.broadcast_shapes(*(np.shape(a) for a in args))
        with np.errstate(all="ignore"):
            result = body(*(np.atleast_1d(np.asarray(a, f32)) for a in args))
        return result.astype(f32).reshape(shape)

    return values


def polynomial(x: Array, first: float, rest: Sequence[float]) -> Array:
    """((first * x + c) * x + d) ..., each step rounded."""
    y = np.full_like(x, first)
    for c in rest:
        y = y * x + f32(c)
    return y


def chosen(condition: Array, then: Array | np.float32, other: Array | np.float32) -> Array:
    result: Array = np.where(condition, then, other).astype(f32)
    return result


def larger(a: Array, b: Array | np.float32) -> Array:
    """As midge_max_f32: a NaN or a zero in `a` stays."""
    return chosen(b > a, b, a)


def smaller(a: Array, b: Array | np.float32) -> Array:
    """As midge_min_f32."""
    return chosen(b < a, b, a)


def signed(x: Array, sign: Array) -> Array:
    result: Array = np.copysign(x, sign)
    return result


def nearest(x: Array) -> Array:
    """To an integer, ties away from zero, as far as it fits 32 bits; else 0."""
    inside = np.abs(x) < f32(2.0**30)
    moved = chosen(x < 0, x - f32(0.5), x + f32(0.5))
    result: Array = np.where(inside, moved, f32(0)).astype(np.int32)
    return result


def _power(n: Array) -> Array:
    """2^n for -126 <= n <= 127."""
    result: Array = np.ldexp(f32(1), np.clip(n, -126, 127)).astype(f32)
    return result


def _scaled(y: Array, n: Array) -> Array:
    """y * 2^n in two factors."""
    half = (n + (n < 0)) >> 1  # as C divides
    result: Array = (y * _power(half)) * _power(n - half)
    return result


_EXP = (
    1.98412698e-4, 1.38888889e-3, 8.33333333e-3, 4.16666667e-2, 1.66666667e-1, 0.5,
)  # fmt: skip


def _rest(x: Array, n: Array) -> Array:
    """x - n ln 2."""
    whole = n.astype(f32)
    r = x - whole * f32(0.693359375)
    result: Array = r + whole * f32(2.12194440e-4)
    return result


def _exp(x: Array) -> Array:
    n = nearest(x * f32(1.44269504))
    r = _rest(x, n)
    y = polynomial(r, _EXP[0], _EXP[1:])
    y = ((y * r) * r + r) + f32(1)
    y = chosen(x != x, x, _scaled(y, n))
    y = chosen(x < f32(-104), f32(0), y)
    return chosen(x > f32(88.8), _INFINITY, y)


def _tanh(x: Array) -> Array:
    a = chosen(x < 0, -x, x)
    s = a * a
    p = polynomial(s, 1.0, (378.0, 17325.0, 135135.0))
    q = polynomial(s, 28.0, (3150.0, 62370.0, 135135.0))
    far = f32(1) - f32(2) / (_exp(f32(2) * a) + f32(1))
    y = chosen(a < f32(0.625), (a * p) / q, far)
    return chosen(x < 0, -y, y)


def _logistic(x: Array) -> Array:
    e = _exp(chosen(x < 0, x, -x))
    return chosen(x < 0, e, f32(1)) / (f32(1) + e)


def _bits(x: Array) -> Array:
    result: Array = np.ascontiguousarray(x).view(np.uint32)
    return result


def _float(bits: Array) -> Array:
    result: Array = np.ascontiguousarray(bits.astype(np.uint32)).view(f32)
    return result


def _upper(x: Array) -> Array:
    """The first 12 bits."""
    return _float(_bits(x) & np.uint32(0xFFFFF000))


def _split(x: Array) -> tuple[Array, Array]:
    """m in sqrt(1/2)..sqrt(2) and n with x = m 2^n, for finite x > 0."""
    small = _bits(x) < 0x00800000
    bits = np.where(small, _bits(x * f32(33554432)), _bits(x)).astype(np.int64)
    bits = bits + (0x3F800000 - 0x3F3504F3)
    n = np.where(small, -25, 0) + (bits >> 23) - 127
    return _float((bits & 0x007FFFFF) + 0x3F3504F3), n.astype(np.int32)


def _log(x: Array) -> Array:
    positive = chosen((x > 0) & (x < _INFINITY), x, f32(1))
    m, n = _split(positive)
    f = m - f32(1)
    s = f / (f32(2) + f)
    z = s * s
    series = polynomial(z, 0.181818182, (0.222222222, 0.285714286, 0.4, 0.666666667))
    half = (f32(0.5) * f) * f
    whole = n.astype(f32)
    s = (s * (half + series * z)) - whole * f32(2.12194440e-4)
    y = whole * f32(0.693359375) - ((half - s) - f)
    y = chosen(x == _INFINITY, x, y)
    return chosen(x > 0, y, chosen(x == 0, -_INFINITY, _NAN))


def _log1p(x: Array) -> Array:
    u = f32(1) + x
    y = _log(u)
    y = chosen(u > 0, y * (x / (u - f32(1))), y)
    return chosen((u == f32(1)) | (x > f32(3.4028234e38)), x, y)


def _expm1(x: Array) -> Array:
    n = nearest(x * f32(1.44269504))
    r = _rest(x, n)
    y = polynomial(r, 2.48015873e-5, _EXP)
    y = (y * r) * r + r
    moved = y + chosen(n < 30, f32(1) - _power(-n), f32(1))
    y = chosen(n == 0, y, _scaled(moved, n))
    y = chosen(x < f32(-17.5), f32(-1), y)
    return chosen((x > f32(88.8)) | (x != x), x + _exp(x), y)


def _erf(x: Array) -> Array:
    a = np.abs(x)
    z = x * x
    inner = polynomial(
        z,
        -6.34317170e-4,
        (5.05567202e-3, -2.68051401e-2, 1.12827770e-1, -3.76125753e-1, 1.28379166e-1),
    )
    outer = polynomial(
        a - f32(1),
        1.98272937e-5,
        (-2.81248271e-4, 1.99855748e-3, -1.00367405e-2, 4.15604189e-2, 8.43107402e-1,
         2.63896751, 1.84960556),
    )  # fmt: skip
    y = signed(f32(1) - _exp(-outer), x)
    y = chosen(a < f32(4), y, chosen(x != x, x, signed(np.ones_like(x), x)))
    return chosen(a < f32(0.84375), x + x * inner, y)


def _exp2_sum(high: Array, low: Array) -> Array:
    """2^(high + low), |low| small."""
    p = high + low
    n = nearest(p)
    r = ((high - n.astype(f32)) + low) * f32(0.693147181)
    y = polynomial(r, _EXP[0], _EXP[1:])
    y = _scaled(((y * r) * r + r) + f32(1), n)
    y = chosen(p < f32(-151), f32(0), y)
    return chosen(p >= f32(128.5), _INFINITY, y)


def _pow_positive(x: Array, y: Array) -> Array:
    """x^y for finite x > 0 and |y| < 2^32."""
    m, whole = _split(x)
    n = whole.astype(f32)
    f, d = m - f32(1), m + f32(1)
    d_low, d_upper = m - (d - f32(1)), _upper(d)
    s = f / d
    s_high = _upper(s)
    s_low = ((f - s_high * d_upper) - s_high * ((d - d_upper) + d_low)) / d
    z = s * s
    series = polynomial(z, 0.0909090909, (0.111111111, 0.142857143, 0.2, 0.333333333))
    low = s_high * f32(6.24456778e-4) + (s_low + (s * z) * series) * f32(2.88539008)
    high = n + s_high * f32(2.884765625)
    low = low + ((n - high) + s_high * f32(2.884765625))
    log_high = _upper(high + low)
    low = low + (high - log_high)
    y_high = _upper(y)
    return _exp2_sum(y_high * log_high, (y - y_high) * log_high + y * low)


def _pow(x: Array, y: Array) -> Array:
    x, y = (np.array(a) for a in np.broadcast_arrays(x, y))
    a, magnitude = np.abs(x), np.abs(y)
    whole = np.where(magnitude < f32(8388608), np.trunc(y) == y, y == y)
    odd = whole & (magnitude < f32(16777216)) & (np.mod(magnitude, f32(2)) == f32(1))
    usual = (a > 0) & (a < _INFINITY) & (magnitude < f32(4294967296))
    result = _pow_positive(chosen(usual, a, f32(1)), chosen(usual, y, f32(1)))
    result = chosen((x < 0) & ~whole, _NAN, result)
    above = chosen((a > 1) == (y > 0), _INFINITY, f32(0))
    result = chosen(magnitude < f32(4294967296), result, chosen(a == 1, f32(1), above))
    ends = chosen((a == 0) == (y < 0), _INFINITY, f32(0))
    result = chosen((a == 0) | (a == _INFINITY), ends, result)
    result = chosen(odd & np.signbit(x), -result, result)
    result = chosen((a == 1) & ~(magnitude < f32(4294967296)), f32(1), result)
    result = chosen((x != x) | (y != y), _NAN, result)
    return chosen((x == 1) | (y == 0), f32(1), result)


def _sinh(x: Array) -> Array:
    a = np.abs(x)
    t = _expm1(a)
    e = _exp(f32(0.5) * a)
    near = f32(0.5) * (t + t / (t + f32(1)))
    return signed(chosen(a < f32(88), near, (f32(0.5) * e) * e), x)


def _cosh(x: Array) -> Array:
    a = np.abs(x)
    e = _exp(chosen(a < f32(88), a, f32(0.5) * a))
    return chosen(a < f32(88), f32(0.5) * e + f32(0.5) / e, (f32(0.5) * e) * e)


def _asinh(x: Array) -> Array:
    a = np.abs(x)
    z = a * a
    near = _log1p(a + z / (f32(1) + np.sqrt(z + f32(1))))
    y = chosen(a < f32(4096), near, _log(a) + f32(0.693147181))
    return chosen(a == 0, x, signed(y, x))


def _acosh(x: Array) -> Array:
    t = x - f32(1)
    near = _log1p(t + np.sqrt(f32(2) * t + t * t))
    y = chosen(x > f32(4096), _log(x) + f32(0.693147181), near)
    return chosen(x < 1, _NAN, y)


def _atanh(x: Array) -> Array:
    a = np.abs(x)
    return signed(f32(0.5) * _log1p((f32(2) * a) / (f32(1) - a)), x)


exp, tanh, logistic = function(_exp), function(_tanh), function(_logistic)
log, log1p, expm1, erf = function(_log), function(_log1p), function(_expm1), function(_erf)
pow_ = function(_pow)
sinh, cosh = function(_sinh), function(_cosh)
asinh, acosh, atanh = function(_asinh), function(_acosh), function(_atanh)
sqrt, floor, ceil, trunc, rint, fmod = (
    function(f) for f in (np.sqrt, np.floor, np.ceil, np.trunc, np.rint, np.fmod)
)
