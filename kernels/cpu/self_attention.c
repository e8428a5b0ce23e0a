/* out = softmax(scale q k^T) v, one head: 4 n^2 width flops, bounded by the multiply-add ports.
 *
 * GROUP queries at a time, so that every key and value is read once for them: scores as dot products along the head,
 * GROUP x GROUP accumulators, then the values weighed in GROUP x 2 vectors. Only GROUP rows of scores exist at once.
 * Threads take whole groups. */
#include "kernels/cpu/simd.h"

#include <math.h>

#include "base/size.h"

extern sp_op_self_attention SP_CPU(self_attention);
extern sp_op_self_attention_scratch SP_CPU(self_attention_scratch);

enum { GROUP = SP_LANES == 16 ? 4 : 3 };

typedef struct job {
    const float *q, *k, *v;
    size_t n, width;
    float scale;
    float *out, *scores; /* scores [threads, GROUP, n to 16] */
} job;

size_t SP_CPU(self_attention_scratch)(size_t n, size_t width, int n_threads)
{
    (void)width;
    return (size_t)n_threads * GROUP * sp_round_up(n, 16) * sizeof(float);
}

/* Queries row .. row + GROUP - 1 by as many keys from key; rows past the last stand for the last. */
static void score(const job *j, size_t row, size_t key, float *scores)
{
    const float *q[GROUP], *k[GROUP];
    sp_vec sum[GROUP][GROUP];
    for (size_t r = 0; r < GROUP; r++) {
        q[r] = j->q + (row + r < j->n ? row + r : j->n - 1) * j->width;
        k[r] = j->k + (key + r < j->n ? key + r : j->n - 1) * j->width;
        for (size_t c = 0; c < GROUP; c++) sum[r][c] = sp_vec_set(0);
    }
    size_t i = 0;
    for (; i + SP_LANES <= j->width; i += SP_LANES) {
        sp_vec keys[GROUP];
        for (size_t c = 0; c < GROUP; c++) keys[c] = sp_vec_load(k[c] + i);
        for (size_t r = 0; r < GROUP; r++) {
            sp_vec query = sp_vec_load(q[r] + i);
            for (size_t c = 0; c < GROUP; c++) sum[r][c] = sp_vec_fma(query, keys[c], sum[r][c]);
        }
    }
    if (i < j->width) {
        sp_vec keys[GROUP];
        for (size_t c = 0; c < GROUP; c++) keys[c] = sp_vec_load_n(k[c] + i, j->width - i);
        for (size_t r = 0; r < GROUP; r++) {
            sp_vec query = sp_vec_load_n(q[r] + i, j->width - i);
            for (size_t c = 0; c < GROUP; c++) sum[r][c] = sp_vec_fma(query, keys[c], sum[r][c]);
        }
    }
    size_t stride = sp_round_up(j->n, 16);
    for (size_t r = 0; r < GROUP; r++)
        for (size_t c = 0; c < GROUP && key + c < j->n; c++)
            scores[r * stride + key + c] = sp_vec_sum(sum[r][c]) * j->scale;
}

/* Scores become e^(score - max), zero up to a multiple of 16. Returns 1 / sum. */
static float normalise(float *scores, size_t n)
{
    size_t end = sp_round_up(n, 16);
    for (size_t i = n; i < end; i++) scores[i] = -INFINITY;
    sp_vec top = sp_vec_set(-INFINITY), sum = sp_vec_set(0);
    for (size_t i = 0; i < end; i += SP_LANES) top = sp_vec_max(top, sp_vec_load(scores + i));
    sp_vec shift = sp_vec_set(sp_vec_top(top));
    for (size_t i = 0; i < end; i += SP_LANES) {
        sp_vec weight = sp_vec_exp(sp_vec_sub(sp_vec_load(scores + i), shift));
        sp_vec_store(scores + i, weight);
        sum = sp_vec_add(sum, weight);
    }
    return 1.0f / sp_vec_sum(sum);
}

/* Two vectors of the output from column for GROUP queries. */
static void weigh(const job *j, size_t row, size_t column, const float *scores, const float inverse[GROUP])
{
    size_t stride = sp_round_up(j->n, 16), live = j->width - column;
    sp_vec sum[GROUP][2];
    for (size_t r = 0; r < GROUP; r++) sum[r][0] = sum[r][1] = sp_vec_set(0);
    for (size_t key = 0; key < j->n; key++) {
        const float *value = j->v + key * j->width + column;
        sp_vec low, high;
        sp_vec_load_two(value, live, &low, &high);
        for (size_t r = 0; r < GROUP; r++) {
            sp_vec weight = sp_vec_set(scores[r * stride + key]);
            sum[r][0] = sp_vec_fma(weight, low, sum[r][0]);
            sum[r][1] = sp_vec_fma(weight, high, sum[r][1]);
        }
    }
    for (size_t r = 0; r < GROUP && row + r < j->n; r++) {
        sp_vec scale = sp_vec_set(inverse[r]);
        sp_vec_store_two(j->out + (row + r) * j->width + column, sp_vec_mul(sum[r][0], scale),
                         sp_vec_mul(sum[r][1], scale), live);
    }
}

static void work(void *arguments, int thread, int n_threads)
{
    const job *j = arguments;
    size_t begin, end, stride = sp_round_up(j->n, 16);
    float *scores = j->scores + (size_t)thread * GROUP * stride;
    sp_pool_share(j->n, GROUP, thread, n_threads, &begin, &end);
    for (size_t row = begin; row < end; row += GROUP) {
        float inverse[GROUP];
        for (size_t key = 0; key < j->n; key += GROUP) score(j, row, key, scores);
        for (size_t r = 0; r < GROUP; r++) inverse[r] = normalise(scores + r * stride, j->n);
        for (size_t column = 0; column < j->width; column += 2 * SP_LANES) weigh(j, row, column, scores, inverse);
    }
}

void SP_CPU(self_attention)(sp_pool *pool, const float *q, const float *k, const float *v, size_t n, size_t width,
                            float scale, float *out, void *scratch)
{
    job j = {q, k, v, n, width, scale, out, scratch};
    sp_pool_run(pool, work, &j);
}
