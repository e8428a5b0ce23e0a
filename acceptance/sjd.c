/* Speculative Jacobi decoding (Teng et al., arXiv 2410.01699; docs/rules/sjd.md): drafts are tested against the law
 * they were drawn from, and after the first refused one drawn anew and independently. */
#include "acceptance/verify.h"

extern const sp_accept_ops sp_accept_sjd;

static sp_status accept(const sp_accept_window *w, size_t *n_final, sp_error *err)
{
    return sp_verify_rows(w, sp_ratio_test, SP_AFTER_REDRAW, n_final, err);
}

const sp_accept_ops sp_accept_sjd = {
    .name = "sjd",
    .summary = "tests drafts by the ratio of their probabilities and draws the rest anew",
    .exactness = SP_EXACT,
    .drafts = true,
    .records = true,
    .accept = accept,
};
