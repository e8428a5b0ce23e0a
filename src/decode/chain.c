#include "decode/chain.h"

#include <math.h>
#include <string.h>

#include "base/clock.h"
#include "base/size.h"
#include "decode/chain_pass.h"

static void take(sp_chain_decoder *d)
{
    sp_chain_memory *m = d->memory;
    size_t window = d->max_window, row = d->dim * sizeof(float), path = window * d->n_steps;
    float *latents = sp_arena_take(&m->arena, d->n_positions + 1, row);
    /* The token before position 0 is read by nobody, but it has a place. */
    d->latents = latents ? latents + d->dim : NULL;
    d->pass_of_token = sp_arena_take(&m->arena, d->n_positions, sizeof *d->pass_of_token);
    for (size_t i = 0; i < 4; i++) m->path[i] = sp_arena_take(&m->arena, path, row);
    m->means = sp_arena_take(&m->arena, path, row);
    m->state = sp_arena_take(&m->arena, window, row);
    m->mean = sp_arena_take(&m->arena, window, row);
    m->deviation = sp_arena_take(&m->arena, window, row);
    m->before = sp_arena_take(&m->arena, window, row);
    m->draw = sp_arena_take(&m->arena, window, sizeof *m->draw);
    m->row = sp_arena_take(&m->arena, window, sizeof *m->row);
    m->position = sp_arena_take(&m->arena, window, sizeof *m->position);
    m->kept = sp_arena_take(&m->arena, window, sizeof *m->kept);
}

static sp_status check_sizes(const sp_latent_model *model, const sp_latent_model *drafter, size_t max_window,
                             sp_error *err)
{
    size_t unused;
    if (model->dim < 1 || model->dim > SP_MAX_LATENT)
        return SP_FAIL(err, SP_EUNSUPPORTED, "latents of %zu numbers: expected 1 to %d", model->dim, SP_MAX_LATENT);
    if (model->n_steps < 1 || model->n_steps > SP_MAX_STEPS)
        return SP_FAIL(err, SP_EUNSUPPORTED, "chains of %zu steps: expected 1 to %d", model->n_steps, SP_MAX_STEPS);
    SP_TRY(sp_size_product(&unused, err, "latents", model->rows, model->columns, model->dim, sizeof(float)));
    if (model->rows * model->columns < 1 || model->rows * model->columns > SP_MAX_CHAIN_PASSES)
        return SP_FAIL(err, SP_EUNSUPPORTED, "a grid of %zu x %zu tokens: expected 1 to %d", model->rows,
                       model->columns, SP_MAX_CHAIN_PASSES);
    if (max_window < 1) return SP_FAIL(err, SP_EARG, "window: 0 positions; expected 1 or more");
    if (drafter && (drafter->dim != model->dim || drafter->n_steps != model->n_steps ||
                    drafter->rows != model->rows || drafter->columns != model->columns))
        return SP_FAIL(err, SP_EFORMAT,
                       "drafter: %zu x %zu latents of %zu numbers in %zu steps, and the model has %zu x %zu of %zu in "
                       "%zu; use a drafter of the same latents",
                       drafter->rows, drafter->columns, drafter->dim, drafter->n_steps, model->rows, model->columns,
                       model->dim, model->n_steps);
    return sp_size_product(&unused, err, "chains", max_window, model->n_steps, model->dim, sizeof(float));
}

sp_status sp_chain_decoder_open(sp_chain_decoder **out, const sp_latent_model *model, const sp_latent_model *drafter,
                                sp_pool *pool, size_t max_window, sp_error *err)
{
    *out = NULL;
    SP_TRY(check_sizes(model, drafter, max_window, err));
    sp_chain_decoder *d = sp_alloc(1, sizeof *d);
    sp_chain_memory *memory = sp_alloc(1, sizeof *memory);
    if (!d || !memory) {
        sp_release(d);
        sp_release(memory);
        return SP_FAIL(err, SP_ENOMEM, "chain decoder: no memory");
    }
    *d = (sp_chain_decoder){.dim = model->dim, .n_steps = model->n_steps, .columns = model->columns,
                            .n_positions = model->rows * model->columns, .max_window = max_window, .memory = memory};
    memory->pool = pool;
    take(d);
    sp_status status = sp_arena_commit(&memory->arena, "chains", err);
    if (status != SP_OK) {
        sp_chain_decoder_close(d);
        return status;
    }
    take(d);
    *out = d;
    return SP_OK;
}

void sp_chain_decoder_close(sp_chain_decoder *d)
{
    if (!d) return;
    sp_arena_free(&d->memory->arena);
    sp_release(d->memory);
    sp_release(d);
}

size_t sp_chain_decoder_bytes(const sp_chain_decoder *d) { return d->memory->arena.bytes; }

sp_status sp_chain_feed(sp_chain_decoder *d, const sp_latent_model *model, size_t first, size_t n, size_t *fed,
                        size_t *at, sp_error *err)
{
    double before = sp_clock_ms();
    size_t start = *fed == 0 ? 0 : *fed + 1 < first ? *fed + 1 : first;
    while (first + n - start > d->max_window) {
        size_t some = first - start < d->max_window ? first - start : d->max_window;
        SP_TRY(model->ops->condition(model->state, start, some, d->latents + start * d->dim - d->dim, err));
        start += some;
    }
    SP_TRY(model->ops->condition(model->state, start, first + n - start, d->latents + start * d->dim - d->dim, err));
    *at = first - start;
    *fed = first + n - 1;
    d->condition_ms += sp_clock_ms() - before;
    return SP_OK;
}

void sp_chain_start(sp_chain_decoder *d, const sp_chain_plan *plan, sp_draw_purpose purpose, size_t first, size_t n)
{
    sp_chain_memory *m = d->memory;
    for (size_t i = 0; i < n; i++) {
        m->draw[i] = (sp_chain_draw){plan->seed, plan->image, (uint32_t)(first + i), (uint32_t)d->passes};
        sp_chain_noise(&m->draw[i], purpose, 0, d->dim, m->state + i * d->dim);
    }
}

sp_status sp_chain_on_device(sp_chain_decoder *d, const sp_latent_model *model, const sp_chain_plan *plan,
                             sp_draw_purpose purpose, size_t first, size_t n, size_t at, bool remember, size_t n_paths,
                             sp_error *err)
{
    sp_chain_memory *m = d->memory;
    for (size_t j = 0; j < n; j++) {
        m->draw[j] = (sp_chain_draw){plan->seed, plan->image, (uint32_t)(first + j), (uint32_t)d->passes};
        m->row[j] = (int32_t)(at + j);
        m->position[j] = (uint32_t)(first + j);
    }
    return model->ops->chains(model->state, &(sp_device_chains){
        .n = n, .row = m->row, .position = m->position, .seed = plan->seed, .image = plan->image,
        .pass = (uint32_t)d->passes, .purpose = purpose, .remember = remember, .n_coupled = n_paths,
        .state = m->state, .mean = m->mean, .deviation = m->deviation}, err);
}

sp_status sp_chain_finite(const sp_chain_decoder *d, size_t first, size_t n, const float *states, sp_error *err)
{
    size_t bad = sp_chain_not_finite(states, n, d->dim);
    if (bad == n) return SP_OK;
    return SP_FAIL(err, SP_EFORMAT,
                   "token %zu: its chain of %zu steps ended in a number that is not finite; check the checkpoint's "
                   "numbers, --cfg-scale and --temperature",
                   first + bad, d->n_steps);
}

void sp_chain_reset(sp_chain_decoder *d)
{
    memset(d->pass_of_token, 0, d->n_positions * sizeof *d->pass_of_token);
    memset(d->histogram, 0, sizeof d->histogram);
    d->passes = d->drafted = d->accepted = d->draft_passes = 0;
    d->prefill_ms = d->decode_ms = d->condition_ms = d->chain_ms = 0;
    d->memory->known = d->memory->fed = d->memory->drafter_fed = 0;
}

static sp_status check_noise(const sp_latent_model *model, const sp_chain_plan *plan, sp_error *err)
{
    const sp_chain_ops *rule = plan->rule;
    if (!rule->compares) return SP_OK;
    if (model->degenerate || (plan->drafter && plan->drafter->degenerate))
        return SP_FAIL(err, SP_EARG, "%s: the last step of this model's chains adds no noise, and there is nothing to "
                       "compare; use --method ar", rule->name);
    if (!(plan->guidance.temperature > 0))
        return SP_FAIL(err, SP_EARG, "%s: at temperature %g chains have no noise, and there is nothing to compare; use "
                       "--method ar", rule->name, (double)plan->guidance.temperature);
    return SP_OK;
}

sp_status sp_chain_check_drafting(const sp_chain_plan *plan, bool drafter, size_t most, sp_error *err)
{
    const sp_chain_settings *s = &plan->settings;
    if (!plan->rule->needs_drafter) return SP_OK;
    if (!drafter)
        return SP_FAIL(err, SP_EARG, "%s: drafts come from a second model and there is none", plan->rule->name);
    if (s->gamma < 1 || s->gamma > most)
        return SP_FAIL(err, SP_EARG, "gamma %zu: expected 1 to %zu", s->gamma, most);
    if (!(s->prefill >= 0 && s->prefill <= 1))
        return SP_FAIL(err, SP_EARG, "prefill %g: expected 0 to 1", (double)s->prefill);
    if (!(s->tolerance >= 0 && isfinite(s->tolerance)))
        return SP_FAIL(err, SP_EARG, "tolerance %g: expected 0 or more", (double)s->tolerance);
    return SP_OK;
}

static sp_status check_plan(const sp_chain_decoder *d, const sp_latent_model *model, const sp_chain_plan *plan,
                            sp_error *err)
{
    const sp_chain_ops *rule = plan->rule;
    const sp_chain_settings *s = &plan->settings;
    const char *name = plan->draft_init;
    SP_TRY(check_noise(model, plan, err));
    if (strcmp(name, "left") && strcmp(name, "above") && strcmp(name, "uniform"))
        return SP_FAIL(err, SP_EARG, "draft-init '%s': expected left, above or uniform", name);
    if (s->path_front && rule->front && !model->fixed_deviation)
        return SP_FAIL(err, SP_EARG, "front path: this model's deviations depend on the state; use --front %s",
                       rule->name);
    return sp_chain_check_drafting(plan, plan->drafter && plan->drafter->ops, d->max_window - rule->bonus, err);
}

/* Positions of the next pass. */
static size_t rows_of(const sp_chain_decoder *d, const sp_chain_plan *plan, bool drafting)
{
    if (drafting) return plan->settings.gamma + plan->rule->bonus;
    if (!plan->rule->drafts || plan->rule->needs_drafter) return 1;
    if (plan->window) return plan->window;
    return sp_pacer_window(&d->pacer, d->max_window < d->n_positions ? d->max_window : d->n_positions);
}

static void count(sp_chain_decoder *d, size_t first, size_t n_final)
{
    d->passes++;
    d->histogram[n_final]++;
    for (size_t j = 0; j < n_final; j++) d->pass_of_token[first + j] = (int32_t)d->passes;
}

sp_status sp_chain_decode(sp_chain_decoder *d, const sp_latent_model *model, const sp_chain_plan *plan, sp_error *err)
{
    SP_TRY(check_plan(d, model, plan, err));
    sp_chain_reset(d);
    const sp_latent_model *drafter = plan->rule->needs_drafter ? plan->drafter : NULL;
    double start = sp_clock_ms();
    SP_TRY(model->ops->begin(model->state, &plan->prompt, &plan->guidance, err));
    if (drafter) SP_TRY(drafter->ops->begin(drafter->state, &plan->prompt, &plan->guidance, err));
    double begun = sp_clock_ms();
    d->prefill_ms = begun - start;
    size_t alone = drafter ? (size_t)((double)plan->settings.prefill * (double)d->n_positions) : 0;
    for (size_t first = 0, n_final = 0; first < d->n_positions; first += n_final) {
        bool drafting = drafter && first >= alone;
        size_t n = rows_of(d, plan, drafting), asked = n;
        if (n > d->max_window) n = d->max_window;
        if (n > d->n_positions - first) n = d->n_positions - first;
        double before = d->condition_ms + d->chain_ms;
        if (drafting) SP_TRY(sp_chain_draft_pass(d, model, plan, first, n, &n_final, err));
        else SP_TRY(sp_chain_window_pass(d, model, plan, first, n, &n_final, err));
        if (n_final < 1 || n_final > n)
            return SP_FAIL(err, SP_EBUG, "%s: %zu of %zu rows are final", plan->rule->name, n_final, n);
        count(d, first, n_final);
        d->decode_ms = sp_clock_ms() - begun;
        /* As in decode.c: the next window may follow from what is final and from load, never from drafts. */
        if (plan->rule->drafts && !drafter && n == asked)
            sp_pacer_record(&d->pacer, n, (double)n_final, d->condition_ms + d->chain_ms - before);
        sp_progress progress = {first + n_final, d->n_positions, d->passes, d->pass_of_token, 1};
        if (plan->progress && !plan->progress(plan->user, &progress))
            return SP_FAIL(err, SP_ECANCELLED, "interrupted after %zu of %zu tokens", first + n_final, d->n_positions);
    }
    return SP_OK;
}
