#include "decode/account.h"

size_t sp_decode_rows(const sp_decoder *d, const sp_decode_plan *plan)
{
    if (!plan->rule->drafts) return 1;
    size_t limit = d->max_window < d->n_positions ? d->max_window : d->n_positions, rows = plan->window;
    if (rows == 0) rows = plan->rule->walk ? SP_TREE_ROWS : sp_pacer_window(&d->pacer, limit);
    return rows < d->max_window ? rows : d->max_window;
}

void sp_decode_count(sp_decoder *d, size_t first, size_t n_final)
{
    d->passes++;
    d->accepted += n_final - 1;
    d->histogram[n_final]++;
    for (size_t j = 0; j < n_final; j++) d->pass_of_token[first + j] = (int32_t)d->passes;
}

sp_status sp_decode_progress(const sp_decoder *d, const sp_decode_plan *plan, size_t n_final, size_t together,
                             sp_error *err)
{
    sp_progress progress = {n_final, d->n_positions, d->passes, d->pass_of_token, together};
    if (!plan->progress || plan->progress(plan->user, &progress)) return SP_OK;
    return SP_FAIL(err, SP_ECANCELLED, "interrupted after %zu of %zu tokens", n_final, d->n_positions);
}
