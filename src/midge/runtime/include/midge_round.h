/* SPDX-License-Identifier: MIT-0 */
/* midge_round.h - float to integer, to nearest. */
#ifndef MIDGE_ROUND_H
#define MIDGE_ROUND_H

#include <stdint.h>

/* x to the nearest integer, ties away from zero, limited to -2^30..2^30. NaN gives -2^30. */
static inline int32_t midge_round_to_int(float x)
{
    int32_t whole;
    float rest;

    if (!(x > -1073741824.0f)) {
        return -1073741824;
    }
    if (x >= 1073741824.0f) {
        return 1073741824;
    }
    whole = (int32_t)x;
    rest = x - (float)whole; /* exact: it is a part of x's digits */
    if (rest >= 0.5f) {
        ++whole;
    }
    if (rest <= -0.5f) {
        --whole;
    }
    return whole;
}

/* x to the nearest integer, ties to even, limited to -2^30..2^30. NaN gives -2^30. */
static inline int32_t midge_round_even(float x)
{
    int32_t whole;
    float rest;

    if (!(x > -1073741824.0f)) {
        return -1073741824;
    }
    if (x >= 1073741824.0f) {
        return 1073741824;
    }
    whole = (int32_t)x;
    rest = x - (float)whole; /* exact */
    if ((rest > 0.5f) || ((rest == 0.5f) && ((whole & 1) != 0))) {
        ++whole;
    }
    if ((rest < -0.5f) || ((rest == -0.5f) && ((whole & 1) != 0))) {
        --whole;
    }
    return whole;
}

#endif /* MIDGE_ROUND_H */
