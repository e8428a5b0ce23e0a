#include "decode/decode.h"

#include <string.h>

#include "base/arena.h"
#include "base/clock.h"
#include "base/size.h"
#include "decode/account.h"
#include "decode/device.h"
#include "decode/tree_pass.h"

static void take(sp_decoder *d)
{
    size_t padded = sp_round_up(d->n_codes, 4), window = d->max_window;
    d->tokens = sp_arena_take(d->arena, d->n_positions, sizeof *d->tokens);
    d->pass_of_token = sp_arena_take(d->arena, d->n_positions, sizeof *d->pass_of_token);
    d->frontier.ids = sp_arena_take(d->arena, window, sizeof(int32_t));
    d->frontier.parents = sp_arena_take(d->arena, window, sizeof(int32_t));
    d->frontier.depth = sp_arena_take(d->arena, window, sizeof(int32_t));
    d->path = sp_arena_take(d->arena, window, sizeof *d->path);
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
                      .max_window = max_window};
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

/* Feeds the last final token and the drafts after it, in the shape of the frontier; leaves the scores in d->rows. */
static sp_status score(sp_decoder *d, const sp_model *model, const sp_decode_plan *plan, size_t first, sp_error *err)
{
    const sp_frontier *f = &d->frontier;
    size_t n = f->n;
    const sp_sampling *s = &plan->sampling;
    bool guided = s->cfg_scale != 1.0f;
    float inverse = s->temperature > 0 ? 1.0f / s->temperature : 1.0f;
    f->ids[0] = first > 0 ? d->tokens[first - 1] : 0;
    sp_model_window fed = {.first = first, .n = n, .ids = f->ids, .logits = d->logits};
    if (f->n_branches > 0) fed.parents = f->parents;
    SP_TRY(model->ops->forward(model->state, &fed, err));
    for (size_t j = 0; j < n; j++) {
        float *scores = d->logits + j * d->n_codes;
        const float *free_logits = guided ? d->logits + (n + j) * d->n_codes : NULL;
        d->ops->guide(scores, free_logits, s->cfg_scale, inverse, d->n_codes, scores);
        d->rows[j] = (sp_accept_row){.scores = scores};
        size_t position = first + (size_t)f->depth[j];
        if (plan->rule->records) d->rows[j].law = &d->laws[position % d->max_window];
        else if (s->temperature > 0) d->rows[j].noise = noise_at(d, s, position);
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
    d->frontier.n_guesses = 0;
}

/* Rows from .. from + n - 1 of a window as one of their own. */
static sp_accept_window part(const sp_accept_window *window, size_t from, size_t n)
{
    sp_accept_window out = *window;
    out.position += from;
    out.rows += from;
    out.tokens += from;
    out.drafts += from;
    out.n_rows = n;
    out.n_drafts = window->n_drafts - from < n ? window->n_drafts - from : n;
    return out;
}

/* The first token is one of several guesses; the rule goes on along the branch of the right one, and the chain gives
 * the drafts beyond it. *branch is the branch's first row, or 0. */
static sp_status settle_branches(sp_decoder *d, const sp_decode_plan *plan, const sp_accept_window *window,
                                 size_t *branch, size_t *n_final, sp_error *err)
{
    const sp_frontier *f = &d->frontier;
    size_t chosen, along, rest = 1;
    int32_t token = 0;
    SP_TRY(plan->rule->choose(window, f->guess, f->n_branches, &chosen, &token, err));
    if (chosen == 0) token = window->drafts[0];
    else if (chosen <= f->n_branches) token = f->guess[chosen - 1];
    d->settled[0] = token;
    *n_final = 1;
    *branch = 0;
    if (0 < chosen && chosen <= f->n_branches) {
        size_t length = f->length[chosen - 1];
        *branch = f->first[chosen - 1];
        /* Its rows replace those of the chain at the same positions, which saw another token. */
        memcpy(d->rows + 1, d->rows + *branch, length * sizeof *d->rows);
        sp_accept_window rows = part(window, 1, length);
        SP_TRY(plan->rule->accept(&rows, &along, err));
        *n_final += along;
        rest += length;
    }
    if (rest == window->n_rows) return SP_OK;
    sp_accept_window rows = part(window, rest, window->n_rows - rest);
    SP_TRY(plan->rule->accept(&rows, &along, err));
    if (chosen == 0) *n_final += along;
    return SP_OK;
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
    sp_frontier_grow(&d->frontier, d->tokens + first, n, d->max_window);
    double before = sp_clock_ms();
    SP_TRY(score(d, model, plan, first, err));
    *ms = sp_clock_ms() - before;
    sp_accept_window window = {.position = first, .pass = (uint32_t)d->passes, .n_rows = n,
                               .n_drafts = *known < first + n ? n - 1 : n, .n_codes = d->n_codes, .rows = d->rows,
                               .drafts = d->tokens + first, .tokens = d->settled, .sampling = &plan->sampling,
                               .relaxation = &plan->relaxation, .ops = d->ops, .scratch = d->scratch,
                               .deviation = &d->deviation};
    size_t branch = 0;
    if (d->frontier.n_branches > 0) SP_TRY(settle_branches(d, plan, &window, &branch, n_final, err));
    else SP_TRY(plan->rule->accept(&window, n_final, err));
    if (*n_final < 1 || *n_final > n)
        return SP_FAIL(err, SP_EBUG, "%s: %zu of %zu rows are final", plan->rule->name, *n_final, n);
    memcpy(d->tokens + first, d->settled, n * sizeof *d->tokens);
    d->drafted += d->frontier.n - 1;
    if (d->frontier.n_branches > 0) {
        d->path[0] = 0;
        for (size_t i = 1; i < *n_final; i++) d->path[i] = (int32_t)((branch ? branch - 1 : 0) + i);
        SP_TRY(model->ops->keep(model->state, first, d->path, *n_final, err));
    }
    d->frontier.n_guesses = 0;
    if (plan->branches > 1 && plan->rule->guess && *n_final < n)
        d->frontier.n_guesses = plan->rule->guess(&window, *n_final, plan->branches - 1, d->frontier.guess);
    /* Drafts beyond this window, from a longer one before, were made for other tokens: they are kept as guesses. */
    if (*known < first + n) *known = first + n;
    return SP_OK;
}

sp_status sp_decode_begin(sp_decoder *d, const sp_model *model, const sp_decode_plan *plan, double *begun,
                          sp_error *err)
{
    bool guided = plan->sampling.cfg_scale != 1.0f;
    sp_tree *tree = plan->rule->walk ? plan->tree : NULL;
    double start = sp_clock_ms();
    reset(d);
    SP_TRY(model->ops->begin(model->state, &plan->prompt, guided, tree ? tree->prefix_features : NULL, err));
    if (tree) SP_TRY(tree->draft.ops->begin(tree->draft.state, tree->prefix_features, guided, err));
    *begun = sp_clock_ms();
    d->prefill_ms = *begun - start;
    return SP_OK;
}

sp_status sp_decode(sp_decoder *d, const sp_model *model, const sp_decode_plan *plan, sp_error *err)
{
    double begun, ms = 0;
    SP_TRY(sp_decode_begin(d, model, plan, &begun, err));
    if (sp_device_can_decode(d, plan)) return sp_device_decode(d, plan, begun, err);
    for (size_t first = 0, known = 0, n_final = 0; first < d->n_positions; first += n_final) {
        size_t n = sp_decode_rows(d, plan), asked = n;
        if (!plan->rule->walk && n > d->n_positions - first) n = d->n_positions - first;
        if (plan->rule->walk) SP_TRY(sp_tree_pass(d, model, plan, first, n, &n_final, err));
        else SP_TRY(pass(d, model, plan, first, n, &known, &n_final, &ms, err));
        sp_decode_count(d, first, n_final);
        d->decode_ms = sp_clock_ms() - begun;
        /* The next window may follow from what is final and from load, never from drafts, or the law of an exact rule
         * is lost: so the time is that of the model, which takes any tokens alike, without the rule's. */
        if (plan->rule->drafts && !plan->rule->walk && n == asked) sp_pacer_record(&d->pacer, n, (double)n_final, ms);
        SP_TRY(sp_decode_progress(d, plan, first + n_final, 1, err));
    }
    return SP_OK;
}
