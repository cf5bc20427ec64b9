/* SPDX-License-Identifier: MIT-0 */
/* midge_integer.h - integer arithmetic that is defined for every argument. */
#ifndef MIDGE_INTEGER_H
#define MIDGE_INTEGER_H

#include <stdint.h>

/* a / b towards zero; 0 for b = 0; modulo 2^n for the one quotient that does not fit. */
static inline int32_t midge_div_i32(int32_t a, int32_t b)
{
    if (b == -1) {
        return (int32_t)(0U - (uint32_t)a);
    }
    return (b == 0) ? 0 : (a / b);
}

static inline int64_t midge_div_i64(int64_t a, int64_t b)
{
    if (b == -1) {
        return (int64_t)(0U - (uint64_t)a);
    }
    return (b == 0) ? 0 : (a / b);
}

/* a - b * (a / b towards zero), with the sign of a; 0 for b = 0. */
static inline int32_t midge_rem_i32(int32_t a, int32_t b)
{
    return ((b == 0) || (b == -1)) ? 0 : (a % b);
}

static inline int64_t midge_rem_i64(int64_t a, int64_t b)
{
    return ((b == 0) || (b == -1)) ? 0 : (a % b);
}

/* a - b * floor(a / b), with the sign of b; 0 for b = 0. */
static inline int32_t midge_mod_i32(int32_t a, int32_t b)
{
    const int32_t rest = midge_rem_i32(a, b);

    return ((rest != 0) && ((rest < 0) != (b < 0))) ? (rest + b) : rest;
}

static inline int64_t midge_mod_i64(int64_t a, int64_t b)
{
    const int64_t rest = midge_rem_i64(a, b);

    return ((rest != 0) && ((rest < 0) != (b < 0))) ? (rest + b) : rest;
}

/* a^b modulo 2^n; for b < 0 the power towards zero: 0 but for a = 1 and a = -1. */
static inline int64_t midge_pow_i64(int64_t a, int64_t b)
{
    uint64_t base = (uint64_t)a;
    uint64_t left = (uint64_t)b;
    uint64_t result = 1U;

    if (b < 0) {
        if ((a != 1) && (a != -1)) {
            return 0;
        }
        left &= 1U;
    }
    for (; left != 0U; left >>= 1) {
        if ((left & 1U) != 0U) {
            result *= base;
        }
        base *= base;
    }
    return (int64_t)result;
}

static inline int32_t midge_pow_i32(int32_t a, int32_t b)
{
    return (int32_t)(uint32_t)(uint64_t)midge_pow_i64(a, b);
}

/* a 2^b modulo 2^n; 0 for b outside of 0..n-1. */
static inline int32_t midge_shift_left_i32(int32_t a, int32_t b)
{
    return ((b < 0) || (b > 31)) ? 0 : (int32_t)((uint32_t)a << (uint32_t)b);
}

static inline int64_t midge_shift_left_i64(int64_t a, int64_t b)
{
    return ((b < 0) || (b > 63)) ? 0 : (int64_t)((uint64_t)a << (uint64_t)b);
}

/* a / 2^b, rounded down; 0 or -1, as a's sign, for b outside of 0..n-1. */
static inline int32_t midge_shift_right_i32(int32_t a, int32_t b)
{
    return a >> (((b < 0) || (b > 31)) ? 31 : b);
}

static inline int64_t midge_shift_right_i64(int64_t a, int64_t b)
{
    return a >> (((b < 0) || (b > 63)) ? 63 : b);
}

/* x towards zero, limited to the type; 0 for NaN. */
static inline int32_t midge_trunc_i32(float x)
{
    if (x >= 2147483648.0f) {
        return INT32_MAX;
    }
    if (x <= -2147483648.0f) {
        return INT32_MIN;
    }
    return (x != x) ? 0 : (int32_t)x;
}

static inline int64_t midge_trunc_i64(float x)
{
    if (x >= 9223372036854775808.0f) {
        return INT64_MAX;
    }
    if (x <= -9223372036854775808.0f) {
        return INT64_MIN;
    }
    return (x != x) ? 0 : (int64_t)x;
}

/* The bits of a float as an integer, and the other way round. */
static inline int32_t midge_bits_of(float x)
{
    union {
        float value;
        int32_t bits;
    } word;

    word.value = x;
    return word.bits;
}

static inline float midge_float_of(int32_t x)
{
    union {
        int32_t bits;
        float value;
    } word;

    word.bits = x;
    return word.value;
}

/* x modulo 2^n as a narrower integer. */
static inline int32_t midge_wrap_i8(int32_t x)
{
    return (int32_t)((uint32_t)(x & 0xFF) ^ 0x80U) - 0x80;
}

static inline int32_t midge_wrap_i16(int32_t x)
{
    return (int32_t)((uint32_t)(x & 0xFFFF) ^ 0x8000U) - 0x8000;
}

static inline int32_t midge_wrap_i32(int64_t x)
{
    return (int32_t)(uint32_t)(uint64_t)x;
}

#endif /* MIDGE_INTEGER_H */
