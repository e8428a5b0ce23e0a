/* A pass whose drafts are the tokens of a second model. */
#include <string.h>

#include "base/clock.h"
#include "decode/chain_pass.h"

/* The law and the state of the drafter's last step, where the path of the position would be. */
static sp_chain_path draft_of(const sp_chain_decoder *d, size_t position)
{
    return sp_chain_step_of(d, position, d->n_steps - 1);
}

/* Chains of rows from at on of the last conditions, for positions from first on; states, means and deviations of the
 * last step are left in memory. */
static sp_status run_chains(sp_chain_decoder *d, const sp_latent_model *model, const sp_chain_plan *plan,
                            sp_draw_purpose purpose, size_t first, size_t n, size_t at, sp_error *err)
{
    sp_chain_memory *m = d->memory;
    double before = sp_clock_ms();
    if (model->ops->chains && !sp_chain_by_step(plan)) {
        SP_TRY(sp_chain_on_device(d, model, plan, purpose, first, n, at, false, 0, err));
        d->chain_ms += sp_clock_ms() - before;
        return SP_OK;
    }
    sp_chain_start(d, plan, purpose, first, n);
    for (size_t j = 0; j < n; j++) m->row[j] = (int32_t)(at + j);
    sp_chain_own own = {m->draw, purpose, d->dim};
    sp_chain_rows_run run = {.model = model, .pool = m->pool, .n = n, .row = m->row, .state = m->state,
                             .mean = m->mean, .deviation = m->deviation, .advance = sp_chain_own_step,
                             .user = &own};
    SP_TRY(sp_chain_run(&run, err));
    d->chain_ms += sp_clock_ms() - before;
    return SP_OK;
}

static sp_status draft(sp_chain_decoder *d, const sp_latent_model *model, const sp_chain_plan *plan, size_t position,
                       sp_error *err)
{
    sp_chain_memory *m = d->memory;
    size_t at, size = d->dim * sizeof(float);
    SP_TRY(sp_chain_feed(d, plan->drafter, position, 1, &m->drafter_fed, &at, err));
    SP_TRY(run_chains(d, plan->drafter, plan, SP_DRAW_CHAIN, position, 1, at, err));
    SP_TRY(sp_chain_finite(d, position, 1, m->state, err));
    sp_chain_path q = draft_of(d, position);
    memcpy(q.state, m->state, size);
    memcpy(q.mean, m->mean, size);
    memcpy(q.deviation, m->deviation, size);
    model->ops->project(model->state, 1, m->state, d->latents + position * d->dim);
    d->draft_passes++;
    return SP_OK;
}

/* Decides about the drafts; the states in memory become those of the tokens. */
static void verify(sp_chain_decoder *d, const sp_chain_plan *plan, size_t first, size_t n, size_t n_drafts)
{
    sp_chain_memory *m = d->memory;
    for (size_t j = 0; j < n; j++) {
        size_t at = j * d->dim;
        m->kept[j] = false;
        if (j >= n_drafts) continue;
        sp_chain_path q = draft_of(d, first + j);
        sp_chain_check check = {q.state, q.mean, q.deviation, m->mean + at, m->deviation + at, m->state + at};
        m->kept[j] = plan->rule->verify(&m->draw[j], &plan->settings, d->dim, &check);
        memcpy(m->state + at, q.state, d->dim * sizeof(float));
    }
}

sp_status sp_chain_draft_pass(sp_chain_decoder *d, const sp_latent_model *model, const sp_chain_plan *plan,
                              size_t first, size_t n, size_t *n_final, sp_error *err)
{
    sp_chain_memory *m = d->memory;
    size_t n_drafts = n - plan->rule->bonus, at, same = 0;
    for (size_t j = 0; j < n_drafts; j++) SP_TRY(draft(d, model, plan, first + j, err));
    SP_TRY(sp_chain_feed(d, model, first, n, &m->fed, &at, err));
    sp_draw_purpose purpose = plan->settings.align ? SP_DRAW_CHAIN : SP_DRAW_APART;
    SP_TRY(run_chains(d, model, plan, purpose, first, n, at, err));
    SP_TRY(sp_chain_finite(d, first, n, m->state, err));
    verify(d, plan, first, n, n_drafts);
    SP_TRY(sp_chain_finite(d, first, n, m->state, err));
    model->ops->project(model->state, n, m->state, d->latents + first * d->dim);
    *n_final = plan->rule->commit(m->kept, n);
    d->drafted += n_drafts;
    for (size_t j = 0; j < *n_final; j++) d->accepted += m->kept[j];
    while (same < n_drafts && m->kept[same]) same++;
    if (m->fed > first + same) m->fed = first + same;
    if (m->drafter_fed > first + same) m->drafter_fed = first + same;
    return SP_OK;
}
