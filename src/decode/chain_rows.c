#include "decode/chain_rows.h"

#include <stdatomic.h>

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
static sp_status run_rows(const sp_chain_rows_run *r, size_t first, size_t last, sp_pool *pool, int thread,
                          sp_error *err)
{
    size_t dim = r->model->dim;
    for (size_t k = 0; k < r->model->n_steps; k++) {
        size_t from = first == 0 && k < r->late ? 1 : first;
        if (from >= last) continue;
        sp_chain_rows rows = {.n = last - from, .row = r->row + from, .k = k, .state = r->state + from * dim,
                              .mean = r->mean + from * dim, .deviation = r->deviation + from * dim, .pool = pool,
                              .thread = thread};
        SP_TRY(r->model->ops->step(r->model->state, &rows, err));
        moves all = {r, from, last, k};
        /* One row is sooner done than shared. */
        if (rows.n > 1) sp_pool_run(pool, advance, &all);
        else advance(&all, 0, 1);
    }
    return SP_OK;
}

/* A run whose threads have rows of their own. The first that fails says so. */
typedef struct shares {
    const sp_chain_rows_run *run;
    atomic_flag failed;
    sp_status status;
    sp_error *err;
} shares;

static void share(void *arguments, int thread, int n_threads)
{
    shares *s = arguments;
    size_t first, last;
    sp_error error = {0};
    sp_pool_share(s->run->n, 1, thread, n_threads, &first, &last);
    sp_status status = run_rows(s->run, first, last, NULL, thread, &error);
    if (status == SP_OK || atomic_flag_test_and_set(&s->failed)) return;
    s->status = status;
    if (s->err) *s->err = error;
}

sp_status sp_chain_run(const sp_chain_rows_run *run, sp_error *err)
{
    shares s = {.run = run, .failed = ATOMIC_FLAG_INIT, .status = SP_OK, .err = err};
    if (run->n < (size_t)sp_pool_threads(run->pool) || run->n < run->model->rows_apart)
        return run_rows(run, 0, run->n, run->pool, 0, err);
    sp_pool_run(run->pool, share, &s);
    return s.status;
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
