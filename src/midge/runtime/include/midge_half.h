/* SPDX-License-Identifier: MIT-0 */
/* midge_half.h - numbers of half precision, in which float models may keep their weights. */
#ifndef MIDGE_HALF_H
#define MIDGE_HALF_H

#include <stdint.h>

/* The value of the lower 16 bits of `bits` as an IEEE 754 binary16, exact, subnormal ones too.
 * There are no infinities and NaNs: their bits are numbers of 65536 and more. */
static inline float midge_half_value(int32_t bits)
{
    union {
        uint32_t bits;
        float value;
    } half;

    half.bits = ((uint32_t)bits & 0x7FFFU) << 13; /* the same digits, the exponent 112 too low */
    half.value *= 5192296858534827628530496329220096.0f; /* 2^112 */
    half.bits |= ((uint32_t)bits & 0x8000U) << 16;
    return half.value;
}

#endif /* MIDGE_HALF_H */
