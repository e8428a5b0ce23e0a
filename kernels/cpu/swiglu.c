#include "kernels/cpu/simd.h"

extern sp_op_swiglu SP_CPU(swiglu);
extern sp_op_silu SP_CPU(silu);

typedef struct job {
    const float *x, *bias;
    size_t n_rows, width;
    float *y;
} job;

static inline sp_vec silu_of(sp_vec x)
{
    sp_vec below = sp_vec_exp(sp_vec_min(sp_vec_sub(sp_vec_set(0), x), sp_vec_set(87)));
    return sp_vec_div(x, sp_vec_add(sp_vec_set(1), below));
}

static void swiglu_work(void *arguments, int share, int n_shares)
{
    const job *j = arguments;
    size_t first, last, width = j->width;
    sp_pool_share(j->n_rows, 1, share, n_shares, &first, &last);
    for (size_t row = first; row < last; row++) {
        const float *gates = j->x + 2 * row * width, *ups = gates + width;
        for (size_t i = 0; i < width; i += SP_LANES) {
            size_t live = width - i < SP_LANES ? width - i : SP_LANES;
            sp_vec gate = sp_vec_load_n(gates + i, live), up = sp_vec_load_n(ups + i, live);
            sp_vec_store_n(j->y + row * width + i, sp_vec_mul(silu_of(gate), up), live);
        }
    }
}

static void silu_work(void *arguments, int share, int n_shares)
{
    const job *j = arguments;
    size_t first, last, width = j->width;
    sp_pool_share(j->n_rows, 1, share, n_shares, &first, &last);
    for (size_t row = first; row < last; row++) {
        for (size_t i = 0; i < width; i += SP_LANES) {
            size_t live = width - i < SP_LANES ? width - i : SP_LANES;
            sp_vec x = sp_vec_load_n(j->x + row * width + i, live);
            if (j->bias) x = sp_vec_add(x, sp_vec_load_n(j->bias + i, live));
            sp_vec_store_n(j->y + row * width + i, silu_of(x), live);
        }
    }
}

/* A few rows are done sooner than a thread wakes. */
static void share(sp_pool *pool, sp_pool_work *work, job *j)
{
    if (j->n_rows < 8) work(j, 0, 1);
    else sp_pool_run(pool, work, j);
}

void SP_CPU(swiglu)(sp_pool *pool, const float *x, size_t n_rows, size_t width, float *y)
{
    share(pool, swiglu_work, &(job){x, NULL, n_rows, width, y});
}

void SP_CPU(silu)(sp_pool *pool, const float *x, const float *bias, size_t n_rows, size_t width, float *y)
{
    share(pool, silu_work, &(job){x, bias, n_rows, width, y});
}
