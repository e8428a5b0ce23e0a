#include "decode/chain_rows.h"

/* A step of rows first .. last - 1 whose laws are in mean and deviation. */
typedef struct moves {
    const sp_chain_rows_run *run;
    size_t first, last, k;
} moves;

static void advance(void *arguments, int thread, int n_threads)
{
    const moves *m = arguments;
    const sp_chain_rows_run *r = m->run;
    size_t dim = r->model->dim, first, last;
    sp_pool_share(m->last - m->first, 1, thread, n_threads, &first, &last);
    for (size_t i = m->first + first; i < m->first + last; i++)
        r->advance(r->user, i, m->k, r->mean + i * dim, r->deviation + i * dim, r->state + i * dim);
}

/* Rows first .. last - 1 from the first step to the last. */
static void run_rows(const sp_chain_rows_run *r, size_t first, size_t last, sp_pool *pool, int thread)
{
    size_t dim = r->model->dim;
    for (size_t k = 0; k < r->model->n_steps; k++) {
        size_t from = first == 0 && k < r->late ? 1 : first;
        if (from >= last) continue;
        sp_chain_rows rows = {.n = last - from, .row = r->row + from, .k = k, .state = r->state + from * dim,
                              .mean = r->mean + from * dim, .deviation = r->deviation + from * dim, .pool = pool,
                              .thread = thread};
        r->model->ops->step(r->model->state, &rows);
        moves all = {r, from, last, k};
        /* One row is sooner done than shared. */
        if (rows.n > 1) sp_pool_run(pool, advance, &all);
        else advance(&all, 0, 1);
    }
}

static void share(void *arguments, int thread, int n_threads)
{
    const sp_chain_rows_run *r = arguments;
    size_t first, last;
    sp_pool_share(r->n, 1, thread, n_threads, &first, &last);
    run_rows(r, first, last, NULL, thread);
}

void sp_chain_run(const sp_chain_rows_run *run)
{
    sp_chain_rows_run shared = *run;
    if (run->n >= (size_t)sp_pool_threads(run->pool) && run->n >= run->model->rows_apart)
        sp_pool_run(run->pool, share, &shared);
    else run_rows(run, 0, run->n, run->pool, 0);
}

void sp_chain_own_step(void *user, size_t i, size_t k, const float *mean, const float *deviation, float *state)
{
    const sp_chain_own *own = user;
    float noise[SP_MAX_LATENT];
    sp_chain_noise(&own->draw[i], own->purpose, k + 1, own->dim, noise);
    for (size_t j = 0; j < own->dim; j++) state[j] = sp_chain_move(mean[j], deviation[j], noise[j]);
}

size_t sp_chain_not_finite(const float *state, size_t n, size_t dim)
{
    for (size_t i = 0; i < n * dim; i++)
        if (!isfinite(state[i])) return i / dim;
    return n;
}
