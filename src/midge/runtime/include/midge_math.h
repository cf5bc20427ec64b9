/* SPDX-License-Identifier: MIT-0 */
/* midge_math.h - functions of float models beyond the exponential, without <math.h>.
 *
 * Single precision throughout. Errors, over all finite arguments and without fused multiply-adds:
 * log below 1 ulp, log1p below 3 ulp, expm1 below 2 ulp, erf below 2 ulp, pow below 2 ulp,
 * sinh below 3 ulp, cosh below 3 ulp, asinh below 4 ulp, acosh below 4 ulp, atanh below 4 ulp.
 * sqrt, floor, ceil, trunc, rint and fmod are exact. NaN in, NaN out; NaN where the function has no
 * value.
 */
#ifndef MIDGE_MATH_H
#define MIDGE_MATH_H

#include <stdint.h>

#include "midge_float.h"

static inline uint32_t midge_float_bits(float x)
{
    union {
        float value;
        uint32_t bits;
    } word;

    word.value = x;
    return word.bits;
}

static inline float midge_bits_float(uint32_t bits)
{
    union {
        uint32_t bits;
        float value;
    } word;

    word.bits = bits;
    return word.value;
}

static inline float midge_fabs(float x)
{
    return midge_bits_float(midge_float_bits(x) & 0x7FFFFFFFU);
}

/* x with the sign of `sign`. */
static inline float midge_signed(float x, float sign)
{
    return midge_bits_float((midge_float_bits(x) & 0x7FFFFFFFU) |
                            (midge_float_bits(sign) & 0x80000000U));
}

static inline float midge_infinity(void)
{
    return midge_bits_float(0x7F800000U);
}

static inline float midge_nan(void)
{
    return midge_bits_float(0x7FC00000U);
}

/* The first 12 bits of a value: products of two such are exact. */
static inline float midge_upper(float x)
{
    return midge_bits_float(midge_float_bits(x) & 0xFFFFF000U);
}

/* x = m 2^n with m in sqrt(1/2)..sqrt(2), for finite x > 0; returns m. */
static inline float midge_split(float x, int32_t *n)
{
    uint32_t bits = midge_float_bits(x);
    int32_t exponent = 0;

    if (bits < 0x00800000U) { /* subnormal */
        bits = midge_float_bits(x * 33554432.0f);
        exponent = -25;
    }
    bits += 0x3F800000U - 0x3F3504F3U;
    *n = exponent + (int32_t)(bits >> 23) - 127;
    return midge_bits_float((bits & 0x007FFFFFU) + 0x3F3504F3U);
}

/* log(x): x = m 2^n, log m = 2 artanh(s) with s = f / (2 + f), f = m - 1; the series to s^11. */
static inline float midge_log(float x)
{
    int32_t n;
    float f;
    float s;
    float z;
    float series;
    float half;

    if (!(x > 0.0f)) {
        return (x == 0.0f) ? -midge_infinity() : midge_nan();
    }
    if (midge_float_bits(x) >= 0x7F800000U) {
        return x;
    }
    f = midge_split(x, &n) - 1.0f;
    s = f / (2.0f + f);
    z = s * s;
    series = 0.181818182f;
    series = (series * z) + 0.222222222f;
    series = (series * z) + 0.285714286f;
    series = (series * z) + 0.4f;
    series = (series * z) + 0.666666667f;
    half = (0.5f * f) * f;
    /* log m = f - (f^2 / 2 - s (f^2 / 2 + series)); ln 2 in two parts, the first of 9 bits. */
    s = (s * (half + (series * z))) - ((float)n * 2.12194440e-4f);
    return ((float)n * 0.693359375f) - ((half - s) - f);
}

/* log(1 + x): what rounding 1 + x loses is put back by the slope (Kahan). */
static inline float midge_log1p(float x)
{
    const float u = 1.0f + x;

    if ((u == 1.0f) || (x > 3.4028234e38f)) {
        return x;
    }
    if (!(u > 0.0f)) {
        return midge_log(u);
    }
    return midge_log(u) * (x / (u - 1.0f));
}

/* exp(x) - 1: x = n ln 2 + r, 2^n ((exp(r) - 1) + (1 - 2^-n)). */
static inline float midge_expm1(float x)
{
    const float scaled = x * 1.44269504f;
    int32_t n;
    float r;
    float y;

    if ((x > 88.8f) || (x != x)) {
        return x + midge_exp(x);
    }
    if (x < -17.5f) {
        return -1.0f;
    }
    n = (int32_t)((scaled < 0.0f) ? (scaled - 0.5f) : (scaled + 0.5f));
    r = x - ((float)n * 0.693359375f);
    r = r + ((float)n * 2.12194440e-4f);
    y = 2.48015873e-5f;
    y = (y * r) + 1.98412698e-4f;
    y = (y * r) + 1.38888889e-3f;
    y = (y * r) + 8.33333333e-3f;
    y = (y * r) + 4.16666667e-2f;
    y = (y * r) + 1.66666667e-1f;
    y = (y * r) + 0.5f;
    y = ((y * r) * r) + r;
    if (n == 0) {
        return y;
    }
    y = y + ((n < 30) ? (1.0f - midge_pow2(-n)) : 1.0f);
    return (y * midge_pow2(n / 2)) * midge_pow2(n - (n / 2));
}

/* The square root, rounded to nearest: the core's instruction, or digit by digit. */
static inline float midge_sqrt(float x)
{
#if defined(__ARM_FP) && ((__ARM_FP & 4) != 0) && !defined(__aarch64__)
    float y;

    __asm__("vsqrt.f32 %0, %1" : "=t"(y) : "t"(x));
    return y;
#elif defined(__riscv_flen)
    float y;

    __asm__("fsqrt.s %0, %1" : "=f"(y) : "f"(x));
    return y;
#else
    uint32_t bits = midge_float_bits(x);
    uint32_t rest;
    uint32_t root = 0U;
    uint32_t taken = 0U; /* twice the root */
    uint32_t bit;
    int32_t exponent;

    if (!(x > 0.0f)) {
        return (x == 0.0f) ? x : midge_nan();
    }
    if (bits >= 0x7F800000U) {
        return x;
    }
    exponent = 0;
    if (bits < 0x00800000U) {
        bits = midge_float_bits(x * 16777216.0f);
        exponent = -24;
    }
    exponent += (int32_t)(bits >> 23) - 127;
    rest = (bits & 0x007FFFFFU) | 0x00800000U;
    if ((exponent & 1) != 0) {
        rest <<= 1;
        exponent -= 1;
    }
    rest <<= 1;
    for (bit = 0x01000000U; bit != 0U; bit >>= 1) {
        const uint32_t trial = taken + bit;
        if (trial <= rest) {
            taken = trial + bit;
            rest -= trial;
            root += bit;
        }
        rest <<= 1;
    }
    /* 25 bits; the last one rounds, and the root of a float is never half way. */
    root = (root >> 1) + (root & 1U);
    return midge_bits_float(root + ((uint32_t)((exponent / 2) + 126) << 23));
#endif
}

/* 2 / sqrt(pi) times the integral of exp(-t^2) from 0 to x. */
static inline float midge_erf(float x)
{
    const float a = midge_fabs(x);
    float y;

    if (a < 0.84375f) {
        const float z = x * x;
        y = -6.34317170e-4f;
        y = (y * z) + 5.05567202e-3f;
        y = (y * z) - 2.68051401e-2f;
        y = (y * z) + 1.12827770e-1f;
        y = (y * z) - 3.76125753e-1f;
        y = (y * z) + 1.28379166e-1f;
        return x + (x * y);
    }
    if (!(a < 4.0f)) {
        return (x != x) ? x : midge_signed(1.0f, x);
    }
    {
        const float t = a - 1.0f; /* -log(1 - erf(a)) is nearly a parabola */
        y = 1.98272937e-5f;
        y = (y * t) - 2.81248271e-4f;
        y = (y * t) + 1.99855748e-3f;
        y = (y * t) - 1.00367405e-2f;
        y = (y * t) + 4.15604189e-2f;
        y = (y * t) + 8.43107402e-1f;
        y = (y * t) + 2.63896751f;
        y = (y * t) + 1.84960556f;
    }
    return midge_signed(1.0f - midge_exp(-y), x);
}

static inline float midge_trunc(float x)
{
    if (!(midge_fabs(x) < 8388608.0f)) {
        return x;
    }
    return midge_signed((float)(int32_t)x, x);
}

static inline float midge_floor(float x)
{
    const float t = midge_trunc(x);

    return (t > x) ? (t - 1.0f) : t;
}

static inline float midge_ceil(float x)
{
    const float t = midge_trunc(x);

    return (t < x) ? midge_signed(t + 1.0f, x) : t;
}

/* To the nearest integer, ties to even. */
static inline float midge_rint(float x)
{
    const float t = midge_trunc(x);
    const float rest = midge_fabs(x - t);
    const int odd = (midge_fabs(t) < 16777216.0f) && ((((int32_t)t) & 1) != 0);

    if ((rest > 0.5f) || ((rest == 0.5f) && odd)) {
        return t + midge_signed(1.0f, x);
    }
    return t;
}

/* The remainder of x / y with the quotient rounded towards zero, exact; the sign is that of x. */
static inline float midge_fmod(float x, float y)
{
    const uint32_t divisor = midge_float_bits(y) & 0x7FFFFFFFU;
    uint32_t rest = midge_float_bits(x) & 0x7FFFFFFFU;
    int32_t exponent;
    int32_t least;
    uint32_t m;

    if ((divisor == 0U) || (divisor > 0x7F800000U) || (rest >= 0x7F800000U)) {
        return midge_nan();
    }
    if (rest < divisor) {
        return x;
    }
    exponent = (rest >= 0x00800000U) ? (int32_t)(rest >> 23) : 1;
    least = (divisor >= 0x00800000U) ? (int32_t)(divisor >> 23) : 1;
    rest = (rest & 0x007FFFFFU) | ((rest >= 0x00800000U) ? 0x00800000U : 0U);
    m = (divisor & 0x007FFFFFU) | ((divisor >= 0x00800000U) ? 0x00800000U : 0U);
    rest %= m;
    for (; exponent > least; --exponent) {
        rest <<= 1;
        rest = (rest >= m) ? (rest - m) : rest;
    }
    while ((rest != 0U) && (rest < 0x00800000U) && (exponent > 1)) {
        rest <<= 1;
        --exponent;
    }
    rest = (rest < 0x00800000U) ? rest : (rest + ((uint32_t)(exponent - 1) << 23));
    return midge_signed(midge_bits_float(rest), x);
}

/* 2^p for p = high + low, |low| small. */
static inline float midge_exp2_sum(float high, float low)
{
    const float p = high + low;
    int32_t n;
    float r;
    float y;

    if (p >= 128.5f) {
        return midge_infinity();
    }
    if (p < -151.0f) {
        return 0.0f;
    }
    n = (int32_t)((p < 0.0f) ? (p - 0.5f) : (p + 0.5f));
    r = ((high - (float)n) + low) * 0.693147181f;
    y = 1.98412698e-4f;
    y = (y * r) + 1.38888889e-3f;
    y = (y * r) + 8.33333333e-3f;
    y = (y * r) + 4.16666667e-2f;
    y = (y * r) + 1.66666667e-1f;
    y = (y * r) + 0.5f;
    y = (((y * r) * r) + r) + 1.0f;
    return (y * midge_pow2(n / 2)) * midge_pow2(n - (n / 2));
}

/* |x|^y for finite |x| > 0 and |y| < 2^32: 2^(y log2 |x|), log2 and the product in two parts. */
static inline float midge_pow_positive(float x, float y)
{
    const float scale = 2.88539008f; /* 2 / ln 2 */
    const float scale_high = 2.884765625f;
    const float scale_low = 6.24456778e-4f;
    int32_t n;
    const float m = midge_split(x, &n);
    const float f = m - 1.0f;
    const float d = m + 1.0f;
    const float d_low = m - (d - 1.0f);
    const float d_upper = midge_upper(d);
    const float s = f / d;
    const float s_high = midge_upper(s);
    const float s_low =
        ((f - (s_high * d_upper)) - (s_high * ((d - d_upper) + d_low))) / d;
    const float z = s * s;
    float series = 0.0909090909f;
    float high;
    float low;
    float y_high;
    float log_high;

    series = (series * z) + 0.111111111f;
    series = (series * z) + 0.142857143f;
    series = (series * z) + 0.2f;
    series = (series * z) + 0.333333333f;
    low = (s_high * scale_low) + ((s_low + ((s * z) * series)) * scale);
    high = (float)n + (s_high * scale_high);
    low = low + (((float)n - high) + (s_high * scale_high));
    log_high = midge_upper(high + low);
    low = low + (high - log_high);
    y_high = midge_upper(y);
    return midge_exp2_sum(y_high * log_high, ((y - y_high) * log_high) + (y * low));
}

/* x^y as C's pow: 1 for y = 0 or x = 1; NaN for a negative x and a y that is no integer. */
static inline float midge_pow(float x, float y)
{
    const float a = midge_fabs(x);
    const float magnitude = midge_fabs(y);
    const int whole = (magnitude < 8388608.0f) ? (midge_trunc(y) == y) : (y == y);
    const int odd = whole && (magnitude < 16777216.0f) && ((((int32_t)y) & 1) != 0);
    float result;

    if ((x == 1.0f) || (y == 0.0f)) {
        return 1.0f;
    }
    if ((x != x) || (y != y)) {
        return midge_nan();
    }
    if ((a == 0.0f) || (a > 3.4028235e38f)) {
        result = ((a == 0.0f) == (y < 0.0f)) ? midge_infinity() : 0.0f;
    } else if (!(magnitude < 4294967296.0f)) {
        if (a == 1.0f) {
            return 1.0f;
        }
        result = ((a > 1.0f) == (y > 0.0f)) ? midge_infinity() : 0.0f;
    } else if ((x < 0.0f) && !whole) {
        return midge_nan();
    } else {
        result = midge_pow_positive(a, y);
    }
    return (odd && ((midge_float_bits(x) & 0x80000000U) != 0U)) ? -result : result;
}

static inline float midge_sinh(float x)
{
    const float a = midge_fabs(x);
    float y;

    if (a < 88.0f) {
        const float t = midge_expm1(a);
        y = 0.5f * (t + (t / (t + 1.0f)));
    } else {
        const float e = midge_exp(0.5f * a);
        y = (0.5f * e) * e;
    }
    return midge_signed(y, x);
}

static inline float midge_cosh(float x)
{
    const float a = midge_fabs(x);
    const float e = midge_exp((a < 88.0f) ? a : (0.5f * a));

    return (a < 88.0f) ? ((0.5f * e) + (0.5f / e)) : ((0.5f * e) * e);
}

static inline float midge_asinh(float x)
{
    const float a = midge_fabs(x);
    float y;

    if (a < 4096.0f) {
        const float z = a * a;
        y = midge_log1p(a + (z / (1.0f + midge_sqrt(z + 1.0f))));
    } else {
        y = midge_log(a) + 0.693147181f;
    }
    return (a == 0.0f) ? x : midge_signed(y, x);
}

static inline float midge_acosh(float x)
{
    const float t = x - 1.0f;

    if (x < 1.0f) {
        return midge_nan();
    }
    if (x > 4096.0f) {
        return midge_log(x) + 0.693147181f;
    }
    return midge_log1p(t + midge_sqrt((2.0f * t) + (t * t)));
}

static inline float midge_atanh(float x)
{
    const float a = midge_fabs(x);

    return midge_signed(0.5f * midge_log1p((2.0f * a) / (1.0f - a)), x);
}

#endif /* MIDGE_MATH_H */
