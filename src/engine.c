#include "engine.h"

#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "acceptance/accept.h"
#include "acceptance/chain.h"
#include "base/arena.h"
#include "base/file.h"
#include "decode/decode.h"
#include "io/json.h"
#include "vq/codec.h"

const char *sp_exactness_name(sp_exactness exactness)
{
    switch (exactness) {
    case SP_IDENTICAL: return "identical";
    case SP_EXACT: return "exact";
    case SP_RELAXED: return "relaxed";
    }
    return "unknown";
}

sp_engine_options sp_engine_defaults(void)
{
    return (sp_engine_options){.model = NULL, .device = "auto", .dtype = "auto", .kernels = "auto", .threads = 0,
                               .batch_size = 1, .drafter = NULL};
}

const char *const *sp_kernel_names(void) { return sp_ops_names(); }
const char *const *sp_draft_inits(void) { return sp_drafter_names(); }

/* The rules in the public form; filled before main, so that nobody writes while another reads. */
enum { MAX_METHODS = 32 };
static sp_method methods[MAX_METHODS + 1];

__attribute__((constructor)) static void list_methods(void)
{
    const sp_accept_ops *const *rules = sp_accept_all();
    size_t n = 0;
    for (size_t i = 0; rules[i] && n < MAX_METHODS; i++)
        methods[n++] = (sp_method){rules[i]->name, rules[i]->exactness, rules[i]->summary,
                                   rules[i]->settings ? rules[i]->settings : "", rules[i]->walk != NULL, false};
    const sp_chain_ops *const *chains = sp_chain_all();
    for (size_t i = 0; chains[i] && n < MAX_METHODS; i++)
        methods[n++] = (sp_method){chains[i]->name, chains[i]->exactness, chains[i]->summary,
                                   chains[i]->settings ? chains[i]->settings : "", chains[i]->needs_drafter, true};
}

const sp_method *sp_methods(void) { return methods; }

const sp_method *sp_method_find(const char *name, bool continuous)
{
    for (const sp_method *method = methods; method->name; method++)
        if (method->continuous == continuous && strcmp(method->name, name) == 0) return method;
    return NULL;
}

static sp_status join(const char *folder, const char *name, char *out, size_t size, sp_error *err)
{
    if ((size_t)snprintf(out, size, "%s/%s", folder, name) >= size)
        return SP_FAIL(err, SP_EARG, "model: the folder's name is longer than %zu bytes", size);
    return SP_OK;
}

/* "cuda" or "cuda:N". */
static bool parse_cuda(const char *text, int *number)
{
    *number = 0;
    if (strncmp(text, "cuda", 4) != 0) return false;
    if (text[4] == '\0') return true;
    if (text[4] != ':' || text[5] == '\0' || strlen(text) > 8) return false;
    for (const char *digit = text + 5; *digit; digit++) {
        if (*digit < '0' || *digit > '9') return false;
        *number = 10 * *number + (*digit - '0');
    }
    return true;
}

static bool stored_bf16(const sp_engine *e)
{
    bool stored = false;
    for (size_t i = 0; i < sp_tensors_count(e->tensors); i++) stored |= sp_tensors_at(e->tensors, i)->dtype == SP_BF16;
    return stored;
}

/* auto is the processor: the back end of a device becomes the default where it has been measured (docs/CUDA.md). */
static sp_status find_device(sp_engine *e, const sp_engine_options *o, sp_error *err)
{
    if (!parse_cuda(o->device, &e->device_number)) return SP_OK;
    if (strcmp(o->dtype, "f32") == 0)
        return SP_FAIL(err, SP_EUNSUPPORTED, "device '%s': --dtype f32: the arithmetic there is bf16; use --dtype bf16 "
                       "or --device cpu", o->device);
    return sp_device_load(&e->device, e->device_number, err);
}

static sp_status choose_device(sp_engine *e, const sp_engine_options *o, sp_error *err)
{
    int number;
    if (strcmp(o->device, "auto") != 0 && strcmp(o->device, "cpu") != 0 && !parse_cuda(o->device, &number))
        return SP_FAIL(err, SP_EARG, "device '%s': expected auto, cpu or cuda:N", o->device);
    e->ops = sp_ops_find(o->kernels);
    if (!e->ops)
        return SP_FAIL(err, SP_EARG, "kernels '%s': not in this build or not on this processor; the best here is %s",
                       o->kernels, sp_ops_names()[0]);
    long processors = sysconf(_SC_NPROCESSORS_ONLN);
    if (o->threads < 0 || o->threads > 1024)
        return SP_FAIL(err, SP_EARG, "threads %d: expected 1 to 1024, or 0 for one a processor", o->threads);
    if (o->batch_size < 1 || o->batch_size > SP_MAX_BATCH)
        return SP_FAIL(err, SP_EARG, "batch size %d: expected 1 to %d", o->batch_size, SP_MAX_BATCH);
    e->n_threads = o->threads ? o->threads : processors < 1 ? 1 : processors > 1024 ? 1024 : (int)processors;
    return SP_OK;
}

/* auto is bf16 arithmetic where a device has no other, and where the weights are bf16 and it is faster, which is where
 * there are tiles for it. */
static sp_status choose_dtype(sp_engine *e, const char *dtype, sp_error *err)
{
    e->bf16 = strcmp(dtype, "bf16") == 0;
    if (e->bf16 || strcmp(dtype, "f32") == 0) return SP_OK;
    if (strcmp(dtype, "auto") != 0) return SP_FAIL(err, SP_EARG, "dtype '%s': expected auto, f32 or bf16", dtype);
    e->bf16 = e->device || (strcmp(e->ops->name, "amx") == 0 && stored_bf16(e));
    return SP_OK;
}

/* A checksum, not a signature: tells two checkpoints apart in the text of a picture. */
static uint64_t mix(uint64_t hash, const void *data, size_t size)
{
    const unsigned char *bytes = data;
    for (size_t i = 0; i < size; i += 8) {
        uint64_t word = 0;
        memcpy(&word, bytes + i, size - i < 8 ? size - i : 8);
        hash = (hash ^ word) * 0x9E3779B97F4A7C15u;
        hash ^= hash >> 29;
    }
    return hash;
}

static uint64_t mix_tensors(uint64_t hash, const sp_tensors *tensors)
{
    for (size_t i = 0; i < sp_tensors_count(tensors); i++) {
        const sp_tensor *t = sp_tensors_at(tensors, i);
        hash = mix(hash, t->name, strlen(t->name));
        hash = mix(hash, t->shape, t->rank * sizeof t->shape[0]);
        hash = mix(hash, t->data, t->count * (t->dtype == SP_F32 ? 4 : 2));
    }
    return hash;
}

static sp_status fingerprint(sp_engine *e, sp_error *err)
{
    char path[4096];
    sp_bytes text;
    SP_TRY(join(e->path, "config.json", path, sizeof path, err));
    SP_TRY(sp_file_read(path, SP_JSON_LIMIT, &text, err));
    uint64_t hash = mix(0xCBF29CE484222325u, text.data, text.size);
    sp_bytes_free(&text);
    hash = mix_tensors(hash, e->tensors);
    if (e->codec_tensors) hash = mix_tensors(hash, e->codec_tensors);
    snprintf(e->fingerprint, sizeof e->fingerprint, "%016llx", (unsigned long long)hash);
    return SP_OK;
}

static sp_status open_tokenizer(sp_engine *e, sp_error *err)
{
    char path[4096];
    if (!e->config.from_text) return SP_OK;
    SP_TRY(join(e->path, "tokenizer.json", path, sizeof path, err));
    SP_TRY(sp_tokenizer_open(&e->tokenizer, path, err));
    if (sp_tokenizer_vocab(e->tokenizer) > e->config.prefix_vocab)
        return SP_FAIL(err, SP_EFORMAT, "%s: has %zu ids and config.json text.vocab is %zu: they are of two models",
                       path,
                       sp_tokenizer_vocab(e->tokenizer), e->config.prefix_vocab);
    return SP_OK;
}

/* A model with continuous tokens may come without a codec. */
static sp_status open_codec_tensors(sp_engine *e, sp_error *err)
{
    char path[4096];
    if (!*e->config.codec.kind) return SP_OK;
    SP_TRY(join(e->path, sp_engine_continuous(e) ? "kl.safetensors" : "vq.safetensors", path, sizeof path, err));
    return sp_tensors_open(&e->codec_tensors, path, err);
}

sp_status sp_engine_open_latent(const sp_engine *e, sp_latent **out, const sp_model_config *config,
                                const sp_tensors *tensors, sp_error *err)
{
    return e->device ? sp_latent_open_on(out, config, tensors, e->device, e->device_number, err)
                     : sp_latent_open(out, config, tensors, e->ops, e->bf16, err);
}

static sp_status open_model(sp_engine *e, sp_error *err)
{
    if (sp_engine_continuous(e)) return sp_engine_open_latent(e, &e->latent, &e->config, e->tensors, err);
    const sp_ops *ops = e->device ? sp_device_pack_ops() : e->ops;
    SP_TRY(sp_transformer_open(&e->transformer, &e->config, e->tensors, ops, e->bf16, err));
    if (!e->device) return SP_OK;
    return sp_transformer_use_device(e->transformer, e->device->models, e->device_number, err);
}

static sp_status load(sp_engine *e, const sp_engine_options *o, sp_error *err)
{
    SP_TRY(choose_device(e, o, err));
    SP_TRY(sp_model_config_load(e->path, &e->config, err));
    SP_TRY(open_tokenizer(e, err));
    SP_TRY(sp_tensors_open(&e->tensors, e->path, err));
    SP_TRY(open_codec_tensors(e, err));
    SP_TRY(find_device(e, o, err));
    SP_TRY(choose_dtype(e, o->dtype, err));
    e->config.codec.bf16 = e->bf16;
    e->batch_size = sp_engine_continuous(e) ? 1 : (size_t)o->batch_size;
    SP_TRY(open_model(e, err));
    SP_TRY(fingerprint(e, err));
    SP_TRY(sp_engine_find_drafter(e, o->drafter, err));
    sp_tensors_drop(e->tensors);
    sp_session *first;
    SP_TRY(sp_session_make(&first, e, &e->session_bytes, &e->kv_bytes, err));
    if (e->codec_tensors) sp_tensors_drop(e->codec_tensors);
    atomic_store(&e->spare, first);
    return SP_OK;
}

sp_status sp_engine_open(sp_engine **out, const sp_engine_options *options, sp_error *err)
{
    *out = NULL;
    if (!options->model || !*options->model)
        return SP_FAIL(err, SP_EARG, "model: no checkpoint folder is given; use --model DIR");
    sp_engine *e = sp_alloc(1, sizeof *e);
    char *path = sp_alloc(strlen(options->model) + 1, 1);
    if (!e || !path) {
        sp_release(e);
        sp_release(path);
        return SP_FAIL(err, SP_ENOMEM, "model: no memory");
    }
    memcpy(path, options->model, strlen(options->model));
    e->path = path;
    pthread_mutex_init(&e->drafter_lock, NULL);
    sp_status status = load(e, options, err);
    if (status != SP_OK) {
        sp_engine_close(e);
        return status;
    }
    *out = e;
    return SP_OK;
}

void sp_engine_close(sp_engine *e)
{
    if (!e) return;
    sp_session_close(atomic_load(&e->spare));
    sp_engine_close_drafter(e);
    sp_transformer_close(e->transformer);
    sp_latent_close(e->latent);
    sp_tokenizer_close(e->tokenizer);
    sp_tensors_close(e->tensors);
    sp_tensors_close(e->codec_tensors);
    sp_release(e->path);
    sp_release(e);
}

size_t sp_engine_weight_bytes(const sp_engine *e)
{
    if (e->latent) return sp_latent_bytes(e->latent) + sp_latent_device_bytes(e->latent);
    return sp_transformer_bytes(e->transformer) + sp_transformer_device_bytes(e->transformer);
}

static void count_parameters(const sp_engine *e, sp_model_info *to)
{
    if (e->transformer) to->parameters = sp_transformer_parameters(e->transformer);
    if (e->latent) to->parameters = sp_latent_parameters(e->latent);
    if (e->latent) to->head_parameters = sp_latent_head_parameters(e->latent);
    to->drafter_parameters = sp_engine_drafter_parameters(e);
    to->drafter_bytes = sp_engine_drafter_bytes(e);
}

sp_model_info sp_engine_info(const sp_engine *e)
{
    const sp_model_config *c = &e->config;
    size_t factor = *c->codec.kind ? (size_t)1 << (c->codec.n_levels - 1) : 0;
    sp_model_info info = {
        .path = e->path, .family = c->family, .codec = c->codec.kind, .dtype = e->bf16 ? "bf16" : "f32",
        .kernels = e->device ? e->device->name : e->ops->name, .fingerprint = e->fingerprint,
        .from_text = c->from_text, .n_classes = c->n_classes,
        .continuous = sp_engine_continuous(e), .latent_dim = c->latent_dim, .chain_steps = c->diffusion.chain.steps,
        .passes = c->passes,
        .n_codes = c->n_codes, .rows = c->rows, .columns = c->columns,
        .n_features = e->codec_tensors ? sp_codec_features(&c->codec, e->codec_tensors) : 0,
        .width = c->columns * factor, .height = c->rows * factor, .layers = c->layers + c->decoder_layers,
        .dim = c->dim, .heads = c->heads, .kv_heads = c->kv_heads, .head_dim = c->head_dim,
        .weight_bytes = sp_engine_weight_bytes(e), .session_bytes = e->session_bytes,
        .kv_bytes = e->kv_bytes, .batch_size = e->batch_size, .on_device = e->device != NULL,
        .prefix_limit = c->prefix_length, .threads = e->n_threads,
        .drafter = e->drafter_given ? e->drafter_folder : NULL,
        .cfg_scale = c->cfg_scale, .temperature = c->temperature, .top_p = c->top_p, .top_k = c->top_k};
    count_parameters(e, &info);
    return info;
}

sp_status sp_prompt_tokens(const sp_engine *e, const char *prompt, size_t *count, sp_error *err)
{
    *count = 1;
    if (!e->config.from_text) return SP_OK;
    return sp_tokenizer_encode(e->tokenizer, prompt, strlen(prompt), NULL, 0, count, err);
}
