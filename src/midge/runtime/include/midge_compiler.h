/* SPDX-License-Identifier: MIT-0 */
/* midge_compiler.h - what generated code asks of the compiler. */
#ifndef MIDGE_COMPILER_H
#define MIDGE_COMPILER_H

#include <limits.h>
#include <stdint.h>

#if CHAR_BIT != 8
#error "Midge needs bytes of 8 bits"
#endif

#if (INT_MAX < 0x7FFFFFFF) && !defined(MIDGE_INT_16_BIT)
#error "int has 16 bits here: compile the model for a target that says so (feature int-16-bit)"
#endif

#if (defined(__BYTE_ORDER__) && (__BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__)) || \
    (defined(__LITTLE_ENDIAN__) && (__LITTLE_ENDIAN__ == 0)) || defined(__BIG_ENDIAN__) || \
    defined(__ARM_BIG_ENDIAN) || defined(__ARMEB__) || defined(__THUMBEB__)
#error "Midge needs a little-endian CPU: constants are read as words"
#endif

/* Kernels made for the instructions of one CPU are plain C elsewhere: right, but slow. A computer
 * takes that, to test them; on a microcontroller whoever wants it defines MIDGE_ANY_CPU. */
#if !defined(MIDGE_ANY_CPU) && \
    (defined(__x86_64__) || defined(__i386__) || defined(__aarch64__) || defined(__linux__) || \
     defined(__APPLE__) || defined(_WIN32))
#define MIDGE_ANY_CPU
#endif

/* MIDGE_ALIGNED comes first in a declaration: both languages take it there. */
#ifdef __cplusplus
#define MIDGE_ASSERT(condition, text) static_assert(condition, text)
#define MIDGE_ALIGNED(bytes) alignas(bytes)
#else
#define MIDGE_ASSERT(condition, text) _Static_assert(condition, text)
#define MIDGE_ALIGNED(bytes) _Alignas(bytes)
#endif

MIDGE_ASSERT((-1 >> 1) == -1, "Midge needs an arithmetic right shift");
MIDGE_ASSERT(sizeof(float) == 4U, "Midge needs 32-bit floats");

/* A kernel stays a function of its own, so that profiles and stack reports name it, and does what
   it is written to do: GCC may else leave one out whose result another one does not need. */
#if defined(__GNUC__) && !defined(__clang__) && (__GNUC__ >= 8)
#define MIDGE_KERNEL __attribute__((noipa))
#elif defined(__GNUC__)
#define MIDGE_KERNEL __attribute__((noinline, used))
#else
#define MIDGE_KERNEL
#endif

/* Whether assembler with the DSP instructions of Armv7E-M (Thumb-2) can be used. */
#if defined(__GNUC__) && defined(__thumb2__) && defined(__ARM_FEATURE_DSP)
#define MIDGE_ARM_DSP_ASM 1
#else
#define MIDGE_ARM_DSP_ASM 0
#endif

#endif /* MIDGE_COMPILER_H */
