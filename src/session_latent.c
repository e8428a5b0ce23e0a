/* The part of a session that makes continuous tokens. */
#include <stdatomic.h>
#include <string.h>

#include "session.h"

sp_status sp_session_open_latent(sp_session *s, sp_error *err)
{
    const sp_engine *e = s->engine;
    size_t window = sp_session_window(e);
    SP_TRY(sp_latent_context_open(&s->latent, e->latent, s->pool, window, err));
    if (e->config.masked) {
        sp_masked_model masked = sp_latent_context_masked(s->latent);
        SP_TRY(sp_masked_decoder_open(&s->masked, &masked, NULL, s->pool, err));
        s->chains = s->masked->chains;
        return SP_OK;
    }
    sp_latent_model model = sp_latent_context_model(s->latent);
    return sp_chain_decoder_open(&s->chains, &model, NULL, s->pool, window, err);
}

sp_status sp_session_open_draft(sp_session *s, sp_error *err)
{
    const sp_latent *draft = atomic_load(&s->engine->draft);
    return s->draft ? SP_OK : sp_latent_context_open(&s->draft, draft, s->pool, s->chains->max_window, err);
}

size_t sp_session_latent_bytes(const sp_session *s)
{
    return sp_latent_context_bytes(s->latent) + sp_latent_context_device_bytes(s->latent) +
           (s->masked ? sp_masked_decoder_bytes(s->masked) : sp_chain_decoder_bytes(s->chains));
}

static void report(const sp_chain_decoder *d, sp_result *to)
{
    to->n_tokens = d->n_positions;
    to->latents = d->latents;
    to->latent_dim = d->dim;
    to->pass_of_token = d->pass_of_token;
    to->nfe = d->passes;
    to->drafted = d->drafted;
    to->accepted = d->accepted;
    to->draft_passes = d->draft_passes;
    memcpy(to->histogram, d->histogram, sizeof to->histogram);
    to->prefill_ms = d->prefill_ms;
    to->decode_ms = d->decode_ms;
    to->condition_ms = d->condition_ms;
    to->chain_ms = d->chain_ms;
}

static sp_chain_plan plan_of(const sp_request *r, const sp_model_prompt *prompt)
{
    return (sp_chain_plan){
        .rule = sp_chain_find(r->method), .window = (size_t)r->window,
        .settings = {strcmp(r->front, "path") == 0, (size_t)r->gamma, r->prefill, r->align, r->tolerance},
        .guidance = {r->cfg_scale, r->temperature}, .draft_init = r->draft_init, .seed = r->seed,
        .image = r->image, .prompt = *prompt, .progress = r->progress, .user = r->user};
}

static sp_status decode_masked(sp_session *s, const sp_chain_plan *chain, size_t passes, sp_error *err)
{
    sp_masked_model model = sp_latent_context_masked(s->latent), draft = {0};
    if (s->draft) draft = sp_latent_context_masked(s->draft);
    sp_masked_plan plan = {*chain, passes, &model, s->draft ? &draft : NULL};
    return sp_masked_decode(s->masked, &plan, err);
}

static sp_status decode_causal(sp_session *s, sp_chain_plan *plan, sp_error *err)
{
    sp_latent_model model = sp_latent_context_model(s->latent), draft = {0};
    if (s->draft) draft = sp_latent_context_model(s->draft);
    if (s->draft) plan->drafter = &draft;
    return sp_chain_decode(s->chains, &model, plan, err);
}

sp_status sp_session_decode_latent(sp_session *s, const sp_request *r, const sp_model_prompt *prompt, sp_error *err)
{
    sp_chain_plan plan = plan_of(r, prompt);
    SP_TRY(s->masked ? decode_masked(s, &plan, (size_t)r->passes, err) : decode_causal(s, &plan, err));
    report(s->chains, &s->result);
    return SP_OK;
}
