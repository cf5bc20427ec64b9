/* SPDX-License-Identifier: MIT-0 */
/* midge_minmax.h - the smaller and the larger of two values. */
#ifndef MIDGE_MINMAX_H
#define MIDGE_MINMAX_H

#include <stdint.h>

static inline int32_t midge_min_i32(int32_t a, int32_t b)
{
    return (a < b) ? a : b;
}

static inline int32_t midge_max_i32(int32_t a, int32_t b)
{
    return (a > b) ? a : b;
}

static inline int64_t midge_min_i64(int64_t a, int64_t b)
{
    return (a < b) ? a : b;
}

static inline int64_t midge_max_i64(int64_t a, int64_t b)
{
    return (a > b) ? a : b;
}

/* A NaN in `a` stays, one in `b` is not seen. */
static inline float midge_min_f32(float a, float b)
{
    return (b < a) ? b : a;
}

static inline float midge_max_f32(float a, float b)
{
    return (b > a) ? b : a;
}

#endif /* MIDGE_MINMAX_H */
