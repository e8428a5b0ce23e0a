#include "decode/window.h"

#include <string.h>

#include "base/size.h"

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

sp_model_window sp_window_fed(sp_decoder *d, size_t first, size_t n)
{
    sp_frontier *f = &d->frontier;
    sp_frontier_grow(f, d->tokens + first, n, d->max_window);
    f->ids[0] = first > 0 ? d->tokens[first - 1] : 0;
    sp_model_window fed = {.first = first, .n = f->n, .ids = f->ids, .logits = d->logits};
    if (f->n_branches > 0) fed.parents = f->parents;
    return fed;
}

void sp_window_score(sp_decoder *d, const sp_decode_plan *plan, size_t first)
{
    const sp_frontier *f = &d->frontier;
    const sp_sampling *s = &plan->sampling;
    bool guided = s->cfg_scale != 1.0f;
    float inverse = s->temperature > 0 ? 1.0f / s->temperature : 1.0f;
    for (size_t j = 0; j < f->n; j++) {
        float *scores = d->logits + j * d->n_codes;
        const float *free_logits = guided ? d->logits + (f->n + j) * d->n_codes : NULL;
        d->ops->guide(scores, free_logits, s->cfg_scale, inverse, d->n_codes, scores);
        d->rows[j] = (sp_accept_row){.scores = scores};
        size_t position = first + (size_t)f->depth[j];
        if (plan->rule->records) d->rows[j].law = &d->laws[position % d->max_window];
        else if (s->temperature > 0) d->rows[j].noise = noise_at(d, s, position);
    }
}

void sp_window_reset(sp_decoder *d)
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

sp_status sp_window_settle(sp_decoder *d, const sp_decode_plan *plan, size_t first, size_t n, size_t *known,
                           size_t *branch, size_t *n_final, sp_error *err)
{
    sp_accept_window window = {.position = first, .pass = (uint32_t)d->passes, .n_rows = n,
                               .n_drafts = *known < first + n ? n - 1 : n, .n_codes = d->n_codes, .rows = d->rows,
                               .drafts = d->tokens + first, .tokens = d->settled, .sampling = &plan->sampling,
                               .relaxation = &plan->relaxation, .ops = d->ops, .scratch = d->scratch,
                               .deviation = &d->deviation};
    *branch = 0;
    if (d->frontier.n_branches > 0) SP_TRY(settle_branches(d, plan, &window, branch, n_final, err));
    else SP_TRY(plan->rule->accept(&window, n_final, err));
    if (*n_final < 1 || *n_final > n)
        return SP_FAIL(err, SP_EBUG, "%s: %zu of %zu rows are final", plan->rule->name, *n_final, n);
    memcpy(d->tokens + first, d->settled, n * sizeof *d->tokens);
    d->drafted += d->frontier.n - 1;
    d->frontier.n_guesses = 0;
    if (plan->branches > 1 && plan->rule->guess && *n_final < n)
        d->frontier.n_guesses = plan->rule->guess(&window, *n_final, plan->branches - 1, d->frontier.guess);
    /* Drafts beyond this window, from a longer one before, were made for other tokens: they are kept as guesses. */
    if (*known < first + n) *known = first + n;
    return SP_OK;
}
