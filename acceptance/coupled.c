/* Jacobi decoding with maximal coupling between passes (arXiv 2510.24211 and, as adaptive continuation, 2603.18599;
 * docs/rules/coupled.md): drafts after the first refused one are tested too, so that those whose law changed little
 * stay. */
#include "acceptance/verify.h"

extern const sp_accept_ops sp_accept_coupled;

static sp_status accept(const sp_accept_window *w, size_t *n_final, sp_error *err)
{
    return sp_verify_rows(w, sp_ratio_test, SP_AFTER_COUPLE, n_final, err);
}

const sp_accept_ops sp_accept_coupled = {
    .name = "coupled",
    .summary = "as sjd, but keeps the drafts after a refused one as far as a maximal coupling can",
    .exactness = SP_EXACT,
    .drafts = true,
    .records = true,
    .accept = accept,
};
