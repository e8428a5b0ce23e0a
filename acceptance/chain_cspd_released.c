/* What the published program of CSpD does in effect (docs/rules/cspd-released.md): a draft near enough to the target's
 * own token stays, whatever became of the drafts before it. */
#include "acceptance/chain.h"

extern const sp_chain_ops sp_chain_cspd_released;

/* Passes with probability exp(-|draft - own|^2 / (2 rho^2)). */
static bool verify(const sp_chain_draw *draw, const sp_chain_settings *settings, size_t dim, const sp_chain_check *c)
{
    double square = 0, rho = (double)settings->tolerance;
    for (size_t j = 0; j < dim; j++) {
        double d = (double)c->draft[j] - (double)c->own[j];
        square += d * d;
    }
    if (2 * rho * rho * sp_chain_log_uniform(draw, SP_DRAW_ACCEPT, 0) <= -square) return true;
    for (size_t j = 0; j < dim; j++) c->draft[j] = c->own[j];
    return false;
}

const sp_chain_ops sp_chain_cspd_released = {
    .name = "cspd-released",
    .summary = "as the published program: drafts near the target's own tokens stay, without roll-back",
    .settings = "gamma prefill align tolerance",
    .exactness = SP_RELAXED,
    .drafts = true,
    .needs_drafter = true,
    .verify = verify,
    .commit = sp_commit_all,
};
