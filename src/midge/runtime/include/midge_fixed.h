/* SPDX-License-Identifier: MIT-0 */
/* midge_fixed.h - fixed-point arithmetic, bit for bit that of TensorFlow Lite's reference kernels. */
#ifndef MIDGE_FIXED_H
#define MIDGE_FIXED_H

#include <stdint.h>

/* round(a * b / 2^31), ties towards +infinity. Not both may be INT32_MIN. */
static inline int32_t midge_high_mul(int32_t a, int32_t b)
{
    return (int32_t)((((int64_t)a * (int64_t)b) + ((int64_t)1 << 30)) >> 31);
}

/* round(x / 2^exponent), ties away from zero. Needs 0 <= exponent <= 31. */
static inline int32_t midge_round_shift(int32_t x, int32_t exponent)
{
    const int32_t mask = (int32_t)((UINT32_C(1) << exponent) - 1U);
    const int32_t threshold = (mask >> 1) + ((x < 0) ? 1 : 0);

    return (x >> exponent) + (((x & mask) > threshold) ? 1 : 0);
}

/* round(round(x * 2^left * multiplier / 2^31) / 2^right), where shift is left - right and one of
 * both is 0. Needs multiplier >= 0, -31 <= shift <= 30; the left shift wraps. */
static inline int32_t midge_requantize_twice(int32_t x, int32_t multiplier, int32_t shift)
{
    const int32_t left = (shift > 0) ? shift : 0;
    const int32_t right = (shift > 0) ? 0 : -shift;
    const int32_t shifted = (int32_t)((uint32_t)x << left);

    return midge_round_shift(midge_high_mul(shifted, multiplier), right);
}

/* round(x * multiplier / 2^(31 - shift)), ties towards +infinity. Needs -31 <= shift <= 30. */
static inline int32_t midge_requantize_once(int32_t x, int32_t multiplier, int32_t shift)
{
    const int64_t half = (int64_t)1 << (30 - shift);

    return (int32_t)((((int64_t)x * (int64_t)multiplier) + half) >> (31 - shift));
}

/* round(x * multiplier / 2^(15 - shift)), ties towards +infinity, for |x| < 2^47 and a multiplier
 * of 16 bits. Needs -31 <= shift <= 8. */
static inline int32_t midge_requantize_wide(int64_t x, int32_t multiplier, int32_t shift)
{
    const int64_t half = (int64_t)1 << (14 - shift);

    return (int32_t)(((x * (int64_t)multiplier) + half) >> (15 - shift));
}

/* x * 2^left * factor / 2^32, rounded down. x * 2^left must fit 32 bits. */
static inline int32_t midge_high_word(int32_t x, int32_t left, int32_t factor)
{
    const int32_t shifted = (int32_t)((uint32_t)x << left);

    return (int32_t)(((int64_t)shifted * (int64_t)factor) >> 32);
}

/* x, where it is negative plus `nudge`. The sum must fit; nudge is not INT32_MIN. */
static inline int32_t midge_nudged(int32_t x, int32_t nudge)
{
    return x - ((x >> 31) * nudge);
}

/* Zero bits above the highest set bit. Needs x > 0. */
static inline int32_t midge_leading_zeros(int32_t x)
{
    uint32_t rest = (uint32_t)x;
    int32_t zeros = 0;

    while ((rest & UINT32_C(0x80000000)) == 0U) {
        rest <<= 1;
        ++zeros;
    }
    return zeros;
}

/* x * 2^left, saturated to 32 bits. Needs 0 <= left <= 31. */
static inline int32_t midge_saturating_shift(int32_t x, int32_t left)
{
    const int64_t wide = (int64_t)x * ((int64_t)1 << left);
    const int64_t low = (wide < INT32_MIN) ? INT32_MIN : wide;

    return (int32_t)((low > INT32_MAX) ? INT32_MAX : low);
}

/* 1 / m in Q0.31, where x = m * 2^k and 1 <= m < 2: three Newton-Raphson steps. Needs x > 0. */
static inline int32_t midge_reciprocal(int32_t x)
{
    const uint32_t scaled = (uint32_t)x << midge_leading_zeros(x);
    const int32_t half = (int32_t)(scaled >> 1); /* m / 2 in Q0.31 */
    int32_t estimate = 1515870810 + midge_high_mul(half, -1010580540); /* 48/17 - 32/17 * m / 2 */

    for (int32_t i = 0; i < 3; ++i) {
        const int32_t error = (INT32_C(1) << 29) - midge_high_mul(half, estimate);
        estimate += midge_saturating_shift(midge_high_mul(estimate, error), 2);
    }
    return midge_saturating_shift(estimate, 1);
}

#endif /* MIDGE_FIXED_H */
