#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "acceptance/groups.h"
#include "session.h"

enum { LANTERN_K = 64 };

static void take(sp_session *s)
{
    size_t pixels = sp_codec_height(s->codec) * sp_codec_width(s->codec);
    s->prompt_ids = sp_arena_take(&s->arena, s->engine->config.prefix_length, sizeof *s->prompt_ids);
    s->group_of = sp_arena_take(&s->arena, s->engine->config.n_codes, sizeof *s->group_of);
    s->rgb = sp_arena_take(&s->arena, pixels, 3);
}

static sp_status open_parts(sp_session *s, sp_error *err)
{
    sp_engine *e = s->engine;
    const sp_model_config *c = &e->config;
    SP_TRY(sp_pool_open(&s->pool, e->n_threads, err));
    SP_TRY(sp_decoder_open(&s->decoder, c->n_codes, c->rows, c->columns, e->ops, SP_MAX_WINDOW, err));
    SP_TRY(sp_context_open(&s->context, e->transformer, s->pool, s->decoder->max_window, err));
    SP_TRY(sp_codec_open(&s->codec, &c->codec, e->codec_tensors, e->ops, s->pool, err));
    take(s);
    SP_TRY(sp_arena_commit(&s->arena, "picture", err));
    take(s);
    return SP_OK;
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
    *bytes = sp_context_bytes(s->context) + sp_decoder_bytes(s->decoder) + sp_codec_bytes(s->codec) + s->arena.bytes;
    *kv_bytes = sp_context_kv_bytes(s->context);
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
    sp_tree_close(s->tree);
    sp_eagle_context_close(s->drafter);
    sp_context_close(s->context);
    sp_decoder_close(s->decoder);
    sp_pool_close(s->pool);
    sp_arena_free(&s->arena);
    sp_release(s);
}

sp_request sp_request_defaults(const sp_engine *e)
{
    const sp_model_config *c = &e->config;
    return (sp_request){.prompt = "", .method = "pathwise", .window = 0, .draft_init = sp_drafter_names()[0],
                        .cfg_scale = c->cfg_scale, .temperature = c->temperature, .top_k = c->top_k, .top_p = c->top_p,
                        .groups = "dynamic", .group_size = 10, .group_delta = 0.15f, .group_distance = 0.5f,
                        .lantern_k = c->n_codes > LANTERN_K ? LANTERN_K : (int)c->n_codes - 1,
                        .lantern_delta = 0.1f,
                        .pixels = true};
}

static sp_status in_range(const char *option, double value, double low, double high, sp_error *err)
{
    if (value >= low && value <= high) return SP_OK;
    return SP_FAIL(err, SP_EARG, "--%s %g: expected %g to %g", option, value, low, high);
}

static sp_status class_number(const sp_engine *e, const char *prompt, int32_t *out, sp_error *err)
{
    char *end;
    long value = strtol(prompt, &end, 10);
    if (*prompt < '0' || *prompt > '9' || *end || value < 0 || (size_t)value >= e->config.n_classes)
        return SP_FAIL(err, SP_EARG, "prompt '%.40s': this model draws classes: expected a number from 0 to %zu",
                       prompt,
                       e->config.n_classes - 1);
    *out = (int32_t)value;
    return SP_OK;
}

sp_status sp_request_check(sp_engine *e, const sp_request *r, sp_error *err)
{
    int32_t number;
    if (!r->prompt) return SP_FAIL(err, SP_EARG, "prompt: none is given; use --prompt TEXT");
    if (!r->method || !sp_accept_find(r->method))
        return SP_FAIL(err, SP_EARG, "--method '%.40s': not known here; see specular generate --help",
                       r->method ? r->method : "");
    if (!r->draft_init || !sp_drafter_find(r->draft_init))
        return SP_FAIL(err, SP_EARG, "--draft-init '%.40s': not known here; see specular generate --help",
                       r->draft_init ? r->draft_init : "");
    SP_TRY(in_range("window", r->window, 0, SP_MAX_WINDOW, err));
    SP_TRY(in_range("cfg-scale", (double)r->cfg_scale, 0, 1000, err));
    SP_TRY(in_range("temperature", (double)r->temperature, 0, 100, err));
    SP_TRY(in_range("top-k", r->top_k, 0, (double)e->config.n_codes, err));
    SP_TRY(in_range("top-p", (double)r->top_p, 0, 1, err));
    SP_TRY(in_range("group-size", r->group_size, 1, SP_MAX_GROUP, err));
    SP_TRY(in_range("group-delta", (double)r->group_delta, 0, 1, err));
    SP_TRY(in_range("group-distance", (double)r->group_distance, 0, 4, err));
    bool walks = sp_accept_find(r->method)->walk != NULL;
    SP_TRY(in_range("tree", r->tree, 0, walks ? SP_TREE_WIDTH : SP_MAX_GUESSES + 1, err));
    SP_TRY(in_range("lantern-k", r->lantern_k, 0, (double)e->config.n_codes - 1, err));
    SP_TRY(in_range("lantern-delta", (double)r->lantern_delta, 0, 1, err));
    SP_TRY(in_range("lantern-lambda", (double)r->lantern_lambda, 0, 1000, err));
    if (r->lantern_lambda > 0 && r->lantern_lambda < 1)
        return SP_FAIL(err, SP_EARG, "--lantern-lambda %g: expected 1 to 1000, or 0 for --lantern-delta",
                       (double)r->lantern_lambda);
    if (!r->groups || (strcmp(r->groups, "dynamic") != 0 && strcmp(r->groups, "static") != 0))
        return SP_FAIL(err, SP_EARG, "--groups '%.40s': expected dynamic or static", r->groups ? r->groups : "");
    if (!e->config.from_text) SP_TRY(class_number(e, r->prompt, &number, err));
    return walks ? sp_engine_load_drafter(e, err) : SP_OK;
}

sp_status sp_session_prompt(sp_session *s, const sp_request *r, sp_model_prompt *out, sp_error *err)
{
    const sp_engine *e = s->engine;
    size_t count = 1, limit = e->config.prefix_length;
    if (e->config.from_text)
        SP_TRY(sp_tokenizer_encode(e->tokenizer, r->prompt, strlen(r->prompt), s->prompt_ids, limit, &count, err));
    else
        SP_TRY(class_number(e, r->prompt, s->prompt_ids, err));
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
    sp_draft_model draft = sp_eagle_model(s->drafter);
    return s->tree ? SP_OK : sp_tree_open(&s->tree, &model, &draft, window, err);
}

static size_t peak_bytes(const sp_session *s)
{
    size_t bytes = sp_transformer_bytes(s->engine->transformer) + s->engine->session_bytes;
    if (s->tree)
        bytes += sp_eagle_bytes(atomic_load(&s->engine->drafter)) + sp_eagle_context_bytes(s->drafter) +
                 sp_tree_bytes(s->tree);
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

static double now_ms(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec * 1e3 + (double)t.tv_nsec * 1e-6;
}

sp_status sp_generate(sp_session *s, const sp_request *r, const sp_result **result, sp_error *err)
{
    *result = NULL;
    SP_TRY(sp_request_check(s->engine, r, err));
    if (sp_accept_find(r->method)->walk) SP_TRY(open_tree(s, err));
    double start = now_ms();
    s->result = (sp_result){.method = r->method};
    sp_decode_plan plan = {
        .rule = sp_accept_find(r->method), .drafter = sp_drafter_find(r->draft_init), .window = (size_t)r->window,
        .sampling = {r->seed, r->image, r->cfg_scale, r->temperature, r->top_k, r->top_p},
        .relaxation = relaxation_of(s, r), .tree = s->tree, .branches = (size_t)r->tree,
        .progress = r->progress, .user = r->user};
    SP_TRY(sp_session_prompt(s, r, &plan.prompt, err));
    sp_model model = sp_context_model(s->context);
    sp_decoder *d = s->decoder;
    SP_TRY(sp_decode(d, &model, &plan, err));
    double decoded = now_ms();
    if (r->pixels) SP_TRY(sp_codec_decode(s->codec, d->tokens, s->rgb, err));
    double finished = now_ms();
    sp_result *to = &s->result;
    to->exactness = plan.rule->exactness;
    to->n_tokens = d->n_positions;
    to->width = sp_codec_width(s->codec);
    to->height = sp_codec_height(s->codec);
    to->tokens = d->tokens;
    to->pass_of_token = d->pass_of_token;
    to->rgb = r->pixels ? s->rgb : NULL;
    to->nfe = d->passes;
    to->drafted = d->drafted;
    to->accepted = d->accepted;
    memcpy(to->histogram, d->histogram, sizeof to->histogram);
    to->total_variation_bound = d->deviation / (double)d->n_positions;
    to->prefill_ms = d->prefill_ms;
    to->decode_ms = d->decode_ms;
    to->vq_ms = finished - decoded;
    to->total_ms = finished - start;
    to->peak_bytes = peak_bytes(s);
    *result = to;
    return SP_OK;
}

sp_status sp_tokens_to_pixels(sp_session *s, const int32_t *tokens, uint8_t *rgb, sp_error *err)
{
    return sp_codec_decode(s->codec, tokens, rgb, err);
}

sp_status sp_pixels_to_features(sp_session *s, const uint8_t *rgb, float *features, sp_error *err)
{
    return sp_codec_describe(s->codec, rgb, features, err);
}

sp_status sp_pixels_to_tokens(sp_session *s, const uint8_t *rgb, int32_t *tokens, sp_error *err)
{
    return sp_codec_encode(s->codec, rgb, tokens, err);
}
