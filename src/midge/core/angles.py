"""The functions of runtime/include/midge_angle.h, operation by operation, as `reals` has others."""

from __future__ import annotations

import numpy as np

from midge.core.reals import chosen, f32, function, polynomial, signed
from midge.core.types import Array

_TWO_OVER_PI = np.array(
    [0x00000000, 0xA2F9836E, 0x4E441529, 0xFC2757D1, 0xF534DDC0, 0xDB629599, 0x3C439041,
     0xFE5163AB],
    np.uint64,
)  # fmt: skip
_NAN = f32(np.nan)


def _reduced_exactly(a: Array) -> tuple[Array, Array]:
    """a = q pi/2 + r for finite a >= 0.5, q modulo 4: the product with 96 bits of 2/pi."""
    bits = a.view(np.uint32).astype(np.int64)
    m = ((bits & 0x007FFFFF) | 0x00800000).astype(np.uint64)
    first = (bits >> 23) + 30 - 150
    word, shift = np.clip(first >> 5, 0, 4), (first & 31).astype(np.uint64)
    low = np.uint64(32)
    part = []
    for i in range(3):
        pair = (_TWO_OVER_PI[word + i] << low) | _TWO_OVER_PI[word + i + 1]
        part.append((pair >> (low - shift)) & np.uint64(0xFFFFFFFF))
    turns = ((m * part[0]) << low) + m * part[1] + ((m * part[2]) >> low)
    q = ((turns + np.uint64(1 << 61)) >> np.uint64(62)) & np.uint64(3)
    turns = turns - (q << np.uint64(62))
    below = (turns >> np.uint64(63)) != 0
    size = np.where(below, ~turns + np.uint64(1), turns).astype(f32)
    return size * chosen(below, f32(-3.40612158e-19), f32(3.40612158e-19)), q.astype(np.int32)


def _reduced(x: Array) -> tuple[Array, Array]:
    """|x| = q pi/2 + r for any finite x."""
    a = np.abs(x)
    n = np.where(a < 1000, a * f32(0.636619772) + f32(0.5), f32(0)).astype(np.int32)
    whole = n.astype(f32)
    r = a - whole * f32(1.5703125)
    r = r - whole * f32(4.837512969970703e-4)
    r = r - whole * f32(7.549790126404332e-8)
    exact, q = _reduced_exactly(chosen(a < 0.5, f32(1), a))
    near = a <= f32(0.785398163)
    stepped = (a < 1000) & (np.abs(r) > f32(0.01))
    r = chosen(near, a, chosen(stepped, r, exact))
    return r, np.where(near, 0, np.where(stepped, n & 3, q))


def _sin_near(r: Array) -> Array:
    z = r * r
    result: Array = r + (r * z) * polynomial(z, -1.95152854e-4, (8.33216123e-3, -1.66666552e-1))
    return result


def _cos_near(r: Array) -> Array:
    z = r * r
    y = polynomial(z, 2.44331532e-5, (-1.38873165e-3, 4.16666456e-2))
    result: Array = f32(1) - (f32(0.5) * z - (z * z) * y)
    return result


def _finite(x: Array) -> tuple[Array, Array]:
    finite = np.isfinite(x)
    return finite, chosen(finite, x, f32(0))


def _sin(x: Array) -> Array:
    finite, x = _finite(x)
    r, q = _reduced(x)
    y = chosen((q & 1) != 0, _cos_near(r), _sin_near(r))
    return chosen(finite, chosen(((q & 2) != 0) != (x < 0), -y, y), _NAN)


def _cos(x: Array) -> Array:
    finite, x = _finite(x)
    r, q = _reduced(x)
    y = chosen((q & 1) != 0, _sin_near(r), _cos_near(r))
    return chosen(finite, chosen((q == 1) | (q == 2), -y, y), _NAN)


def _tan(x: Array) -> Array:
    finite, x = _finite(x)
    r, q = _reduced(x)
    s, c = _sin_near(r), _cos_near(r)
    y = chosen((q & 1) != 0, -c / s, s / c)
    return chosen(finite, chosen(x < 0, -y, y), _NAN)


def _atan(x: Array) -> Array:
    a = np.abs(x)
    far, middle = a > f32(2.41421356), a > f32(0.414213562)
    base = chosen(far, f32(1.57079633), chosen(middle, f32(0.785398163), f32(0)))
    t = chosen(far, f32(-1) / a, chosen(middle, (a - f32(1)) / (a + f32(1)), a))
    z = t * t
    y = polynomial(
        z, -6.07823804e-2, (1.05938211e-1, -1.42435342e-1, 1.99984714e-1, -3.33333164e-1)
    )
    return chosen(x != x, x, signed(base + (t + (t * z) * y), x))


def _asin_near(x: Array) -> Array:
    z = x * x
    y = polynomial(z, 4.21657190e-2, (2.41798814e-2, 4.54702973e-2, 7.49529824e-2, 1.66667521e-1))
    result: Array = x + (x * z) * y
    return result


def _asin(x: Array) -> Array:
    a = np.abs(x)
    far = f32(1.57079633) - f32(2) * _asin_near(np.sqrt(f32(0.5) * (f32(1) - a)))
    return chosen(a <= f32(0.5), _asin_near(x), signed(far, x))


def _acos(x: Array) -> Array:
    a = np.abs(x)
    y = f32(2) * _asin_near(np.sqrt(f32(0.5) * (f32(1) - a)))
    far = chosen(x < 0, f32(3.14159274) - (y + f32(8.74227766e-8)), y)
    near = f32(1.57079637) - (_asin_near(x) + f32(4.37113883e-8))
    return chosen(a <= f32(0.5), near, far)


sin, cos, tan = function(_sin), function(_cos), function(_tan)
asin, acos, atan = function(_asin), function(_acos), function(_atan)
