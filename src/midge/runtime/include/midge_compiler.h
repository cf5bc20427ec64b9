/* midge_compiler.h - what generated code asks of the compiler. */
#ifndef MIDGE_COMPILER_H
#define MIDGE_COMPILER_H

#include <stdint.h>

#ifdef __cplusplus
#define MIDGE_ASSERT(condition, text) static_assert(condition, text)
#else
#define MIDGE_ASSERT(condition, text) _Static_assert(condition, text)
#endif

MIDGE_ASSERT((-1 >> 1) == -1, "Midge needs an arithmetic right shift");
MIDGE_ASSERT(sizeof(float) == 4U, "Midge needs 32-bit floats");

/* A kernel stays a function of its own, so that profiles and stack reports name it. */
#if defined(__GNUC__)
#define MIDGE_KERNEL __attribute__((noinline))
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
