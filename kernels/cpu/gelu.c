/* gelu(x) = x Phi(x) = max(x, 0) - |x| erfc(|x| / sqrt 2) / 2, whose second term has no cancellation; and the tanh
 * form, which is x / (1 + e^(-2 c)). */
#include "kernels/cpu/simd.h"

extern sp_op_gelu SP_CPU(gelu);

/* Elements that are done sooner than a thread wakes, and the unit in which threads share more. */
enum { FEW = 8192, GRAIN = 1024 };

typedef struct job {
    float *x;
    size_t count;
    bool tanh_form;
} job;

/* erfc(z) / 2 for z >= 0 with a relative error below 1.2e-7 in exact arithmetic: t e^(-z^2 + p(t)) / 2 with
 * t = 1 / (1 + z / 2), by the Chebyshev fit of Press et al., Numerical Recipes, section 6.2. */
static inline sp_vec half_erfc(sp_vec z)
{
    static const float p[] = {-0.82215223f, 1.48851587f, -1.13520398f, 0.27886807f, -0.18628806f,
                              0.09678418f,  0.37409196f, 1.00002368f,  -1.26551223f};
    sp_vec t = sp_vec_div(sp_vec_set(1), sp_vec_fma(z, sp_vec_set(0.5f), sp_vec_set(1)));
    sp_vec sum = sp_vec_set(0.17087277f);
    for (size_t i = 0; i < sizeof p / sizeof *p; i++) sum = sp_vec_fma(sum, t, sp_vec_set(p[i]));
    sp_vec exponent = sp_vec_sub(sum, sp_vec_mul(z, z));
    return sp_vec_mul(sp_vec_mul(t, sp_vec_set(0.5f)), sp_vec_exp(exponent));
}

static inline sp_vec by_erf(sp_vec x)
{
    sp_vec zero = sp_vec_set(0), size = sp_vec_max(x, sp_vec_sub(zero, x));
    sp_vec tail = half_erfc(sp_vec_mul(size, sp_vec_set(0.70710678f)));
    return sp_vec_sub(sp_vec_max(x, zero), sp_vec_mul(size, tail));
}

static inline sp_vec by_tanh(sp_vec x)
{
    sp_vec cube = sp_vec_mul(sp_vec_mul(x, x), x);
    sp_vec twice = sp_vec_mul(sp_vec_set(-1.59576912f), sp_vec_fma(cube, sp_vec_set(0.044715f), x));
    sp_vec below = sp_vec_exp(sp_vec_min(twice, sp_vec_set(87)));
    return sp_vec_div(x, sp_vec_add(sp_vec_set(1), below));
}

static void work(void *arguments, int share, int n_shares)
{
    const job *j = arguments;
    size_t first, last;
    sp_pool_share(j->count, GRAIN, share, n_shares, &first, &last);
    for (size_t i = first; i < last; i += SP_LANES) {
        size_t live = last - i < SP_LANES ? last - i : SP_LANES;
        sp_vec x = sp_vec_load_n(j->x + i, live);
        sp_vec_store_n(j->x + i, j->tanh_form ? by_tanh(x) : by_erf(x), live);
    }
}

void SP_CPU(gelu)(sp_pool *pool, float *x, size_t count, bool tanh_form)
{
    job j = {x, count, tanh_form};
    if (count < FEW) work(&j, 0, 1);
    else sp_pool_run(pool, work, &j);
}
