/* SPDX-License-Identifier: MIT-0 */
/* midge_fixed_log.h - the logarithm of fixed-point values, as the reference kernels compute it. */
#ifndef MIDGE_FIXED_LOG_H
#define MIDGE_FIXED_LOG_H

#include <stdint.h>

#include "midge_fixed.h"

/* log(x) in Q5.26 for x in Q12.19, x >= 1.
 *
 * x = r 2^n with r around 1 in one of two ways, with and without a factor sqrt(1/2); the way with
 * the smaller r has the smaller error. Then a rational function of r around the fourth root of 1/2.
 */
static inline int32_t midge_log_q12(int32_t x)
{
    const int32_t log_2 = 1488522236;
    const int32_t fourth_root = 1805811301;
    const int32_t square_root = 1518500250;
    const int32_t zeros_a = midge_leading_zeros(x);
    const int32_t halved = midge_high_mul(x, square_root);
    const int32_t zeros_b = midge_leading_zeros(halved) - 1;
    const int32_t r_a = midge_saturating_shift(
        midge_high_mul(midge_saturating_shift(x, zeros_a - 1), square_root), 1);
    const int32_t r_b = midge_saturating_shift(x, zeros_b);
    const int32_t power_a = ((12 - zeros_a) * (INT32_C(1) << 25)) + (INT32_C(1) << 23);
    const int32_t power_b = ((12 - zeros_b) * (INT32_C(1) << 25)) - (INT32_C(1) << 23);
    const int32_t power = (power_a > power_b) ? power_a : power_b;
    const int32_t r = (r_a < r_b) ? r_a : r_b;
    const int32_t p = (int32_t)(((int64_t)r + fourth_root + 1) / 2);
    const int32_t q = (r - fourth_root) * 2;
    const int32_t square = midge_high_mul(q, q);
    const int32_t above = midge_high_mul(q, r) + midge_high_mul(midge_high_mul(q, square), 117049297);
    const int32_t below =
        midge_high_mul(p, 1057819769 + q + midge_high_mul(127690142, square)) +
        midge_high_mul(638450708, q);
    const int32_t inverse = midge_reciprocal((int32_t)(((int64_t)below + (INT64_C(1) << 31)) / 2));

    return midge_saturating_shift(
        midge_high_mul(power, log_2) + midge_high_mul(midge_round_shift(above, 6), inverse), 1);
}

#endif /* MIDGE_FIXED_LOG_H */
