/* Adaptive layer norms. One row is one order of sums, as in norms.c. */
#include "kernels/cpu/moment.h"

#include <math.h>

extern sp_op_modulate SP_CPU(modulate);
extern sp_op_gate_add SP_CPU(gate_add);

void SP_CPU(modulate)(sp_pool *pool, const float *x, const float *gain, const float *bias, float eps,
                      const float *scale, const float *shift, size_t stride, size_t n_rows, size_t width, float *y)
{
    (void)pool;
    sp_vec one = sp_vec_set(1);
    for (size_t row = 0; row < n_rows; row++, x += width, y += width, scale += stride, shift += stride) {
        float mean = sp_moment(x, 0, width, 1) / (float)width;
        sp_vec centre = sp_vec_set(mean);
        sp_vec factor = sp_vec_set(1.0f / sqrtf(sp_moment(x, mean, width, 2) / (float)width + eps));
        for (size_t i = 0; i < width; i += SP_LANES) {
            size_t live = width - i < SP_LANES ? width - i : SP_LANES;
            sp_vec u = sp_vec_mul(sp_vec_sub(sp_vec_load_n(x + i, live), centre), factor);
            if (gain) u = sp_vec_fma(u, sp_vec_load_n(gain + i, live), sp_vec_load_n(bias + i, live));
            sp_vec by = sp_vec_add(one, sp_vec_load_n(scale + i, live));
            sp_vec_store_n(y + i, sp_vec_fma(u, by, sp_vec_load_n(shift + i, live)), live);
        }
    }
}

void SP_CPU(gate_add)(sp_pool *pool, const float *x, const float *gate, size_t stride, size_t n_rows, size_t width,
                      float *y)
{
    (void)pool;
    for (size_t row = 0; row < n_rows; row++, x += width, y += width, gate += stride) {
        for (size_t i = 0; i < width; i += SP_LANES) {
            size_t live = width - i < SP_LANES ? width - i : SP_LANES;
            sp_vec by = sp_vec_load_n(gate + i, live), sum = sp_vec_load_n(y + i, live);
            sp_vec_store_n(y + i, sp_vec_fma(by, sp_vec_load_n(x + i, live), sum), live);
        }
    }
}
