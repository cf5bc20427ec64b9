/* SPDX-License-Identifier: MIT-0 */
/* midge_dsp.h - words of Arm's DSP extension, and the same in C for other cores. Words of two
 * halves or four bytes are int32_t; sums are taken modulo 2^32 (smlald: 2^64). */
#ifndef MIDGE_DSP_H
#define MIDGE_DSP_H

#include <stdint.h>
#include <string.h>

#include "midge_compiler.h"

/* The lower and the upper half of a word, with their signs. */
static inline int32_t midge_low_half(int32_t x)
{
    return (int32_t)(int16_t)(uint16_t)((uint32_t)x & 0xFFFFU);
}

static inline int32_t midge_high_half(int32_t x)
{
    return x >> 16;
}

static inline int32_t midge_halves(int32_t low, int32_t high)
{
    return (int32_t)(((uint32_t)high << 16) | ((uint32_t)low & 0xFFFFU));
}

static inline int32_t midge_byte(int32_t x, int32_t shift)
{
    return (int32_t)(int8_t)(uint8_t)(((uint32_t)x >> shift) & 0xFFU);
}

/* Sums that wrap, as the instructions' do. */
static inline int32_t midge_wrapping_add(int32_t a, int32_t b)
{
    return (int32_t)((uint32_t)a + (uint32_t)b);
}

/* acc + x.low * y.low + x.high * y.high */
static inline int32_t midge_smlad(int32_t x, int32_t y, int32_t acc)
{
#if MIDGE_ARM_DSP_ASM
    int32_t result;

    __asm__("smlad %0, %1, %2, %3" : "=r"(result) : "r"(x), "r"(y), "r"(acc));
    return result;
#else
    const int32_t low = midge_low_half(x) * midge_low_half(y);
    const int32_t high = midge_high_half(x) * midge_high_half(y);

    return midge_wrapping_add(acc, midge_wrapping_add(low, high));
#endif
}

/* acc + x.low * y.low */
static inline int32_t midge_smlabb(int32_t x, int32_t y, int32_t acc)
{
#if MIDGE_ARM_DSP_ASM
    int32_t result;

    __asm__("smlabb %0, %1, %2, %3" : "=r"(result) : "r"(x), "r"(y), "r"(acc));
    return result;
#else
    return midge_wrapping_add(acc, midge_low_half(x) * midge_low_half(y));
#endif
}

/* acc + x.low * y.high */
static inline int32_t midge_smlabt(int32_t x, int32_t y, int32_t acc)
{
#if MIDGE_ARM_DSP_ASM
    int32_t result;

    __asm__("smlabt %0, %1, %2, %3" : "=r"(result) : "r"(x), "r"(y), "r"(acc));
    return result;
#else
    return midge_wrapping_add(acc, midge_low_half(x) * midge_high_half(y));
#endif
}

/* acc + x.high * y.low */
static inline int32_t midge_smlatb(int32_t x, int32_t y, int32_t acc)
{
#if MIDGE_ARM_DSP_ASM
    int32_t result;

    __asm__("smlatb %0, %1, %2, %3" : "=r"(result) : "r"(x), "r"(y), "r"(acc));
    return result;
#else
    return midge_wrapping_add(acc, midge_high_half(x) * midge_low_half(y));
#endif
}

/* acc + x.high * y.high */
static inline int32_t midge_smlatt(int32_t x, int32_t y, int32_t acc)
{
#if MIDGE_ARM_DSP_ASM
    int32_t result;

    __asm__("smlatt %0, %1, %2, %3" : "=r"(result) : "r"(x), "r"(y), "r"(acc));
    return result;
#else
    return midge_wrapping_add(acc, midge_high_half(x) * midge_high_half(y));
#endif
}

/* Bytes 0 and 2 as halves, with their signs. */
static inline int32_t midge_sxtb16(int32_t x)
{
#if MIDGE_ARM_DSP_ASM
    int32_t result;

    __asm__("sxtb16 %0, %1" : "=r"(result) : "r"(x));
    return result;
#else
    return midge_halves(midge_byte(x, 0), midge_byte(x, 16));
#endif
}

/* Bytes 1 and 3 as halves, with their signs. */
static inline int32_t midge_sxtb16_ror8(int32_t x)
{
#if MIDGE_ARM_DSP_ASM
    int32_t result;

    __asm__("sxtb16 %0, %1, ror #8" : "=r"(result) : "r"(x));
    return result;
#else
    return midge_halves(midge_byte(x, 8), midge_byte(x, 24));
#endif
}

/* The lower halves: x's below, y's above. */
static inline int32_t midge_pkhbt(int32_t x, int32_t y)
{
#if MIDGE_ARM_DSP_ASM
    int32_t result;

    __asm__("pkhbt %0, %1, %2, lsl #16" : "=r"(result) : "r"(x), "r"(y));
    return result;
#else
    return midge_halves(x, y);
#endif
}

/* The upper halves: y's below, x's above. */
static inline int32_t midge_pkhtb(int32_t x, int32_t y)
{
#if MIDGE_ARM_DSP_ASM
    int32_t result;

    __asm__("pkhtb %0, %1, %2, asr #16" : "=r"(result) : "r"(x), "r"(y));
    return result;
#else
    return midge_halves(midge_high_half(y), midge_high_half(x));
#endif
}

/* The upper word of the product, rounded down. */
static inline int32_t midge_smmul(int32_t x, int32_t y)
{
#if MIDGE_ARM_DSP_ASM
    int32_t result;

    __asm__("smmul %0, %1, %2" : "=r"(result) : "r"(x), "r"(y));
    return result;
#else
    return (int32_t)(((int64_t)x * (int64_t)y) >> 32);
#endif
}

/* The upper word of the product, rounded to nearest, ties towards +infinity. */
static inline int32_t midge_smmulr(int32_t x, int32_t y)
{
#if MIDGE_ARM_DSP_ASM
    int32_t result;

    __asm__("smmulr %0, %1, %2" : "=r"(result) : "r"(x), "r"(y));
    return result;
#else
    return (int32_t)((((int64_t)x * (int64_t)y) + ((int64_t)1 << 31)) >> 32);
#endif
}

/* x limited to -128..127. */
static inline int32_t midge_ssat8(int32_t x)
{
#if MIDGE_ARM_DSP_ASM
    int32_t result;

    __asm__("ssat %0, #8, %1" : "=r"(result) : "r"(x) : "cc");
    return result;
#else
    return (x < -128) ? -128 : ((x > 127) ? 127 : x);
#endif
}

/* x limited to -32768..32767. */
static inline int32_t midge_ssat16(int32_t x)
{
#if MIDGE_ARM_DSP_ASM
    int32_t result;

    __asm__("ssat %0, #16, %1" : "=r"(result) : "r"(x) : "cc");
    return result;
#else
    return (x < -32768) ? -32768 : ((x > 32767) ? 32767 : x);
#endif
}

/* acc + x.low * y.low + x.high * y.high in 64 bits. */
static inline int64_t midge_smlald(int64_t acc, int32_t x, int32_t y)
{
#if MIDGE_ARM_DSP_ASM
    uint32_t low = (uint32_t)(uint64_t)acc;
    uint32_t high = (uint32_t)((uint64_t)acc >> 32);

    __asm__("smlald %0, %1, %2, %3" : "+r"(low), "+r"(high) : "r"(x), "r"(y));
    return (int64_t)(((uint64_t)high << 32) | low);
#else
    const int64_t first = (int64_t)midge_low_half(x) * (int64_t)midge_low_half(y);
    const int64_t second = (int64_t)midge_high_half(x) * (int64_t)midge_high_half(y);

    return (int64_t)((uint64_t)acc + (uint64_t)first + (uint64_t)second);
#endif
}

/* Four bytes, or two halves, at any address as a word (little-endian cores). */
static inline void midge_load_bytes(const int8_t *x, int32_t *word)
{
    (void)memcpy(word, x, sizeof(*word));
}

static inline void midge_load_halves(const int16_t *x, int32_t *word)
{
    (void)memcpy(word, x, sizeof(*word));
}

#endif /* MIDGE_DSP_H */
