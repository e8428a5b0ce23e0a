#include "decode/masked.h"

#include <math.h>
#include <string.h>

#include "acceptance/arithmetic.h"
#include "base/clock.h"
#include "decode/chain_pass.h"

struct sp_masked_memory {
    sp_arena arena;
    int32_t *order, *positions; /* [n_positions]; those of a pass */
    float *share;               /* [n_positions] of positions */
    bool *known, *drafted;      /* [n_positions] tokens that are final; those and the drafter's */
};

/* A pass of a model for n positions. */
typedef struct turn {
    const sp_masked_plan *plan;
    const sp_masked_model *model;
    bool *known;              /* what the model is shown, and out: with the positions */
    const int32_t *positions; /* [n] */
    const float *share;       /* [n] */
    size_t n;
    bool judges;              /* the positions hold drafts */
} turn;

static void take(sp_masked_decoder *d)
{
    sp_masked_memory *m = d->memory;
    size_t n = d->chains->n_positions;
    m->order = sp_arena_take(&m->arena, n, sizeof *m->order);
    m->positions = sp_arena_take(&m->arena, n, sizeof *m->positions);
    m->share = sp_arena_take(&m->arena, n, sizeof *m->share);
    m->known = sp_arena_take(&m->arena, n, sizeof *m->known);
    m->drafted = sp_arena_take(&m->arena, n, sizeof *m->drafted);
}

static sp_status step(void *state, const sp_chain_rows *rows, sp_error *err)
{
    const sp_masked_model *model = state;
    return model->ops->step(model->state, rows, err);
}

/* The chains of a masked model are run as any others; the ops that are not here are never called. */
static sp_latent_model chains_of(const sp_masked_model *model)
{
    static const sp_latent_model_ops ops = {.step = step};
    union { const sp_masked_model *from; void *to; } state = {model};
    return (sp_latent_model){.ops = &ops, .state = state.to, .dim = model->dim, .n_steps = model->n_steps,
                             .rows = model->rows, .columns = model->columns, .rows_apart = model->rows_apart};
}

static sp_status open_parts(sp_masked_decoder *d, const sp_masked_model *model, const sp_masked_model *drafter,
                            sp_pool *pool, sp_error *err)
{
    size_t n = model->rows * model->columns;
    sp_latent_model target = chains_of(model), draft = chains_of(drafter ? drafter : model);
    SP_TRY(sp_chain_decoder_open(&d->chains, &target, drafter ? &draft : NULL, pool,
                                 n < SP_MAX_WINDOW ? n : SP_MAX_WINDOW, err));
    take(d);
    SP_TRY(sp_arena_commit(&d->memory->arena, "masked decoder", err));
    take(d);
    return SP_OK;
}

sp_status sp_masked_decoder_open(sp_masked_decoder **out, const sp_masked_model *model, const sp_masked_model *drafter,
                                 sp_pool *pool, sp_error *err)
{
    *out = NULL;
    sp_masked_decoder *d = sp_alloc(1, sizeof *d);
    sp_masked_memory *memory = sp_alloc(1, sizeof *memory);
    if (!d || !memory) {
        sp_release(d);
        sp_release(memory);
        return SP_FAIL(err, SP_ENOMEM, "masked decoder: no memory");
    }
    d->memory = memory;
    sp_status status = open_parts(d, model, drafter, pool, err);
    if (status != SP_OK) {
        sp_masked_decoder_close(d);
        return status;
    }
    *out = d;
    return SP_OK;
}

void sp_masked_decoder_close(sp_masked_decoder *d)
{
    if (!d) return;
    if (d->chains) sp_chain_decoder_close(d->chains);
    sp_arena_free(&d->memory->arena);
    sp_release(d->memory);
    sp_release(d);
}

size_t sp_masked_decoder_bytes(const sp_masked_decoder *d)
{
    return d->memory->arena.bytes + sp_chain_decoder_bytes(d->chains);
}

size_t sp_masked_left(size_t positions, size_t n, size_t k, size_t left)
{
    double cosine = cos(3.14159265358979323846 / 2 * (double)(k + 1) / (double)n);
    size_t next = cosine > 0 ? (size_t)((double)positions * cosine) : 0;
    if (next > left - 1) next = left - 1;
    return next > 1 ? next : 1;
}

void sp_masked_order(uint64_t seed, uint32_t image, size_t positions, int32_t *order)
{
    for (size_t i = 0; i < positions; i++) {
        size_t j = (size_t)(sp_uniform(seed, image, SP_DRAW_ORDER, (uint32_t)i, 0) * (double)(i + 1));
        order[i] = order[j];
        order[j] = (int32_t)i;
    }
}

/* The positions of pass k of the model's own schedule, after which *left are without a token, from n on; returns how
 * many positions there are then. */
static size_t schedule(const sp_masked_decoder *d, size_t passes, size_t k, size_t *left, size_t n)
{
    sp_masked_memory *m = d->memory;
    size_t all = d->chains->n_positions, next = sp_masked_left(all, passes, k, *left);
    float share = (float)(all - next) / (float)all;
    if (k + 1 == passes) next = 0;
    while (*left > next) {
        m->positions[n] = m->order[--*left];
        m->share[n++] = share;
    }
    return n;
}

/* Chains of the first n draws and rows in memory, step by step. */
static sp_status run_steps(sp_chain_decoder *d, const turn *t, sp_draw_purpose purpose, size_t n, sp_error *err)
{
    sp_chain_memory *m = d->memory;
    sp_latent_model chains = chains_of(t->model);
    for (size_t i = 0; i < n; i++) sp_chain_noise(&m->draw[i], purpose, 0, d->dim, m->state + i * d->dim);
    sp_chain_own own = {m->draw, purpose, d->dim};
    sp_chain_rows_run run = {.model = &chains, .pool = m->pool, .n = n, .row = m->row, .state = m->state,
                             .mean = m->mean, .deviation = m->deviation, .advance = sp_chain_own_step,
                             .user = &own};
    return sp_chain_run(&run, err);
}

/* The same in one call of a device. */
static sp_status run_on_device(sp_chain_decoder *d, const turn *t, sp_draw_purpose purpose, size_t n, sp_error *err)
{
    sp_chain_memory *m = d->memory;
    const sp_chain_plan *plan = &t->plan->chain;
    for (size_t i = 0; i < n; i++) m->position[i] = m->draw[i].position;
    sp_device_chains chains = {.n = n, .row = m->row, .position = m->position, .seed = plan->seed,
                               .image = plan->image, .pass = (uint32_t)d->passes, .purpose = purpose,
                               .state = m->state, .mean = m->mean, .deviation = m->deviation};
    return t->model->ops->chains(t->model->state, &chains, err);
}

/* Chains of n positions from `at` on; their last states are left in memory. At most max_window. */
static sp_status run_chains(sp_chain_decoder *d, const turn *t, size_t at, size_t n, sp_error *err)
{
    sp_chain_memory *m = d->memory;
    const sp_chain_plan *plan = &t->plan->chain;
    sp_draw_purpose purpose = t->judges && !plan->settings.align ? SP_DRAW_APART : SP_DRAW_CHAIN;
    for (size_t i = 0; i < n; i++) {
        m->row[i] = (int32_t)(at + i);
        m->draw[i] = (sp_chain_draw){plan->seed, plan->image, (uint32_t)t->positions[at + i], (uint32_t)d->passes};
    }
    if (t->model->ops->chains) SP_TRY(run_on_device(d, t, purpose, n, err));
    else SP_TRY(run_steps(d, t, purpose, n, err));
    size_t bad = sp_chain_not_finite(m->state, n, d->dim);
    if (bad == n) return SP_OK;
    return sp_chain_finite(d, (size_t)t->positions[at + bad], 1, m->state + bad * d->dim, err);
}

/* Tokens of n positions from `at` on: what was drawn, or the draft if the rule lets it stay. */
static void settle(sp_chain_decoder *d, const turn *t, size_t at, size_t n)
{
    sp_chain_memory *m = d->memory;
    for (size_t i = 0; i < n; i++) {
        size_t row = i * d->dim;
        float *token = d->latents + (size_t)t->positions[at + i] * d->dim;
        sp_chain_check check = {.draft = token, .p_mean = m->mean + row, .p_deviation = m->deviation + row,
                                .own = m->state + row};
        if (!t->judges) memcpy(token, m->state + row, d->dim * sizeof *token);
        else d->accepted += t->plan->chain.rule->verify(&m->draw[i], &t->plan->chain.settings, d->dim, &check);
    }
}

static sp_status run(sp_chain_decoder *d, const turn *t, sp_error *err)
{
    sp_masked_pass pass = {t->known, d->latents, t->n, t->positions, t->share};
    double start = sp_clock_ms();
    SP_TRY(t->model->ops->condition(t->model->state, &pass, err));
    double conditioned = sp_clock_ms();
    for (size_t at = 0; at < t->n; at += d->max_window) {
        size_t n = t->n - at < d->max_window ? t->n - at : d->max_window;
        SP_TRY(run_chains(d, t, at, n, err));
        settle(d, t, at, n);
    }
    for (size_t i = 0; i < t->n; i++) t->known[t->positions[i]] = true;
    d->condition_ms += conditioned - start;
    d->chain_ms += sp_clock_ms() - conditioned;
    return SP_OK;
}

/* gamma passes of the drafter, from pass *k on, then one of the target over all that they drew. The target is shown
 * what is final, and every token is then final, whatever it says of the ones before. */
static sp_status draft(sp_masked_decoder *d, const sp_masked_plan *plan, size_t *k, size_t *left, size_t *n,
                       sp_error *err)
{
    sp_masked_memory *m = d->memory;
    memcpy(m->drafted, m->known, d->chains->n_positions * sizeof *m->drafted);
    *n = 0;
    for (size_t i = 0; i < plan->chain.settings.gamma && *left > 0; i++) {
        size_t from = *n;
        *n = schedule(d, plan->passes, (*k)++, left, from);
        turn guess = {plan, plan->drafter, m->drafted, m->positions + from, m->share + from, *n - from, false};
        SP_TRY(run(d->chains, &guess, err));
        d->chains->draft_passes++;
    }
    d->chains->drafted += *n;
    return run(d->chains, &(turn){plan, plan->model, m->known, m->positions, m->share, *n, true}, err);
}

static sp_status check(const sp_masked_decoder *d, const sp_masked_plan *plan, sp_error *err)
{
    const sp_chain_ops *rule = plan->chain.rule;
    size_t all = d->chains->n_positions;
    if (rule->compares)
        return SP_FAIL(err, SP_EARG, "--method %s: this model sees both sides of a token, so every conditional costs a "
                       "pass of its own and there is nothing to win; use ar or cspd-released", rule->name);
    if (plan->passes < 1 || plan->passes > all)
        return SP_FAIL(err, SP_EARG, "--passes %zu: expected 1 to %zu, the tokens of a picture", plan->passes, all);
    return sp_chain_check_drafting(&plan->chain, plan->drafter && plan->drafter->ops, all, err);
}

static sp_status begin(sp_masked_decoder *d, const sp_masked_plan *plan, sp_error *err)
{
    sp_masked_memory *m = d->memory;
    const sp_chain_plan *c = &plan->chain;
    double start = sp_clock_ms();
    sp_chain_reset(d->chains);
    memset(m->known, 0, d->chains->n_positions * sizeof *m->known);
    sp_masked_order(c->seed, c->image, d->chains->n_positions, m->order);
    SP_TRY(plan->model->ops->begin(plan->model->state, &c->prompt, &c->guidance, err));
    if (c->rule->needs_drafter)
        SP_TRY(plan->drafter->ops->begin(plan->drafter->state, &c->prompt, &c->guidance, err));
    d->chains->prefill_ms = sp_clock_ms() - start;
    return SP_OK;
}

static void count(sp_masked_decoder *d, size_t n)
{
    sp_chain_decoder *c = d->chains;
    c->passes++;
    c->histogram[n < SP_MAX_WINDOW ? n : SP_MAX_WINDOW]++;
    for (size_t i = 0; i < n; i++) c->pass_of_token[d->memory->positions[i]] = (int32_t)c->passes;
}

sp_status sp_masked_decode(sp_masked_decoder *d, const sp_masked_plan *plan, sp_error *err)
{
    SP_TRY(check(d, plan, err));
    SP_TRY(begin(d, plan, err));
    const sp_chain_plan *c = &plan->chain;
    sp_masked_memory *m = d->memory;
    size_t all = d->chains->n_positions, left = all, k = 0, n;
    size_t alone = c->rule->needs_drafter ? (size_t)((double)c->settings.prefill * (double)plan->passes) : plan->passes;
    double start = sp_clock_ms();
    while (left > 0) {
        if (k >= alone) {
            SP_TRY(draft(d, plan, &k, &left, &n, err));
        } else {
            n = schedule(d, plan->passes, k++, &left, 0);
            SP_TRY(run(d->chains, &(turn){plan, plan->model, m->known, m->positions, m->share, n, false}, err));
        }
        count(d, n);
        d->chains->decode_ms = sp_clock_ms() - start;
        sp_progress progress = {all - left, all, d->chains->passes, d->chains->pass_of_token, 1};
        if (c->progress && !c->progress(c->user, &progress))
            return SP_FAIL(err, SP_ECANCELLED, "interrupted after %zu of %zu tokens", all - left, all);
    }
    return SP_OK;
}
