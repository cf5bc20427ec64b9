/* SPDX-License-Identifier: MIT-0 */
/* midge_float.h - the transcendental functions of float models, without <math.h>.
 *
 * Single precision throughout. Errors, over all finite arguments and without fused multiply-adds:
 * exp below 2 ulp, tanh below 3 ulp, logistic below 4 ulp. NaN in, NaN out.
 */
#ifndef MIDGE_FLOAT_H
#define MIDGE_FLOAT_H

#include <stdint.h>

/* 2^n for -126 <= n <= 127. */
static inline float midge_pow2(int32_t n)
{
    union {
        uint32_t bits;
        float value;
    } power;

    power.bits = (uint32_t)(n + 127) << 23;
    return power.value;
}

/* exp(x): x = n ln 2 + r with |r| <= ln 2 / 2, Taylor series of degree 7 in r (error 6e-9). */
static inline float midge_exp(float x)
{
    const float scaled = x * 1.44269504f;
    int32_t n;
    float r;
    float y;

    if (x > 88.8f) {
        return midge_pow2(127) * 2.0f; /* +infinity */
    }
    if (x < -104.0f) {
        return 0.0f;
    }
    if (x != x) {
        return x;
    }
    n = (int32_t)((scaled < 0.0f) ? (scaled - 0.5f) : (scaled + 0.5f));
    r = x - ((float)n * 0.693359375f); /* exact: 9 bits times at most 8 */
    r = r + ((float)n * 2.12194440e-4f);
    y = 1.98412698e-4f;
    y = (y * r) + 1.38888889e-3f;
    y = (y * r) + 8.33333333e-3f;
    y = (y * r) + 4.16666667e-2f;
    y = (y * r) + 1.66666667e-1f;
    y = (y * r) + 0.5f;
    y = (((y * r) * r) + r) + 1.0f;
    /* In two factors: the first keeps the second inside the normal range. */
    return (y * midge_pow2(n / 2)) * midge_pow2(n - (n / 2));
}

/* tanh(x): a rational approximation (Pade, 7 over 6) near 0, else from the exponential. */
static inline float midge_tanh(float x)
{
    const float a = (x < 0.0f) ? -x : x;
    float y;

    if (a < 0.625f) {
        const float s = a * a;
        const float p = ((((s + 378.0f) * s) + 17325.0f) * s) + 135135.0f;
        const float q = ((((28.0f * s) + 3150.0f) * s) + 62370.0f) * s + 135135.0f;
        y = (a * p) / q;
    } else {
        y = 1.0f - (2.0f / (midge_exp(2.0f * a) + 1.0f));
    }
    return (x < 0.0f) ? -y : y;
}

/* 1 / (1 + exp(-x)), without overflow. */
static inline float midge_logistic(float x)
{
    const float e = midge_exp((x < 0.0f) ? x : -x);

    return ((x < 0.0f) ? e : 1.0f) / (1.0f + e);
}

#endif /* MIDGE_FLOAT_H */
