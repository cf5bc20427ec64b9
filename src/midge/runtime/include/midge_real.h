/* SPDX-License-Identifier: MIT-0 */
/* midge_real.h - the product of an integer and a binary64 number, rounded, in integers only. */
#ifndef MIDGE_REAL_H
#define MIDGE_REAL_H

#include <stdint.h>

/* Bits up to the highest one that is set; 0 for 0. */
static inline int32_t midge_bit_length(uint64_t x)
{
    int32_t bits = 0;

    for (int32_t step = 32; step > 0; step /= 2) {
        if ((x >> step) != 0U) {
            x >>= step;
            bits += step;
        }
    }
    return bits + ((x != 0U) ? 1 : 0);
}

/* round((double)x * real), ties away from zero, limited to -2^30..2^30, where
 * real = (high * 2^27 + low) * 2^-shift; bit for bit as binary64 arithmetic gives it.
 * Needs |x| < 2^53, 0 <= high < 2^26, 0 <= low < 2^27, 1 <= shift <= 120. */
static inline int32_t midge_requantize_real(int64_t x, int32_t high, int32_t low, int32_t shift)
{
    const uint64_t half_word = UINT32_MAX;
    const uint64_t a = (x < 0) ? (UINT64_C(0) - (uint64_t)x) : (uint64_t)x;
    const uint64_t m = ((uint64_t)(uint32_t)high << 27) | (uint64_t)(uint32_t)low;
    const uint64_t cross = (a >> 32) * (m & half_word);
    const uint64_t other = (a & half_word) * (m >> 32);
    const uint64_t bottom = (a & half_word) * (m & half_word);
    const uint64_t middle = (bottom >> 32) + (cross & half_word) + (other & half_word);
    uint64_t top = ((a >> 32) * (m >> 32)) + (cross >> 32) + (other >> 32) + (middle >> 32);
    uint64_t rest = (bottom & half_word) | (middle << 32);
    const int32_t bits = (top != 0U) ? (64 + midge_bit_length(top)) : midge_bit_length(rest);
    uint64_t quotient;

    /* The product has at most 106 bits, a double 53: one that its rounding would lift to a tie is
     * lifted by half of its last place. Then half of the result's last place is added. */
    for (int32_t i = 0; i < 2; ++i) {
        const int32_t place = (i == 0) ? (bits - 54) : (shift - 1);

        if (place >= 64) {
            top += UINT64_C(1) << (place - 64);
        } else if (place >= 0) {
            const uint64_t one = UINT64_C(1) << place;

            rest += one;
            top += (rest < one) ? 1U : 0U;
        } else {
            /* the product is exact */
        }
    }
    if (shift >= 64) {
        quotient = top >> (shift - 64);
    } else {
        quotient = ((top >> shift) != 0U) ? UINT64_MAX : ((top << (64 - shift)) | (rest >> shift));
    }
    quotient = (quotient < UINT64_C(0x40000000)) ? quotient : UINT64_C(0x40000000);
    return (x < 0) ? -(int32_t)quotient : (int32_t)quotient;
}

#endif /* MIDGE_REAL_H */
