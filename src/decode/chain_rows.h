#ifndef SP_CHAIN_ROWS_H
#define SP_CHAIN_ROWS_H
/* Denoising chains of several rows at once, step by step under the model's last conditions.
 *
 *     sp_chain_start(&run, draws ...);                                   // y_0 of every row
 *     sp_chain_rows_run run = {.model = model, .pool = pool, .n = n, .row = row, .state = state, ...};
 *     SP_TRY(sp_chain_run(&run, err));
 *
 * With as many rows as threads, and as the model asks, each thread takes rows of its own from the first step to the
 * last, without meeting the others; with fewer, all threads share each step. The bits are the same. */
#include "acceptance/chain.h"
#include "base/pool.h"
#include "model/latent_model.h"

/* Row i's y_{k+1} from the law of step k, into state, which holds y_k. Called by several threads, for rows of their
 * own. */
typedef void sp_chain_advance(void *user, size_t i, size_t k, const float *mean, const float *deviation, float *state);

typedef struct sp_chain_rows_run {
    const sp_latent_model *model;
    sp_pool *pool;      /* of the model */
    size_t n;
    const int32_t *row; /* [n] of the last condition call */
    size_t late;        /* row 0 joins at this step and has the state there; 0: it has y_0 as the others */
    float *state;       /* [n, dim] y_0, and out: y_{n_steps} */
    float *mean, *deviation; /* [n, dim] out: of the last step */
    sp_chain_advance *advance;
    void *user;
} sp_chain_rows_run;

/* Fails only where a step does. */
SP_CHECK sp_status sp_chain_run(const sp_chain_rows_run *run, sp_error *err);

/* An advance for chains with their own noise; user is one of these. */
typedef struct sp_chain_own {
    const sp_chain_draw *draw; /* [n] of the rows */
    sp_draw_purpose purpose;   /* of the noise */
    size_t dim;
} sp_chain_own;

sp_chain_advance sp_chain_own_step;

/* The first of n states [dim] that is not finite, or n. */
size_t sp_chain_not_finite(const float *state, size_t n, size_t dim);

#endif
