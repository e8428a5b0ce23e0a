#include <stdatomic.h>
#include <string.h>

#include "acceptance/groups.h"
#include "base/clock.h"
#include "session.h"

size_t sp_session_window(const sp_engine *e)
{
    size_t positions = e->config.rows * e->config.columns;
    return sp_engine_continuous(e) && positions < SP_MAX_WINDOW ? positions : SP_MAX_WINDOW;
}

static void take(sp_session *s)
{
    size_t pixels = s->codec ? sp_codec_height(s->codec) * sp_codec_width(s->codec) : 0;
    s->prompt_ids = sp_arena_take(&s->arena, s->engine->config.prefix_length, sizeof *s->prompt_ids);
    s->group_of = sp_arena_take(&s->arena, s->engine->config.n_codes, sizeof *s->group_of);
    s->rgb = sp_arena_take(&s->arena, pixels, 3);
}

static sp_status open_codes(sp_session *s, sp_error *err)
{
    sp_engine *e = s->engine;
    const sp_model_config *c = &e->config;
    SP_TRY(sp_decoder_open(&s->decoder, c->n_codes, c->rows, c->columns, e->ops, sp_session_window(e), err));
    SP_TRY(sp_context_open(&s->context, e->transformer, s->pool, s->decoder->max_window, e->batch_size, err));
    return e->batch_size > 1 ? sp_session_open_batch(s, e->batch_size, err) : SP_OK;
}

static sp_status open_parts(sp_session *s, sp_error *err)
{
    sp_engine *e = s->engine;
    SP_TRY(sp_pool_open(&s->pool, e->n_threads, err));
    SP_TRY(e->latent ? sp_session_open_latent(s, err) : open_codes(s, err));
    if (e->codec_tensors) SP_TRY(sp_codec_open(&s->codec, &e->config.codec, e->codec_tensors, e->ops, s->pool, err));
    if (s->codec && e->device)
        SP_TRY(sp_codec_use_device(s->codec, e->codec_tensors, e->device->codecs, e->device_number, err));
    take(s);
    SP_TRY(sp_arena_commit(&s->arena, "picture", err));
    take(s);
    return SP_OK;
}

static size_t bytes_of(const sp_session *s)
{
    size_t bytes = s->arena.bytes + (s->codec ? sp_codec_bytes(s->codec) + sp_codec_device_bytes(s->codec) : 0);
    if (s->latent) return bytes + sp_session_latent_bytes(s);
    bytes += sp_context_bytes(s->context) + sp_context_device_bytes(s->context);
    return bytes + sp_decoder_bytes(s->decoder) + sp_session_batch_bytes(s);
}

sp_status sp_session_make(sp_session **out, sp_engine *engine, size_t *bytes, size_t *kv_bytes, sp_error *err)
{
    *out = NULL;
    sp_session *s = sp_alloc(1, sizeof *s);
    if (!s) return SP_FAIL(err, SP_ENOMEM, "session: no memory");
    s->engine = engine;
    sp_status status = open_parts(s, err);
    if (status != SP_OK) {
        sp_session_close(s);
        return status;
    }
    *bytes = bytes_of(s);
    *kv_bytes = s->latent ? sp_latent_context_kv_bytes(s->latent) : sp_context_kv_bytes(s->context);
    *out = s;
    return SP_OK;
}

sp_status sp_session_open(sp_session **out, sp_engine *engine, sp_error *err)
{
    size_t bytes, kv_bytes;
    *out = atomic_exchange(&engine->spare, NULL);
    return *out ? SP_OK : sp_session_make(out, engine, &bytes, &kv_bytes, err);
}

void sp_session_close(sp_session *s)
{
    if (!s) return;
    sp_codec_close(s->codec);
    sp_session_close_batch(s);
    sp_tree_close(s->tree);
    sp_eagle_context_close(s->drafter);
    sp_context_close(s->context);
    sp_decoder_close(s->decoder);
    if (s->masked) sp_masked_decoder_close(s->masked);
    else sp_chain_decoder_close(s->chains);
    sp_latent_context_close(s->draft);
    sp_latent_context_close(s->latent);
    sp_pool_close(s->pool);
    sp_arena_free(&s->arena);
    sp_release(s);
}

sp_status sp_session_prompt(sp_session *s, const sp_request *r, sp_model_prompt *out, sp_error *err)
{
    const sp_engine *e = s->engine;
    size_t count = 1, limit = e->config.prefix_length;
    if (e->config.from_text)
        SP_TRY(sp_tokenizer_encode(e->tokenizer, r->prompt, strlen(r->prompt), s->prompt_ids, limit, &count, err));
    else
        SP_TRY(sp_class_number(e, r->prompt, s->prompt_ids, err));
    s->result.prompt_tokens = count;
    *out = (sp_model_prompt){s->prompt_ids, count < limit ? count : limit};
    return SP_OK;
}

/* What a rule that walks needs, once in the life of a session. */
static sp_status open_tree(sp_session *s, sp_error *err)
{
    size_t window = s->decoder->max_window;
    sp_model model = sp_context_model(s->context);
    if (!s->drafter)
        SP_TRY(sp_eagle_context_open(&s->drafter, atomic_load(&s->engine->drafter), s->pool, window, err));
    sp_draft_model draft = sp_eagle_model(s->drafter, s->context);
    return s->tree ? SP_OK : sp_tree_open(&s->tree, &model, &draft, window, err);
}

static sp_status open_drafting(sp_session *s, sp_error *err)
{
    return s->latent ? sp_session_open_draft(s, err) : open_tree(s, err);
}

static size_t peak_bytes(const sp_session *s)
{
    size_t bytes = sp_engine_weight_bytes(s->engine) + s->engine->session_bytes;
    if (s->draft)
        bytes += sp_engine_drafter_bytes(s->engine) + sp_latent_context_bytes(s->draft) +
                 sp_latent_context_device_bytes(s->draft);
    if (s->tree)
        bytes += sp_engine_drafter_bytes(s->engine) + sp_eagle_context_bytes(s->drafter) +
                 sp_eagle_context_device_bytes(s->drafter) + sp_tree_bytes(s->tree);
    return bytes;
}

static sp_relaxation relaxation_of(sp_session *s, const sp_request *r)
{
    const sp_model_config *c = &s->engine->config;
    sp_relaxation out = {.codes = sp_codec_codes(s->codec), .code_dim = c->codec.code_dim,
                         .group_size = (size_t)r->group_size, .group_delta = r->group_delta,
                         .group_distance = r->group_distance, .near = (size_t)r->lantern_k,
                         .near_delta = r->lantern_delta, .near_lambda = r->lantern_lambda};
    if (sp_accept_find(r->method)->exactness != SP_RELAXED || strcmp(r->groups, "static") != 0) return out;
    if (s->group_size != out.group_size)
        sp_groups_build(out.codes, c->n_codes, out.code_dim, out.group_size, s->group_of);
    s->group_size = out.group_size;
    out.group_of = s->group_of;
    return out;
}

sp_decode_plan sp_session_plan(sp_session *s, const sp_request *r, const sp_model_prompt *prompt,
                               const sp_device_loop *loop)
{
    return (sp_decode_plan){
        .rule = sp_accept_find(r->method), .drafter = sp_drafter_find(r->draft_init), .window = (size_t)r->window,
        .sampling = {r->seed, r->image, r->cfg_scale, r->temperature, r->top_k, r->top_p},
        .relaxation = relaxation_of(s, r), .tree = s->tree, .branches = (size_t)r->tree, .prompt = *prompt,
        .loop = loop->ops ? loop : NULL, .progress = r->progress, .user = r->user};
}

void sp_session_report_codes(sp_session *s, const sp_decoder *d)
{
    sp_result *to = &s->result;
    to->n_tokens = d->n_positions;
    to->tokens = d->tokens;
    to->pass_of_token = d->pass_of_token;
    to->nfe = d->passes;
    to->drafted = d->drafted;
    to->accepted = d->accepted;
    memcpy(to->histogram, d->histogram, sizeof to->histogram);
    to->total_variation_bound = d->deviation / (double)d->n_positions;
    to->prefill_ms = d->prefill_ms;
    to->decode_ms = d->decode_ms;
}

static sp_status decode_codes(sp_session *s, const sp_request *r, const sp_model_prompt *prompt, sp_error *err)
{
    sp_device_loop loop = sp_context_loop(s->context);
    sp_decode_plan plan = sp_session_plan(s, r, prompt, &loop);
    sp_model model = sp_context_model(s->context);
    SP_TRY(sp_decode(s->decoder, &model, &plan, err));
    sp_session_report_codes(s, s->decoder);
    return SP_OK;
}

static sp_status draw_pixels(sp_session *s, sp_error *err)
{
    const sp_result *from = &s->result;
    SP_TRY(from->latents ? sp_codec_decode_latents(s->codec, from->latents, s->rgb, err)
                         : sp_codec_decode(s->codec, from->tokens, s->rgb, err));
    s->result.rgb = s->rgb;
    return SP_OK;
}

void sp_session_begin_result(sp_session *s, const sp_method *method)
{
    s->result = (sp_result){.method = method->name, .exactness = method->exactness};
}

sp_status sp_session_end_result(sp_session *s, const sp_request *r, double start, sp_error *err)
{
    sp_result *to = &s->result;
    double decoded = sp_clock_ms();
    if (r->pixels) SP_TRY(draw_pixels(s, err));
    double finished = sp_clock_ms();
    to->width = s->codec ? sp_codec_width(s->codec) : 0;
    to->height = s->codec ? sp_codec_height(s->codec) : 0;
    to->vq_ms = finished - decoded;
    to->total_ms = finished - start;
    to->peak_bytes = peak_bytes(s);
    return SP_OK;
}

sp_status sp_generate(sp_session *s, const sp_request *r, const sp_result **result, sp_error *err)
{
    *result = NULL;
    SP_TRY(sp_request_check(s->engine, r, err));
    const sp_method *method = sp_method_find(r->method, s->latent != NULL);
    if (method->needs_drafter) SP_TRY(open_drafting(s, err));
    double start = sp_clock_ms();
    sp_session_begin_result(s, method);
    sp_model_prompt prompt;
    SP_TRY(sp_session_prompt(s, r, &prompt, err));
    SP_TRY(s->latent ? sp_session_decode_latent(s, r, &prompt, err) : decode_codes(s, r, &prompt, err));
    SP_TRY(sp_session_end_result(s, r, start, err));
    *result = &s->result;
    return SP_OK;
}

bool sp_session_own_failure(sp_status status)
{
    return status == SP_EARG || status == SP_EFORMAT || status == SP_EUNSUPPORTED;
}

static sp_status draw_alone(sp_session *s, const sp_request *requests, size_t index, sp_picture_call *done, void *user,
                            sp_error *err)
{
    sp_error why = {0};
    const sp_result *result;
    sp_status status = sp_generate(s, &requests[index], &result, &why);
    if (status == SP_OK) return done(user, index, result, NULL, err);
    if (sp_session_own_failure(status)) return done(user, index, NULL, &why, err);
    return SP_FAIL(err, status, "%s", why.message);
}

sp_status sp_generate_many(sp_session *s, const sp_request *requests, size_t count, sp_picture_call *done, void *user,
                           sp_error *err)
{
    for (size_t first = 0, n; first < count; first += n) {
        n = s->batch ? sp_session_batch_of(s, requests + first, count - first) : 1;
        if (n == 1) SP_TRY(draw_alone(s, requests, first, done, user, err));
        else SP_TRY(sp_session_draw_batch(s, requests, first, n, done, user, err));
    }
    return SP_OK;
}

static sp_status need_codec(const sp_session *s, sp_error *err)
{
    if (s->codec) return SP_OK;
    return SP_FAIL(err, SP_EUNSUPPORTED, "%.300s: the checkpoint has no codec, so tokens and pictures cannot be turned "
                   "into each other", s->engine->path);
}

sp_status sp_tokens_to_pixels(sp_session *s, const int32_t *tokens, uint8_t *rgb, sp_error *err)
{
    SP_TRY(need_codec(s, err));
    return sp_codec_decode(s->codec, tokens, rgb, err);
}

sp_status sp_latents_to_pixels(sp_session *s, const float *latents, uint8_t *rgb, sp_error *err)
{
    SP_TRY(need_codec(s, err));
    return sp_codec_decode_latents(s->codec, latents, rgb, err);
}

sp_status sp_pixels_to_latents(sp_session *s, const uint8_t *rgb, float *latents, sp_error *err)
{
    SP_TRY(need_codec(s, err));
    return sp_codec_encode_latents(s->codec, rgb, latents, err);
}

sp_status sp_pixels_to_features(sp_session *s, const uint8_t *rgb, float *features, sp_error *err)
{
    SP_TRY(need_codec(s, err));
    return sp_codec_describe(s->codec, rgb, features, err);
}

sp_status sp_pixels_to_tokens(sp_session *s, const uint8_t *rgb, int32_t *tokens, sp_error *err)
{
    SP_TRY(need_codec(s, err));
    return sp_codec_encode(s->codec, rgb, tokens, err);
}
