/* Teacher forcing: finished tokens go through the model as drafts do, a window at a time. */
#include <math.h>

#include "base/philox.h"
#include "session.h"

/* From scores [n_codes] and the token that stands at a position. v in [0, 1) is the part of the token's own
 * probability that counts as ahead of it. */
static sp_token_score score_one(const sp_accept_window *w, const float *scores, int32_t token, double v)
{
    size_t n = w->n_codes, best = 0;
    for (size_t i = 1; i < n; i++)
        if (scores[i] > scores[best]) best = i;
    double top = (double)scores[best], own = (double)scores[token], all = 0, kept = 0, ahead = 0, level = 0;
    float threshold = w->sampling->temperature > 0 ? sp_sample_threshold(w, scores) : scores[best];
    for (size_t i = 0; i < n; i++) {
        double weight = exp((double)scores[i] - top);
        all += weight;
        if (scores[i] < threshold) continue;
        kept += weight;
        if (scores[i] > scores[token]) ahead += weight;
        if (scores[i] == scores[token]) level += weight;
    }
    return (sp_token_score){(float)(own - top - log(all)), (float)((ahead + v * level) / kept)};
}

static double uniform(const sp_request *r, size_t position)
{
    return (double)sp_philox(r->seed, 0, (uint32_t)position, SP_DRAW_RANK, r->image).word[0] / 4294967296.0;
}

static sp_status check_tokens(const sp_decoder *d, const int32_t *tokens, sp_error *err)
{
    for (size_t i = 0; i < d->n_positions; i++)
        if (tokens[i] < 0 || (size_t)tokens[i] >= d->n_codes)
            return SP_FAIL(err, SP_EARG, "token %zu is %d: expected 0 to %zu, the codes of this model", i,
                           (int)tokens[i], d->n_codes - 1);
    return SP_OK;
}

sp_status sp_score_tokens(sp_session *s, const sp_request *r, const int32_t *tokens, sp_token_score *scores,
                          sp_error *err)
{
    SP_TRY(sp_request_check(s->engine, r, err));
    sp_decoder *d = s->decoder;
    if (!d)
        return SP_FAIL(err, SP_EUNSUPPORTED, "scores: this model's tokens are continuous, and their laws have no "
                       "closed form");
    SP_TRY(check_tokens(d, tokens, err));
    sp_model_prompt prompt;
    SP_TRY(sp_session_prompt(s, r, &prompt, err));
    sp_model model = sp_context_model(s->context);
    sp_sampling sampling = {r->seed, r->image, r->cfg_scale, r->temperature, r->top_k, r->top_p};
    sp_accept_window window = {.n_codes = d->n_codes, .sampling = &sampling, .ops = d->ops, .scratch = d->scratch};
    bool guided = r->cfg_scale != 1.0f;
    float inverse = r->temperature > 0 ? 1.0f / r->temperature : 1.0f;
    SP_TRY(model.ops->begin(model.state, &prompt, guided, NULL, err));
    for (size_t first = 0, n; first < d->n_positions; first += n) {
        n = d->n_positions - first < d->max_window ? d->n_positions - first : d->max_window;
        for (size_t j = 0; j < n; j++) d->frontier.ids[j] = first + j > 0 ? tokens[first + j - 1] : 0;
        sp_model_window fed = {.first = first, .n = n, .ids = d->frontier.ids, .logits = d->logits};
        SP_TRY(model.ops->forward(model.state, &fed, err));
        for (size_t j = 0; j < n; j++) {
            float *row = d->logits + j * d->n_codes;
            const float *free_logits = guided ? d->logits + (n + j) * d->n_codes : NULL;
            d->ops->guide(row, free_logits, r->cfg_scale, inverse, d->n_codes, row);
            scores[first + j] = score_one(&window, row, tokens[first + j], uniform(r, first + j));
            if (!isfinite(scores[first + j].log_p))
                return SP_FAIL(err, SP_EFORMAT, "model: the scores of position %zu are not numbers: the weights are "
                               "damaged, or --cfg-scale %g is too large", first + j, (double)r->cfg_scale);
        }
    }
    return SP_OK;
}
