/* A pass whose drafts are the last tokens of its own positions. */
#include <string.h>

#include "base/clock.h"
#include "decode/chain_pass.h"

/* Rows of a run: row i is position first + base + i; those below n_paths of the window have a path. */
typedef struct rows {
    sp_chain_decoder *decoder;
    const sp_chain_plan *plan;
    size_t first, base, n_paths;
    bool late; /* row 0 goes on from where the front test left it */
} rows;

/* A chain for the first time: its own noise, into its path. */
static void set_out(const sp_chain_draw *draw, size_t k, size_t dim, const float *mean, const float *deviation,
                    const sp_chain_path *step)
{
    sp_chain_noise(draw, SP_DRAW_CHAIN, k + 1, dim, step->noise);
    memcpy(step->mean, mean, dim * sizeof *mean);
    memcpy(step->deviation, deviation, dim * sizeof *deviation);
    for (size_t j = 0; j < dim; j++) step->state[j] = sp_chain_move(mean[j], deviation[j], step->noise[j]);
}

static void advance(void *user, size_t i, size_t k, const float *mean, const float *deviation, float *state)
{
    const rows *r = user;
    sp_chain_decoder *d = r->decoder;
    size_t j = r->base + i;
    const sp_chain_draw *draw = &d->memory->draw[j];
    sp_chain_path step = sp_chain_step_of(d, r->first + j, k);
    if (r->late && i == 0)
        for (size_t c = 0; c < d->dim; c++) step.state[c] = sp_chain_move(mean[c], deviation[c], step.noise[c]);
    else if (j < r->n_paths) r->plan->rule->couple(draw, k, d->dim, mean, deviation, &step);
    else set_out(draw, k, d->dim, mean, deviation, &step);
    memcpy(state, step.state, d->dim * sizeof *state);
}

/* New means along the states of the last path. */
static void follow(void *user, size_t i, size_t k, const float *mean, const float *deviation, float *state)
{
    const rows *r = user;
    sp_chain_decoder *d = r->decoder;
    (void)deviation;
    memcpy(d->memory->means + (i * d->n_steps + k) * d->dim, mean, d->dim * sizeof *mean);
    memcpy(state, sp_chain_step_of(d, r->first + i, k).state, d->dim * sizeof *state);
}

/* Rows from base on. */
static sp_chain_rows_run run_of(rows *r, const sp_latent_model *model, size_t n, sp_chain_advance *advance_row)
{
    sp_chain_memory *m = r->decoder->memory;
    size_t at = r->base * r->decoder->dim;
    return (sp_chain_rows_run){.model = model, .pool = m->pool, .n = n, .row = m->row + r->base,
                               .state = m->state + at, .mean = m->mean + at, .deviation = m->deviation + at,
                               .advance = advance_row, .user = r};
}

/* The path test of the drafts in order, up to the first that fails: leaves that one's row in base, whose chain goes on
 * at step *late, or the first row without a draft. */
static sp_status test_front(rows *r, const sp_latent_model *model, size_t *late, sp_error *err)
{
    sp_chain_decoder *d = r->decoder;
    sp_chain_memory *m = d->memory;
    *late = 0;
    sp_chain_rows_run run = run_of(r, model, r->n_paths, follow);
    SP_TRY(sp_chain_run(&run, err));
    for (; r->base < r->n_paths; r->base++) {
        size_t j = r->base;
        sp_chain_path path = sp_chain_step_of(d, r->first + j, 0);
        size_t stays = r->plan->rule->front(&m->draw[j], d->n_steps, d->dim, m->means + j * d->n_steps * d->dim, &path);
        m->kept[j] = stays == d->n_steps;
        size_t last = m->kept[j] ? d->n_steps - 1 : stays;
        memcpy(m->state + j * d->dim, path.state + last * d->dim, d->dim * sizeof(float));
        if (m->kept[j]) continue;
        *late = stays + 1;
        return SP_OK;
    }
    return SP_OK;
}

/* Chains of the window's rows; kept tells which drafts came out again. */
static sp_status run_chains(sp_chain_decoder *d, const sp_latent_model *model, const sp_chain_plan *plan, size_t first,
                            size_t n, size_t n_paths, sp_error *err)
{
    sp_chain_memory *m = d->memory;
    rows r = {.decoder = d, .plan = plan, .first = first, .n_paths = n_paths};
    sp_chain_start(d, plan, SP_DRAW_CHAIN, first, n);
    for (size_t j = 0; j < n; j++) {
        m->row[j] = (int32_t)j;
        m->kept[j] = false;
        memcpy(m->before + j * d->dim, sp_chain_step_of(d, first + j, d->n_steps - 1).state, d->dim * sizeof(float));
    }
    size_t late = 0, compared = 0;
    if (plan->settings.path_front && plan->rule->front && n_paths > 0) {
        SP_TRY(test_front(&r, model, &late, err));
        r.late = late > 0;
        compared = r.base + r.late;
        /* The test has gone through the states of later rows. */
        for (size_t j = compared; j < n_paths; j++)
            sp_chain_noise(&m->draw[j], SP_DRAW_CHAIN, 0, d->dim, m->state + j * d->dim);
    }
    sp_chain_rows_run run = run_of(&r, model, n - r.base, advance);
    run.late = late;
    SP_TRY(sp_chain_run(&run, err));
    for (size_t j = compared; j < n_paths; j++)
        m->kept[j] = memcmp(m->before + j * d->dim, m->state + j * d->dim, d->dim * sizeof(float)) == 0;
    return SP_OK;
}

/* The same on a device, which has the paths; their last states are here. */
static sp_status run_on_device(sp_chain_decoder *d, const sp_latent_model *model, const sp_chain_plan *plan,
                               size_t first, size_t n, size_t n_paths, sp_error *err)
{
    sp_chain_memory *m = d->memory;
    SP_TRY(sp_chain_on_device(d, model, plan, SP_DRAW_CHAIN, first, n, 0, true, n_paths, err));
    for (size_t j = 0; j < n; j++) {
        float *last = sp_chain_step_of(d, first + j, d->n_steps - 1).state, *state = m->state + j * d->dim;
        m->kept[j] = j < n_paths && memcmp(last, state, d->dim * sizeof *state) == 0;
        memcpy(last, state, d->dim * sizeof *state);
    }
    return SP_OK;
}

/* What a position without a chain feeds: a function of the tokens before it. */
static void fill(sp_chain_decoder *d, const char *draft_init, size_t position)
{
    float *to = d->latents + position * d->dim;
    size_t column = position % d->columns, from = position;
    if (draft_init[0] == 'l') from = column > 0 ? position - 1 : position - d->columns;
    if (draft_init[0] == 'a') from = position >= d->columns ? position - d->columns : position - 1;
    /* The first position has nothing before it. */
    if (from < position) memcpy(to, d->latents + from * d->dim, d->dim * sizeof *to);
    else memset(to, 0, d->dim * sizeof *to);
}

sp_status sp_chain_window_pass(sp_chain_decoder *d, const sp_latent_model *model, const sp_chain_plan *plan,
                               size_t first, size_t n, size_t *n_final, sp_error *err)
{
    sp_chain_memory *m = d->memory;
    size_t known = m->known > first ? m->known : first, at, n_paths = known < first + n ? known - first : n;
    for (size_t position = known; position + 1 < first + n; position++) fill(d, plan->draft_init, position);
    m->fed = first;
    SP_TRY(sp_chain_feed(d, model, first, n, &m->fed, &at, err));
    double before = sp_clock_ms();
    if (model->ops->chains && !sp_chain_by_step(plan)) SP_TRY(run_on_device(d, model, plan, first, n, n_paths, err));
    else SP_TRY(run_chains(d, model, plan, first, n, n_paths, err));
    d->chain_ms += sp_clock_ms() - before;
    SP_TRY(sp_chain_finite(d, first, n, m->state, err));
    model->ops->project(model->state, n, m->state, d->latents + first * d->dim);
    *n_final = plan->rule->commit(m->kept, n);
    d->drafted += n - 1;
    d->accepted += *n_final - 1;
    m->known = known > first + n ? known : first + n;
    m->fed = first;
    return SP_OK;
}
