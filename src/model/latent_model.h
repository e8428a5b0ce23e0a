#ifndef SP_LATENT_MODEL_H
#define SP_LATENT_MODEL_H
/* What the chain decoder asks of a model with continuous tokens: conditions over a window, then steps of denoising
 * chains under them. The transformer with a diffusion head implements it, and so do the toys of tests/exactness.
 *
 *     SP_TRY(model.ops->begin(model.state, &prompt, &guidance, err));                                // the prefix pass
 *     SP_TRY(model.ops->condition(model.state, first, n, latents, err));                          // one pass: n rows
 *     SP_TRY(model.ops->step(model.state, &(sp_chain_rows){.n = m, .row = rows, .k = k, ...}, err));    // of the head
 *
 * A token is a vector of dim floats. Given everything before it, it is project(y_n) of the chain
 *
 *     y_0 ~ N(0, I),   y_{k+1} = mean_k(y_k) + deviation_k * e_k,   e_k ~ N(0, I),   k = 0 .. n_steps - 1,
 *
 * which are the Gaussians really sampled: guidance and temperature are inside. A deviation of 0 makes a step
 * degenerate, and rules that compare need the last step not to be.
 *
 * The same tokens before a position give its condition the same bits, and a condition and a state give their step the
 * same bits, whatever the windows and whichever other rows came along. */
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "base/pool.h"
#include "kernels/device_head.h"
#include "model/model.h"

typedef struct sp_latent_guidance {
    float cfg_scale;   /* 1: no guidance */
    float temperature; /* multiplies every deviation */
} sp_latent_guidance;

/* One step of the chains of n rows. Threads call step at the same time with scratch of their own, unless rows_apart is
 * SIZE_MAX. */
typedef struct sp_chain_rows {
    size_t n;
    const int32_t *row; /* [n] rows of the last condition call: image position first + row */
    size_t k;           /* the step: 0 .. n_steps - 1 */
    const float *state; /* [n, dim] y_k */
    float *mean;        /* [n, dim] out */
    float *deviation;   /* [n, dim] out */
    sp_pool *pool;      /* NULL inside a share of a pool */
    int thread;         /* whose scratch: 0 .. threads of the model's pool - 1; 0 with a pool */
} sp_chain_rows;

typedef struct sp_latent_model_ops {
    sp_status (*begin)(void *state, const sp_model_prompt *prompt, const sp_latent_guidance *guidance, sp_error *err);
    /* Feeds latents[0] as the token of position first - 1 (ignored at first = 0, where row 0 follows the prompt),
     * latents[j] as that of first - 1 + j; row j holds the condition of position first + j until the next call. What
     * was stored for these positions and for everything after is replaced. n is at least 1 and at most max_window. */
    sp_status (*condition)(void *state, size_t first, size_t n, const float *latents, sp_error *err);
    sp_status (*step)(void *state, const sp_chain_rows *rows, sp_error *err); /* a device can fail */
    /* tokens [n, dim] of the last states [n, dim]; they may be one array. */
    void (*project)(void *state, size_t n, const float *states, float *tokens);
    /* Whole chains of rows of the last condition call, on a device; NULL when only step is there. Steps have the same
     * bits, but chains knows nothing of them: those that are remembered are of chains alone. */
    sp_status (*chains)(void *state, const sp_device_chains *chains, sp_error *err);
} sp_latent_model_ops;

typedef struct sp_latent_model {
    const sp_latent_model_ops *ops; /* NULL: there is none */
    void *state;
    size_t dim, n_steps, rows, columns;
    size_t rows_apart;    /* with so many chains, and no fewer than threads, each thread steps rows of its own; with
                           * fewer all threads share each step, as they always do at SIZE_MAX */
    bool fixed_deviation; /* deviations depend on k alone */
    bool degenerate;      /* the last step adds no noise */
} sp_latent_model;

#endif
