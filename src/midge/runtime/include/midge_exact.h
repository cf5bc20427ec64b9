/* SPDX-License-Identifier: MIT-0 */
/* midge_exact.h - floats that become integers round as written: products and sums apart.
 *
 * Comes before all other code. A compiler that fuses a product and a sum rounds once instead of
 * twice, which can be a step of an integer; GCC does so in its GNU modes, also across statements.
 */
#ifndef MIDGE_EXACT_H
#define MIDGE_EXACT_H

#if defined(__FAST_MATH__)
#error "this model's floats become integers: build it without -ffast-math and -Ofast"
#endif
#if defined(__FLT_EVAL_METHOD__) && ((__FLT_EVAL_METHOD__ == 1) || (__FLT_EVAL_METHOD__ == 2))
#error "this model's floats become integers: build it without excess precision (-mfpmath=sse)"
#endif

#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC optimize("fp-contract=off")
#elif defined(_MSC_VER) && !defined(__clang__)
#pragma fp_contract(off)
#else
#pragma STDC FP_CONTRACT OFF
#endif

#endif /* MIDGE_EXACT_H */
