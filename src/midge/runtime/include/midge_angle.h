/* SPDX-License-Identifier: MIT-0 */
/* midge_angle.h - sine, cosine, tangent and their inverses, without <math.h>.
 *
 * Single precision throughout. Errors, over all finite arguments and without fused multiply-adds:
 * sin below 3 ulp, cos below 3 ulp, tan below 5 ulp, asin below 4 ulp, acos below 3 ulp,
 * atan below 3 ulp. NaN in, NaN out; NaN where the function has no value.
 */
#ifndef MIDGE_ANGLE_H
#define MIDGE_ANGLE_H

#include <stdint.h>

#include "midge_math.h"

/* |x| = q pi/2 + r modulo 2 pi, |r| <= pi/4, for any finite |x| >= 0.5: the product with the 96 bits
 * of 2/pi that matter (Payne and Hanek). Returns r, in *q the last two bits of q. */
static inline float midge_reduce_exactly(float x, uint32_t *q)
{
    static const uint32_t two_over_pi[8] = {
        0x00000000U, 0xA2F9836EU, 0x4E441529U, 0xFC2757D1U,
        0xF534DDC0U, 0xDB629599U, 0x3C439041U, 0xFE5163ABU,
    };
    const uint32_t bits = midge_float_bits(x) & 0x7FFFFFFFU;
    const uint64_t m = (bits & 0x007FFFFFU) | 0x00800000U;
    /* x = m 2^e; bits of 2/pi above 2^-(e - 2) make multiples of 2 pi. */
    const uint32_t first = (bits >> 23) + 30U - 150U;
    const uint32_t word = first / 32U;
    const uint32_t shift = first % 32U;
    uint64_t part[3];
    uint64_t turns;
    uint32_t i;

    for (i = 0U; i < 3U; ++i) {
        const uint64_t pair =
            ((uint64_t)two_over_pi[word + i] << 32) | two_over_pi[word + i + 1U];
        part[i] = (pair >> (32U - shift)) & 0xFFFFFFFFU;
    }
    turns = ((m * part[0]) << 32) + (m * part[1]) + ((m * part[2]) >> 32);
    *q = (uint32_t)((turns + ((uint64_t)1 << 61)) >> 62) & 3U;
    turns -= (uint64_t)*q << 62;
    if ((turns >> 63) != 0U) {
        return (float)(~turns + 1U) * -3.40612158e-19f;
    }
    return (float)turns * 3.40612158e-19f; /* pi/2 2^-62 */
}

/* As above for any finite |x|: in three steps where these are exact enough. */
static inline float midge_reduce(float x, uint32_t *q)
{
    const float a = midge_fabs(x);

    *q = 0U;
    if (a <= 0.785398163f) {
        return a;
    }
    if (a < 1000.0f) {
        const int32_t n = (int32_t)((a * 0.636619772f) + 0.5f);
        float r = a - ((float)n * 1.5703125f);

        r = r - ((float)n * 4.837512969970703e-4f);
        r = r - ((float)n * 7.549790126404332e-8f);
        *q = (uint32_t)n & 3U;
        if (midge_fabs(r) > 0.01f) {
            return r;
        }
    }
    return midge_reduce_exactly(a, q);
}

/* sin(r) for |r| <= pi/4. */
static inline float midge_sin_near(float r)
{
    const float z = r * r;
    float y = -1.95152854e-4f;

    y = (y * z) + 8.33216123e-3f;
    y = (y * z) - 1.66666552e-1f;
    return r + ((r * z) * y);
}

/* cos(r) for |r| <= pi/4. */
static inline float midge_cos_near(float r)
{
    const float z = r * r;
    float y = 2.44331532e-5f;

    y = (y * z) - 1.38873165e-3f;
    y = (y * z) + 4.16666456e-2f;
    return 1.0f - ((0.5f * z) - ((z * z) * y));
}

static inline float midge_sin(float x)
{
    uint32_t q;
    float r;
    float y;

    if (!(midge_fabs(x) < midge_infinity())) {
        return midge_nan();
    }
    r = midge_reduce(x, &q);
    y = ((q & 1U) != 0U) ? midge_cos_near(r) : midge_sin_near(r);
    return (((q & 2U) != 0U) != (x < 0.0f)) ? -y : y;
}

static inline float midge_cos(float x)
{
    uint32_t q;
    float r;
    float y;

    if (!(midge_fabs(x) < midge_infinity())) {
        return midge_nan();
    }
    r = midge_reduce(x, &q);
    y = ((q & 1U) != 0U) ? midge_sin_near(r) : midge_cos_near(r);
    return ((q == 1U) || (q == 2U)) ? -y : y;
}

static inline float midge_tan(float x)
{
    uint32_t q;
    float r;
    float y;

    if (!(midge_fabs(x) < midge_infinity())) {
        return midge_nan();
    }
    r = midge_reduce(x, &q);
    if ((q & 1U) != 0U) {
        y = -midge_cos_near(r) / midge_sin_near(r);
    } else {
        y = midge_sin_near(r) / midge_cos_near(r);
    }
    return (x < 0.0f) ? -y : y;
}

/* atan(x): from 0, pi/4 or pi/2 by at most pi/8, and the series there. */
static inline float midge_atan(float x)
{
    const float a = midge_fabs(x);
    float base = 0.0f;
    float t = a;
    float z;
    float y;

    if (x != x) {
        return x;
    }
    if (a > 2.41421356f) {
        base = 1.57079633f;
        t = -1.0f / a;
    } else if (a > 0.414213562f) {
        base = 0.785398163f;
        t = (a - 1.0f) / (a + 1.0f);
    }
    z = t * t;
    y = -6.07823804e-2f;
    y = (y * z) + 1.05938211e-1f;
    y = (y * z) - 1.42435342e-1f;
    y = (y * z) + 1.99984714e-1f;
    y = (y * z) - 3.33333164e-1f;
    return midge_signed(base + (t + ((t * z) * y)), x);
}

/* asin(x) for |x| <= 0.5. */
static inline float midge_asin_near(float x)
{
    const float z = x * x;
    float y = 4.21657190e-2f;

    y = (y * z) + 2.41798814e-2f;
    y = (y * z) + 4.54702973e-2f;
    y = (y * z) + 7.49529824e-2f;
    y = (y * z) + 1.66667521e-1f;
    return x + ((x * z) * y);
}

static inline float midge_asin(float x)
{
    const float a = midge_fabs(x);

    if (a <= 0.5f) {
        return midge_asin_near(x);
    }
    return midge_signed(
        1.57079633f - (2.0f * midge_asin_near(midge_sqrt(0.5f * (1.0f - a)))), x);
}

static inline float midge_acos(float x)
{
    float y;

    if (midge_fabs(x) <= 0.5f) {
        return (1.57079637f - (midge_asin_near(x) + 4.37113883e-8f));
    }
    y = 2.0f * midge_asin_near(midge_sqrt(0.5f * (1.0f - midge_fabs(x))));
    return (x < 0.0f) ? (3.14159274f - (y + 8.74227766e-8f)) : y;
}

#endif /* MIDGE_ANGLE_H */
