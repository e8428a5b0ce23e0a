#include "kernels/cpu/simd.h"

extern sp_op_swiglu SP_CPU(swiglu);

typedef struct job {
    const float *x;
    size_t n_rows, width;
    float *y;
} job;

static void work(void *arguments, int share, int n_shares)
{
    const job *j = arguments;
    size_t first, last, width = j->width;
    sp_vec one = sp_vec_set(1), zero = sp_vec_set(0), high = sp_vec_set(87);
    sp_pool_share(j->n_rows, 1, share, n_shares, &first, &last);
    for (size_t row = first; row < last; row++) {
        const float *gates = j->x + 2 * row * width, *ups = gates + width;
        for (size_t i = 0; i < width; i += SP_LANES) {
            size_t live = width - i < SP_LANES ? width - i : SP_LANES;
            sp_vec gate = sp_vec_load_n(gates + i, live), up = sp_vec_load_n(ups + i, live);
            sp_vec below = sp_vec_exp(sp_vec_min(sp_vec_sub(zero, gate), high));
            sp_vec_store_n(j->y + row * width + i, sp_vec_mul(sp_vec_div(gate, sp_vec_add(one, below)), up), live);
        }
    }
}

void SP_CPU(swiglu)(sp_pool *pool, const float *x, size_t n_rows, size_t width, float *y)
{
    job j = {x, n_rows, width, y};
    /* A few rows are done sooner than a thread wakes. */
    if (n_rows < 8) work(&j, 0, 1);
    else sp_pool_run(pool, work, &j);
}
