#include "model/eagle.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/arena.h"
#include "base/size.h"
#include "io/json.h"
#include "model/weights.h"

/* A drafter has no row for position 0: a row is of a token and the feature before it. */
enum { MAX_STREAMS = 2, FIRST = 1, PATH = 4096 };

/* Names of the LANTERN repository. */
static const sp_family names = {
    .name = "drafter",
    .slots = {
        [SP_SLOT_CODES] = "embed_tokens.weight",
        [SP_SLOT_JOIN] = "fc.weight",
        [SP_SLOT_JOIN_BIAS] = "fc.bias",
        [SP_SLOT_Q] = "layers.%zu.self_attn.q_proj.weight",
        [SP_SLOT_K] = "layers.%zu.self_attn.k_proj.weight",
        [SP_SLOT_V] = "layers.%zu.self_attn.v_proj.weight",
        [SP_SLOT_O] = "layers.%zu.self_attn.o_proj.weight",
        [SP_SLOT_FFN_NORM] = "layers.%zu.post_attention_layernorm.weight",
        [SP_SLOT_GATE] = "layers.%zu.mlp.gate_proj.weight",
        [SP_SLOT_UP] = "layers.%zu.mlp.up_proj.weight",
        [SP_SLOT_DOWN] = "layers.%zu.mlp.down_proj.weight",
    },
};

struct sp_eagle {
    sp_transformer own; /* one layer, without prefix, norm and head */
    const sp_transformer *target;
    sp_tensors *tensors;
};

struct sp_eagle_context {
    const sp_eagle *eagle;
    sp_pool *pool;
    size_t max_window, n_streams, capacity;
    sp_kv_view kv[MAX_STREAMS];
    size_t root;             /* slot of node 0 */
    int32_t *before;         /* [capacity] of kv: the streams' prefixes are equally long */
    int32_t *depth;          /* [max_window] of a node */
    float *features;         /* [MAX_STREAMS, max_window, dim] of the nodes */
    int32_t *stream, *position, *first_key, *slot;
    float *joined, *x, *norm, *qkv, *attended, *gate_up, *active; /* [MAX_STREAMS * max_window, ..] */
    void *gemm_scratch, *attention_scratch;
    sp_device_context *device;      /* NULL: passes run on the processor */
    int32_t *token, *node, *parent; /* of a device: [MAX_STREAMS * max_window], [max_window], [max_window] by node */
    const float **feature;          /* of a device: [MAX_STREAMS * max_window] */
    sp_arena arena;
};

static sp_status same(const char *file, const char *key, size_t found, size_t expected, sp_error *err)
{
    if (found == expected) return SP_OK;
    return SP_FAIL(err, SP_EFORMAT, "%s: %s is %zu and the model's is %zu: this is the drafter of another model", file,
                   key, found, expected);
}

static sp_status parse(const json_t *root, const char *file, const char *fingerprint, sp_model_config *c, sp_error *err)
{
    size_t dim, codes, layers;
    double eps;
    SP_TRY(sp_json_size(root, file, "hidden_size", 1, 65536, &dim, err));
    SP_TRY(same(file, "hidden_size", dim, c->dim, err));
    SP_TRY(sp_json_size(root, file, "vocab_size", 1, 1 << 24, &codes, err));
    SP_TRY(same(file, "vocab_size", codes, c->n_codes, err));
    SP_TRY(sp_json_size_or(root, file, "num_hidden_layers", 1, 1, 1, &layers, err));
    SP_TRY(sp_json_size(root, file, "num_attention_heads", 1, 1024, &c->heads, err));
    SP_TRY(sp_json_size_or(root, file, "num_key_value_heads", 1, c->heads, c->heads, &c->kv_heads, err));
    SP_TRY(sp_json_size(root, file, "intermediate_size", 1, 1 << 20, &c->ffn_dim, err));
    SP_TRY(sp_json_real_or(root, file, "rms_norm_eps", 0, 1, (double)c->norm_eps, &eps, err));
    if (dim % c->heads || c->heads % c->kv_heads || dim / c->heads % 4)
        return SP_FAIL(err, SP_EFORMAT, "%s: %zu heads over %zu key/value heads do not divide hidden_size %zu into "
                       "quarters", file, c->heads, c->kv_heads, dim);
    const char *target = json_string_value(json_object_get(root, "target_fingerprint"));
    if (target && strcmp(target, fingerprint) != 0)
        return SP_FAIL(err, SP_EFORMAT, "%s: target_fingerprint is %.40s and the model's is %s: this is the drafter of "
                       "another model", file, target, fingerprint);
    c->layers = layers;
    c->head_dim = dim / c->heads;
    c->norm_eps = (float)eps;
    c->qk_norm = SP_QK_NORM_NONE;
    c->code_row = 0;
    return SP_OK;
}

static sp_status load(sp_eagle *e, const char *folder, const char *fingerprint, sp_error *err)
{
    char path[PATH];
    json_t *root;
    if ((size_t)snprintf(path, sizeof path, "%s/config.json", folder) >= sizeof path)
        return SP_FAIL(err, SP_EARG, "drafter: the folder's name is longer than %d bytes", PATH);
    SP_TRY(sp_json_load(&root, path, SP_JSON_LIMIT, err));
    sp_status status = parse(root, path, fingerprint, &e->own.config, err);
    json_decref(root);
    SP_TRY(status);
    SP_TRY(sp_tensors_open(&e->tensors, folder, err));
    return sp_weights_load_drafter(&e->own, &names, e->tensors, err);
}

sp_status sp_eagle_open(sp_eagle **out, const char *folder, const sp_transformer *target, const char *fingerprint,
                        sp_error *err)
{
    *out = NULL;
    if (target->config.head != SP_HEAD_LINEAR)
        return SP_FAIL(err, SP_EUNSUPPORTED, "%s: the model's head is an MLP: drafters need a linear one", folder);
    sp_eagle *e = sp_alloc(1, sizeof *e);
    if (!e) return SP_FAIL(err, SP_ENOMEM, "drafter: no memory");
    e->own.config = target->config;
    e->own.ops = target->ops;
    e->own.bf16 = target->bf16;
    e->target = target;
    sp_status status = load(e, folder, fingerprint, err);
    if (status == SP_OK && target->device) status = sp_drafter_use_device(&e->own, target, err);
    if (status != SP_OK) {
        sp_eagle_close(e);
        return status;
    }
    *out = e;
    return SP_OK;
}

void sp_eagle_close(sp_eagle *e)
{
    if (!e) return;
    if (e->own.on_device) e->own.device->close(e->own.on_device);
    sp_weights_free(&e->own);
    sp_tensors_close(e->tensors);
    sp_release(e);
}

size_t sp_eagle_parameters(const sp_eagle *e) { return e->own.parameters; }
size_t sp_eagle_bytes(const sp_eagle *e) { return sp_transformer_bytes(&e->own); }
size_t sp_eagle_device_bytes(const sp_eagle *e) { return sp_transformer_device_bytes(&e->own); }

static void take(sp_eagle_context *c)
{
    const sp_model_config *m = &c->eagle->own.config;
    const sp_ops *ops = c->eagle->own.ops;
    size_t rows = MAX_STREAMS * c->max_window, q = m->heads * m->head_dim, kv = m->kv_heads * m->head_dim;
    size_t inputs = 2 * m->dim > m->ffn_dim ? 2 * m->dim : m->ffn_dim;
    sp_arena *a = &c->arena;
    c->depth = sp_arena_take(a, c->max_window, sizeof *c->depth);
    c->position = sp_arena_take(a, rows, sizeof *c->position);
    c->slot = sp_arena_take(a, rows, sizeof *c->slot);
    if (c->eagle->own.device) {
        c->token = sp_arena_take(a, rows, sizeof *c->token);
        c->node = sp_arena_take(a, c->max_window, sizeof *c->node);
        c->parent = sp_arena_take(a, c->max_window, sizeof *c->parent);
        c->feature = sp_arena_take(a, rows, sizeof *c->feature);
        return;
    }
    c->features = sp_arena_take(a, rows, m->dim * sizeof(float));
    c->before = sp_arena_take(a, c->capacity, sizeof *c->before);
    for (size_t s = 0; s < MAX_STREAMS; s++)
        c->kv[s] = (sp_kv_view){.keys = sp_arena_take(a, c->capacity, kv * sizeof(float)),
                                .values = sp_arena_take(a, c->capacity, kv * sizeof(float)),
                                .capacity = c->capacity, .round = c->eagle->own.bf16, .before = c->before};
    c->stream = sp_arena_take(a, rows, sizeof *c->stream);
    c->first_key = sp_arena_take(a, rows, sizeof *c->first_key);
    c->joined = sp_arena_take(a, rows, 2 * m->dim * sizeof(float));
    c->x = sp_arena_take(a, rows, m->dim * sizeof(float));
    c->norm = sp_arena_take(a, rows, m->dim * sizeof(float));
    c->qkv = sp_arena_take(a, rows, (q + 2 * kv) * sizeof(float));
    c->attended = sp_arena_take(a, rows, q * sizeof(float));
    c->gate_up = sp_arena_take(a, rows, 2 * m->ffn_dim * sizeof(float));
    c->active = sp_arena_take(a, rows, m->ffn_dim * sizeof(float));
    c->gemm_scratch = sp_arena_take(a, ops->gemm_scratch(rows, inputs), 1);
    c->attention_scratch = sp_arena_take(a, ops->attention_scratch(c->capacity, m->head_dim,
                                                                   sp_pool_threads(c->pool)), 1);
}

sp_status sp_eagle_context_open(sp_eagle_context **out, const sp_eagle *eagle, sp_pool *pool, size_t max_window,
                                sp_error *err)
{
    *out = NULL;
    sp_eagle_context *c = sp_alloc(1, sizeof *c);
    if (!c) return SP_FAIL(err, SP_ENOMEM, "drafter: no memory");
    const sp_model_config *m = &eagle->own.config;
    c->eagle = eagle;
    c->pool = pool;
    c->max_window = max_window;
    c->capacity = sp_round_up(m->prefix_length + m->rows * m->columns + max_window, 32);
    take(c);
    sp_status status = sp_arena_commit(&c->arena, "drafter (KV cache and scratch)", err);
    const sp_transformer *own = &eagle->own;
    if (status == SP_OK && own->device)
        status = own->device->context_open(&c->device, own->on_device, max_window, 0, 1, err);
    if (status != SP_OK) {
        sp_eagle_context_close(c);
        return status;
    }
    take(c);
    *out = c;
    return SP_OK;
}

void sp_eagle_context_close(sp_eagle_context *c)
{
    if (!c) return;
    if (c->device) c->eagle->own.device->context_close(c->device);
    sp_arena_free(&c->arena);
    sp_release(c);
}

size_t sp_eagle_context_bytes(const sp_eagle_context *c) { return c->arena.bytes; }

size_t sp_eagle_context_device_bytes(const sp_eagle_context *c)
{
    return c->device ? c->eagle->own.device->context_bytes(c->device) : 0;
}

/* feature NULL: on a device, which has it. */
static sp_status set_row(sp_eagle_context *c, size_t row, size_t stream, size_t position, size_t slot, int32_t id,
                         const float *feature, sp_error *err)
{
    const sp_model_config *m = &c->eagle->own.config;
    if (id < 0 || (size_t)id >= m->n_codes)
        return SP_FAIL(err, SP_EBUG, "drafter: token %d is not between 0 and %zu", id, m->n_codes - 1);
    if (position >= m->prefix_length + m->rows * m->columns || slot >= c->capacity)
        return SP_FAIL(err, SP_EBUG, "drafter: position %zu is beyond the picture", position);
    if (c->device) {
        c->token[row] = id;
        c->position[row] = (int32_t)position - FIRST;
        c->slot[row] = (int32_t)slot - FIRST;
        c->feature[row] = feature;
        return SP_OK;
    }
    float *joined = c->joined + row * 2 * m->dim;
    sp_table_row(c->eagle->own.codes, (size_t)id, m->dim, joined);
    memcpy(joined + m->dim, feature, m->dim * sizeof(float));
    c->stream[row] = (int32_t)stream;
    c->position[row] = (int32_t)position;
    c->slot[row] = (int32_t)slot;
    c->first_key[row] = FIRST;
    return SP_OK;
}

/* n rows of each stream on the device: a chain, or the nodes. */
static sp_status run_there(const sp_eagle_context *c, size_t n, const int32_t *node, float *logits, sp_error *err)
{
    sp_device_rows rows = {.n_streams = c->n_streams, .n = n, .token = c->token, .position = c->position,
                           .slot = c->slot, .parent = node ? c->parent : NULL, .node = node,
                           .features = node ? NULL : c->feature};
    return c->eagle->own.device->pass(c->device, &rows, logits, NULL, err);
}

/* The layer over n rows set up in joined; their features are left in x. */
static void run(sp_eagle_context *c, size_t n)
{
    const sp_transformer *t = &c->eagle->own;
    const sp_model_config *m = &t->config;
    const sp_layer *layer = &t->layers[0];
    const sp_ops *ops = t->ops;
    size_t q = m->heads * m->head_dim, kv = m->kv_heads * m->head_dim, stride = q + 2 * kv;
    sp_attention_rows rows = {.n_rows = n, .stream = c->stream, .position = c->position, .first_key = c->first_key,
                              .slot = c->slot, .heads = m->heads, .kv_heads = m->kv_heads, .head_dim = m->head_dim,
                              .scale = 1.0f / sqrtf((float)m->head_dim)};
    for (size_t row = 0; row < n; row++) memcpy(c->x + row * m->dim, t->join_bias, m->dim * sizeof(float));
    ops->gemm(c->pool, &t->join, c->joined, 2 * m->dim, n, c->x, m->dim, SP_GEMM_ADD, c->gemm_scratch);
    ops->gemm(c->pool, &layer->qkv, c->x, m->dim, n, c->qkv, stride, SP_GEMM_SET, c->gemm_scratch);
    ops->rope(c->pool, c->qkv, stride, t->cosine, t->sine, c->position, n, m->heads + m->kv_heads, m->head_dim,
              m->rope_adjacent);
    ops->kv_write(c->pool, &rows, c->qkv + q, c->qkv + q + kv, stride, c->kv);
    ops->attention(c->pool, &rows, c->qkv, stride, c->kv, c->attended, c->attention_scratch);
    ops->gemm(c->pool, &layer->o, c->attended, q, n, c->x, m->dim, SP_GEMM_ADD, c->gemm_scratch);
    ops->rms_norm(c->pool, c->x, layer->ffn_norm, m->norm_eps, n, m->dim, c->norm);
    ops->gemm(c->pool, &layer->gate_up, c->norm, m->dim, n, c->gate_up, 2 * m->ffn_dim, SP_GEMM_SET, c->gemm_scratch);
    ops->swiglu(c->pool, c->gate_up, n, m->ffn_dim, c->active);
    ops->gemm(c->pool, &layer->down, c->active, m->ffn_dim, n, c->x, m->dim, SP_GEMM_ADD, c->gemm_scratch);
}

static void head(sp_eagle_context *c, const float *features, size_t n, float *logits)
{
    const sp_transformer *own = &c->eagle->own;
    own->ops->gemm(c->pool, &c->eagle->target->head, features, own->config.dim, n, logits, own->config.n_codes,
                   SP_GEMM_SET, c->gemm_scratch);
}

static float *node_feature(sp_eagle_context *c, size_t stream, size_t node)
{
    return c->features + (stream * c->max_window + node) * c->eagle->own.config.dim;
}

static sp_status begin(void *state, const float *features, bool guided, sp_error *err)
{
    sp_eagle_context *c = state;
    const sp_model_config *m = &c->eagle->own.config;
    size_t total = m->prefix_length - 1;
    c->n_streams = guided ? MAX_STREAMS : 1;
    for (size_t done = 0, n; done < total; done += n) {
        n = total - done < c->max_window ? total - done : c->max_window;
        for (size_t s = 0; s < c->n_streams; s++)
            for (size_t j = 0; j < n; j++)
                SP_TRY(set_row(c, s * n + j, s, done + j + 1, done + j + 1, 0,
                               features + (s * total + done + j) * m->dim, err));
        if (c->device) SP_TRY(run_there(c, n, NULL, NULL, err));
        else run(c, c->n_streams * n);
    }
    return SP_OK;
}

static sp_status extend(void *state, size_t first, const int32_t *ids, const float *const *features, size_t n,
                        float *logits, sp_error *err)
{
    sp_eagle_context *c = state;
    size_t dim = c->eagle->own.config.dim, base = c->eagle->own.config.prefix_length + first;
    if (n < 1 || n > c->max_window) return SP_FAIL(err, SP_EBUG, "drafter: %zu tokens do not fit", n);
    for (size_t s = 0; s < c->n_streams; s++)
        for (size_t j = 0; j < n; j++)
            SP_TRY(set_row(c, s * n + j, s, base + j, base + j, ids[j], features[s * n + j], err));
    c->root = base + n - 1;
    c->depth[0] = 0;
    if (c->device) return run_there(c, n, NULL, logits, err);
    run(c, c->n_streams * n);
    for (size_t s = 0; s < c->n_streams; s++) {
        const float *last = c->x + (s * n + n - 1) * dim;
        memcpy(node_feature(c, s, 0), last, dim * sizeof(float));
        memcpy(c->norm + s * dim, last, dim * sizeof(float));
    }
    head(c, c->norm, c->n_streams, logits);
    return SP_OK;
}

static sp_status grow(void *state, const sp_draft_node *nodes, size_t n, float *logits, sp_error *err)
{
    sp_eagle_context *c = state;
    size_t dim = c->eagle->own.config.dim;
    if (n < 1 || n > c->max_window) return SP_FAIL(err, SP_EBUG, "drafter: %zu nodes do not fit", n);
    for (size_t j = 0; j < n; j++) {
        size_t node = (size_t)nodes[j].node, parent = (size_t)nodes[j].parent;
        if (node >= c->max_window || parent >= node)
            return SP_FAIL(err, SP_EBUG, "drafter: node %zu follows node %zu", node, parent);
        c->depth[node] = c->depth[parent] + 1;
        if (c->device) {
            c->node[j] = nodes[j].node;
            c->parent[node] = nodes[j].parent;
        } else {
            c->before[c->root + node] = (int32_t)(c->root + parent);
        }
        for (size_t s = 0; s < c->n_streams; s++)
            SP_TRY(set_row(c, s * n + j, s, c->root + (size_t)c->depth[node], c->root + node, nodes[j].id,
                           c->device ? NULL : node_feature(c, s, parent), err));
    }
    if (c->device) return run_there(c, n, c->node, logits, err);
    run(c, c->n_streams * n);
    for (size_t s = 0; s < c->n_streams; s++)
        for (size_t j = 0; j < n; j++)
            memcpy(node_feature(c, s, (size_t)nodes[j].node), c->x + (s * n + j) * dim, dim * sizeof(float));
    head(c, c->x, c->n_streams * n, logits);
    return SP_OK;
}

sp_draft_model sp_eagle_model(sp_eagle_context *context, const sp_context *target)
{
    static const sp_draft_model_ops ops = {begin, extend, grow};
    return (sp_draft_model){&ops, context, sp_context_device_features(target)};
}
