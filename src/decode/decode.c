#include "decode/decode.h"

#include <string.h>
#include <time.h>

#include "base/arena.h"
#include "base/size.h"

static double now_ms(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec * 1e3 + (double)t.tv_nsec * 1e-6;
}

static void take(sp_decoder *d)
{
    size_t padded = sp_round_up(d->n_codes, 4), window = d->max_window;
    d->tokens = sp_arena_take(d->arena, d->n_positions, sizeof *d->tokens);
    d->pass_of_token = sp_arena_take(d->arena, d->n_positions, sizeof *d->pass_of_token);
    d->fed = sp_arena_take(d->arena, window, sizeof *d->fed);
    d->settled = sp_arena_take(d->arena, window, sizeof *d->settled);
    d->logits = sp_arena_take(d->arena, 2 * window, d->n_codes * sizeof(float));
    d->memory = sp_arena_take(d->arena, window, padded * sizeof(float));
    d->noise_of = sp_arena_take(d->arena, window, sizeof *d->noise_of);
    d->laws = sp_arena_take(d->arena, window, sizeof *d->laws);
    for (size_t i = 0; d->laws && i < window; i++) d->laws[i].probability = d->memory + i * padded;
    d->rows = sp_arena_take(d->arena, window, sizeof *d->rows);
    d->scratch = sp_arena_take(d->arena, d->n_codes, sizeof(float));
}

sp_status sp_decoder_open(sp_decoder **out, size_t n_codes, size_t rows, size_t columns, const sp_ops *ops,
                          size_t max_window, sp_error *err)
{
    *out = NULL;
    sp_decoder *d = sp_alloc(1, sizeof *d);
    sp_arena *arena = sp_alloc(1, sizeof *arena);
    if (!d || !arena) {
        sp_release(d);
        sp_release(arena);
        return SP_FAIL(err, SP_ENOMEM, "decoder: no memory");
    }
    size_t positions = rows * columns;
    *d = (sp_decoder){.n_codes = n_codes, .n_positions = positions, .columns = columns, .ops = ops, .arena = arena,
                      .max_window = max_window < positions ? max_window : positions};
    take(d);
    sp_status status = sp_arena_commit(arena, "window", err);
    if (status != SP_OK) {
        sp_decoder_close(d);
        return status;
    }
    take(d);
    *out = d;
    return SP_OK;
}

void sp_decoder_close(sp_decoder *d)
{
    if (!d) return;
    sp_arena_free(d->arena);
    sp_release(d->arena);
    sp_release(d);
}

size_t sp_decoder_bytes(const sp_decoder *d) { return d->arena->bytes; }

/* Noise belongs to the absolute position: a position keeps the slot it has while it is in the window. */
static const float *noise_at(sp_decoder *d, const sp_sampling *s, size_t position)
{
    size_t slot = position % d->max_window, padded = sp_round_up(d->n_codes, 4);
    float *noise = d->memory + slot * padded;
    if (d->noise_of[slot] != position + 1) {
        d->ops->gumbel(s->seed, s->image, (uint32_t)position, padded, noise);
        d->noise_of[slot] = position + 1;
    }
    return noise;
}

/* Feeds the last final token and the drafts after it; leaves the scores of rows first .. first + n - 1 in d->rows. */
static sp_status score(sp_decoder *d, const sp_model *model, const sp_decode_plan *plan, size_t first, size_t n,
                       sp_error *err)
{
    const sp_sampling *s = &plan->sampling;
    bool guided = s->cfg_scale != 1.0f;
    float inverse = s->temperature > 0 ? 1.0f / s->temperature : 1.0f;
    d->fed[0] = first > 0 ? d->tokens[first - 1] : 0;
    for (size_t j = 1; j < n; j++) d->fed[j] = d->tokens[first + j - 1];
    sp_model_window fed = {.first = first, .n = n, .ids = d->fed, .logits = d->logits};
    SP_TRY(model->ops->forward(model->state, &fed, err));
    for (size_t j = 0; j < n; j++) {
        float *scores = d->logits + j * d->n_codes;
        const float *free_logits = guided ? d->logits + (n + j) * d->n_codes : NULL;
        d->ops->guide(scores, free_logits, s->cfg_scale, inverse, d->n_codes, scores);
        d->rows[j] = (sp_accept_row){.scores = scores};
        if (plan->rule->records) d->rows[j].law = &d->laws[(first + j) % d->max_window];
        else if (s->temperature > 0) d->rows[j].noise = noise_at(d, s, first + j);
    }
    return SP_OK;
}

static void reset(sp_decoder *d)
{
    memset(d->pass_of_token, 0, d->n_positions * sizeof *d->pass_of_token);
    memset(d->noise_of, 0, d->max_window * sizeof *d->noise_of);
    memset(d->histogram, 0, sizeof d->histogram);
    d->passes = d->drafted = d->accepted = 0;
    d->deviation = 0;
}

/* One pass from position first; *known is how many positions hold a token or a draft. *n_final: how many are final;
 * *ms: the model's time. */
static sp_status pass(sp_decoder *d, const sp_model *model, const sp_decode_plan *plan, size_t first, size_t n,
                      size_t *known, size_t *n_final, double *ms, sp_error *err)
{
    for (; *known < first + n - 1; ++*known) {
        sp_draft_query query = {d->tokens, *known, d->columns, d->n_codes, &plan->sampling};
        sp_draft draft = plan->drafter(&query);
        d->tokens[*known] = draft.token;
        d->laws[*known % d->max_window].kind = draft.kind;
    }
    double before = now_ms();
    SP_TRY(score(d, model, plan, first, n, err));
    *ms = now_ms() - before;
    sp_accept_window window = {.position = first, .pass = (uint32_t)d->passes, .n_rows = n,
                               .n_drafts = *known < first + n ? n - 1 : n, .n_codes = d->n_codes, .rows = d->rows,
                               .drafts = d->tokens + first, .tokens = d->settled, .sampling = &plan->sampling,
                               .relaxation = &plan->relaxation, .ops = d->ops, .scratch = d->scratch,
                               .deviation = &d->deviation};
    SP_TRY(plan->rule->accept(&window, n_final, err));
    if (*n_final < 1 || *n_final > n)
        return SP_FAIL(err, SP_EBUG, "%s: %zu of %zu rows are final", plan->rule->name, *n_final, n);
    memcpy(d->tokens + first, d->settled, n * sizeof *d->tokens);
    /* Drafts beyond this window, from a longer one before, were made for other tokens: they are kept as guesses. */
    if (*known < first + n) *known = first + n;
    d->passes++;
    d->drafted += n - 1;
    d->accepted += *n_final - 1;
    d->histogram[*n_final]++;
    for (size_t j = 0; j < *n_final; j++) d->pass_of_token[first + j] = (int32_t)d->passes;
    return SP_OK;
}

sp_status sp_decode(sp_decoder *d, const sp_model *model, const sp_decode_plan *plan, sp_error *err)
{
    reset(d);
    double start = now_ms();
    SP_TRY(model->ops->begin(model->state, &plan->prompt, plan->sampling.cfg_scale != 1.0f, NULL, err));
    double begun = now_ms(), ms;
    for (size_t first = 0, known = 0, n_final = 0; first < d->n_positions; first += n_final) {
        size_t limit = d->max_window, n = 1;
        if (plan->rule->drafts) n = plan->window ? plan->window : sp_pacer_window(&d->pacer, limit);
        size_t asked = n;
        if (n > limit) n = limit;
        if (n > d->n_positions - first) n = d->n_positions - first;
        SP_TRY(pass(d, model, plan, first, n, &known, &n_final, &ms, err));
        d->decode_ms = now_ms() - begun;
        /* The next window may follow from what is final and from load, never from drafts, or the law of an exact rule
         * is lost: so the time is that of the model, which takes any tokens alike, without the rule's. */
        if (plan->rule->drafts && n == asked) sp_pacer_record(&d->pacer, n, n_final, ms);
        sp_progress progress = {first + n_final, d->n_positions, d->passes, d->pass_of_token};
        if (plan->progress && !plan->progress(plan->user, &progress))
            return SP_FAIL(err, SP_ECANCELLED, "interrupted after %zu of %zu tokens", first + n_final, d->n_positions);
    }
    d->prefill_ms = begun - start;
    return SP_OK;
}
