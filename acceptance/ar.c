/* Plain decoding: one position a pass, x = argmax_v (log p_v + g_v) within the sampling sets. */
#include "acceptance/accept.h"

extern const sp_accept_ops sp_accept_ar;

static sp_status accept(const sp_accept_window *w, size_t *n_final, sp_error *err)
{
    *n_final = 1;
    return sp_sample(w, 0, &w->tokens[0], err);
}

const sp_accept_ops sp_accept_ar = {
    .name = "ar",
    .summary = "plain decoding, one token a pass",
    .exactness = SP_IDENTICAL,
    .drafts = false,
    .accept = accept,
};
