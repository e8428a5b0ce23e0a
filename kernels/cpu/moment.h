#ifndef SP_MOMENT_H
#define SP_MOMENT_H
/* Sums over a row, for norms. One order for every row: lanes by index modulo SP_LANES, then the lanes together. */
#include "kernels/cpu/simd.h"

/* Sum of (x - shift)^power for power 1 or 2. */
static inline __attribute__((always_inline)) float sp_moment(const float *x, float shift, size_t width,
                                                             const int power)
{
    sp_vec total = sp_vec_set(0), centre = sp_vec_set(shift);
    size_t i = 0;
    for (; i + SP_LANES <= width; i += SP_LANES) {
        sp_vec v = sp_vec_sub(sp_vec_load(x + i), centre);
        total = power == 2 ? sp_vec_fma(v, v, total) : sp_vec_add(total, v);
    }
    if (i < width) {
        sp_vec v = sp_vec_keep_n(sp_vec_sub(sp_vec_load_n(x + i, width - i), centre), sp_vec_set(0), width - i);
        total = power == 2 ? sp_vec_fma(v, v, total) : sp_vec_add(total, v);
    }
    return sp_vec_sum(total);
}

#endif
