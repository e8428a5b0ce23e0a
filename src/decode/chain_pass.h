#ifndef SP_CHAIN_PASS_H
#define SP_CHAIN_PASS_H
/* One pass of the chain decoder, for its own files: chain_window.c drafts by itself, chain_draft.c by a second
 * model. */
#include "base/arena.h"
#include "decode/chain.h"
#include "decode/chain_rows.h"

struct sp_chain_memory {
    sp_arena arena;
    sp_pool *pool;
    float *path[4];      /* of sp_chain_path, [max_window, n_steps, dim] each; position p at p mod max_window */
    float *means;        /* as path: of the front test */
    float *state, *mean, *deviation; /* [max_window, dim] of rows */
    float *before;       /* [max_window, dim] last states of the drafts in the last pass */
    sp_chain_draw *draw; /* [max_window] of rows */
    int32_t *row;        /* [max_window] */
    uint32_t *position;  /* [max_window] of rows, for a device */
    bool *kept;          /* [max_window] */
    size_t known;        /* positions before this one have a token or a path */
    size_t fed, drafter_fed; /* tokens before this one were fed to the models and have not changed since */
};

/* What a rule with a second model needs: that there is one, and settings in range, of gamma 1 to most. */
SP_CHECK sp_status sp_chain_check_drafting(const sp_chain_plan *plan, bool drafter, size_t most, sp_error *err);

void sp_chain_reset(sp_chain_decoder *d);

/* Feeds model the tokens before first that it lacks and the n - 1 from first on; row *at of its conditions is that of
 * position first, the others follow it. *fed is kept up to date. */
SP_CHECK sp_status sp_chain_feed(sp_chain_decoder *d, const sp_latent_model *model, size_t first, size_t n, size_t *fed,
                                 size_t *at, sp_error *err);

/* Whether the model's chains must be asked for step by step. */
static inline bool sp_chain_by_step(const sp_chain_plan *plan)
{
    const sp_chain_ops *rule = plan->rule;
    return (plan->settings.path_front && rule->front) || (rule->couple && !rule->reflects);
}

/* Chains of n rows from position first on, whose conditions stand from row at on, in one call of the device: into the
 * states, means and deviations of memory. n_paths of them are coupled with what it remembers. */
SP_CHECK sp_status sp_chain_on_device(sp_chain_decoder *d, const sp_latent_model *model, const sp_chain_plan *plan,
                                      sp_draw_purpose purpose, size_t first, size_t n, size_t at, bool remember,
                                      size_t n_paths, sp_error *err);

/* Draws of n rows from position first on, and y_0 of their chains into states [n, dim]. */
void sp_chain_start(sp_chain_decoder *d, const sp_chain_plan *plan, sp_draw_purpose purpose, size_t first, size_t n);

/* SP_EFORMAT when one of n states of positions from first on is not finite. */
SP_CHECK sp_status sp_chain_finite(const sp_chain_decoder *d, size_t first, size_t n, const float *states,
                                   sp_error *err);

/* Step k of the path of a position. */
static inline sp_chain_path sp_chain_step_of(const sp_chain_decoder *d, size_t position, size_t k)
{
    size_t at = ((position % d->max_window) * d->n_steps + k) * d->dim;
    float *const *path = d->memory->path;
    return (sp_chain_path){path[0] + at, path[1] + at, path[2] + at, path[3] + at};
}

/* A pass over positions first .. first + n - 1 that drafts by itself. */
SP_CHECK sp_status sp_chain_window_pass(sp_chain_decoder *d, const sp_latent_model *model, const sp_chain_plan *plan,
                                        size_t first, size_t n, size_t *n_final, sp_error *err);

/* n_drafts tokens of the drafter from first on, then a pass of the target over n positions. */
SP_CHECK sp_status sp_chain_draft_pass(sp_chain_decoder *d, const sp_latent_model *model, const sp_chain_plan *plan,
                                       size_t first, size_t n, size_t *n_final, sp_error *err);

#endif
