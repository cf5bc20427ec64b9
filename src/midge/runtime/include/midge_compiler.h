/* midge_compiler.h - what generated code asks of the compiler. */
#ifndef MIDGE_COMPILER_H
#define MIDGE_COMPILER_H

#include <stdint.h>

_Static_assert((-1 >> 1) == -1, "Midge needs an arithmetic right shift");
_Static_assert(sizeof(float) == 4U, "Midge needs 32-bit floats");

/* A kernel stays a function of its own, so that profiles and stack reports name it. */
#if defined(__GNUC__)
#define MIDGE_KERNEL __attribute__((noinline))
#else
#define MIDGE_KERNEL
#endif

#endif /* MIDGE_COMPILER_H */
