/* Speculative sampling of continuous tokens given the noise that draft and target share (docs/rules/cspd.md; the exact
 * form of arXiv 2411.11925): given it, the laws of a token are the Gaussians of the two last steps. */
#include "acceptance/chain.h"

extern const sp_chain_ops sp_chain_cspd;

/* A rejected draft needs 1 / (1 - A) tries on average where A is the probability to pass, so stopping here costs at
 * most max A^n (1 - A) < 4e-7 in total variation. */
enum { TRIES = 1 << 20 };

size_t sp_chain_residual(const sp_chain_draw *draw, size_t dim, const sp_chain_check *c)
{
    float noise[SP_MAX_LATENT];
    for (uint32_t i = 0; i < TRIES; i++) {
        sp_normals(draw->seed, draw->image, draw->position, SP_DRAW_FRESH, i << 6, dim, noise);
        for (size_t j = 0; j < dim; j++) c->draft[j] = sp_chain_move(c->p_mean[j], c->p_deviation[j], noise[j]);
        double ratio = sp_log_ratio(dim, c->draft, c->p_mean, c->p_deviation, c->q_mean, c->q_deviation);
        /* Not a number: the caller finds it in the draft. */
        if (!(sp_uniform(draw->seed, draw->image, SP_DRAW_RESIDUAL, draw->position, i) >= -expm1(-ratio)))
            return i + 1;
    }
    return TRIES;
}

static bool verify(const sp_chain_draw *draw, const sp_chain_settings *settings, size_t dim, const sp_chain_check *c)
{
    (void)settings;
    double ratio = sp_log_ratio(dim, c->draft, c->p_mean, c->p_deviation, c->q_mean, c->q_deviation);
    if (sp_chain_log_uniform(draw, SP_DRAW_ACCEPT, 0) <= ratio) return true;
    sp_chain_residual(draw, dim, c);
    return false;
}

const sp_chain_ops sp_chain_cspd = {
    .name = "cspd",
    .summary = "a smaller model drafts; tests drafts by their density given the shared noise",
    .settings = "gamma prefill align",
    .exactness = SP_EXACT,
    .drafts = true,
    .needs_drafter = true,
    .compares = true,
    .bonus = true,
    .verify = verify,
    .commit = sp_commit_first_change,
};
