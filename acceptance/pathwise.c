/* Pathwise Jacobi decoding (docs/rules/pathwise.md): the noise g of a position is a function of the seed, so the token
 * y_j = argmax_v (log p_j(v) + g_j(v)) is a function of the tokens before it. Row j is final when every draft before it
 * equals its y; y at the first mismatch is final too, and the y after it are the next drafts.
 *
 * With x* the sequence plain decoding gives for this seed: rows 0 .. n_final - 1 see x* before them, so their y are x*
 * by induction, whatever the drafts were. */
#include "acceptance/accept.h"

extern const sp_accept_ops sp_accept_pathwise;

static sp_status accept(const sp_accept_window *w, size_t *n_final, sp_error *err)
{
    bool matching = true;
    for (size_t j = 0; j < w->n_rows; j++) {
        SP_TRY(sp_sample(w, j, &w->tokens[j], err));
        if (!matching) continue;
        *n_final = j + 1;
        matching = j < w->n_drafts && sp_equality_passes(w->drafts[j], w->tokens[j]);
    }
    return SP_OK;
}

const sp_accept_ops sp_accept_pathwise = {
    .name = "pathwise",
    .summary = "checks drafts by equality with the seed's own sample: the picture of ar, in fewer passes",
    .exactness = SP_IDENTICAL,
    .drafts = true,
    .accept = accept,
};
