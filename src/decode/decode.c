#include "decode/decode.h"

#include <string.h>

#include "base/arena.h"
#include "base/clock.h"
#include "base/size.h"
#include "decode/account.h"
#include "decode/device.h"
#include "decode/tree_pass.h"
#include "decode/window.h"

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
    sp_model_window fed = sp_window_fed(d, first, n);
    double before = sp_clock_ms();
    SP_TRY(model->ops->forward(model->state, &fed, err));
    size_t branch;
    sp_window_score(d, plan, first);
    *ms = sp_clock_ms() - before;
    SP_TRY(sp_window_settle(d, plan, first, n, known, &branch, n_final, err));
    if (d->frontier.n_branches == 0) return SP_OK;
    d->path[0] = 0;
    for (size_t i = 1; i < *n_final; i++) d->path[i] = (int32_t)((branch ? branch - 1 : 0) + i);
    return model->ops->keep(model->state, first, d->path, *n_final, err);
}

sp_status sp_decode_begin(sp_decoder *d, const sp_model *model, const sp_decode_plan *plan, double *begun,
                          sp_error *err)
{
    bool guided = plan->sampling.cfg_scale != 1.0f;
    sp_tree *tree = plan->rule->walk ? plan->tree : NULL;
    double start = sp_clock_ms();
    sp_window_reset(d);
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
