#ifndef SP_MASKED_MODEL_H
#define SP_MASKED_MODEL_H
/* What the masked decode loop asks of a model that draws positions in any order: conditions of some positions given any
 * others, then steps of denoising chains under them. The masked transformer implements it, and so do toys of the tests.
 *
 *     SP_TRY(model.ops->begin(model.state, &prompt, &guidance, err));
 *     SP_TRY(model.ops->condition(model.state, &pass, err));                  // one pass over all positions
 *     SP_TRY(model.ops->step(model.state, &(sp_chain_rows){.n = m, .row = rows, .k = k, ...}, err));
 *
 * Rows count in pass.positions. Chains are those of model/latent_model.h, and the token is the last state. Nothing is
 * kept between passes: a token more changes every row, so each conditional costs a pass of its own. */
#include <stdbool.h>

#include "model/latent_model.h"

typedef struct sp_masked_pass {
    const bool *known;        /* [positions] whose tokens are given */
    const float *latents;     /* [positions, dim]; those not known are not read */
    size_t n;                 /* positions whose conditions are wanted, 1 to all of them */
    const int32_t *positions; /* [n], none of them known */
    const float *share;       /* [n] of the picture, known once the position is: linear guidance grows with it */
} sp_masked_pass;

typedef struct sp_masked_model_ops {
    sp_status (*begin)(void *state, const sp_model_prompt *prompt, const sp_latent_guidance *guidance, sp_error *err);
    sp_status (*condition)(void *state, const sp_masked_pass *pass, sp_error *err);
    sp_status (*step)(void *state, const sp_chain_rows *rows, sp_error *err);
    /* Whole chains of rows of the last condition call, on a device; NULL when only step is there. The same bits. */
    sp_status (*chains)(void *state, const sp_device_chains *chains, sp_error *err);
} sp_masked_model_ops;

typedef struct sp_masked_model {
    const sp_masked_model_ops *ops; /* NULL: there is none */
    void *state;
    size_t dim, n_steps, rows, columns;
    size_t rows_apart; /* as of sp_latent_model */
} sp_masked_model;

#endif
