#include "kernels/cpu/simd.h"

extern sp_op_swiglu SP_CPU(swiglu);

void SP_CPU(swiglu)(sp_pool *pool, const float *x, size_t n_rows, size_t width, float *y)
{
    (void)pool;
    sp_vec one = sp_vec_set(1), zero = sp_vec_set(0), high = sp_vec_set(87);
    for (size_t row = 0; row < n_rows; row++) {
        const float *gates = x + 2 * row * width, *ups = gates + width;
        for (size_t i = 0; i < width; i += SP_LANES) {
            size_t live = width - i < SP_LANES ? width - i : SP_LANES;
            sp_vec gate = sp_vec_load_n(gates + i, live), up = sp_vec_load_n(ups + i, live);
            sp_vec below = sp_vec_exp(sp_vec_min(sp_vec_sub(zero, gate), high));
            sp_vec_store_n(y + row * width + i, sp_vec_mul(sp_vec_div(gate, sp_vec_add(one, below)), up), live);
        }
    }
}
