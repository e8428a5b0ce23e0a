#include "model/weights.h"

#include <stdio.h>
#include <string.h>

#include "base/size.h"
#include "model/rope.h"

typedef struct loader {
    sp_transformer *t;
    const sp_tensors *tensors;
    const sp_family *family;
    sp_error *err;
} loader;

enum { NAME = 160 };

static void slot_name(const loader *l, sp_slot slot, size_t layer, char name[NAME])
{
    const char *pattern = l->family->slots[slot];
    const char *mark = pattern ? strstr(pattern, "%zu") : NULL;
    if (!pattern) snprintf(name, NAME, "(none)");
    else if (!mark) snprintf(name, NAME, "%s", pattern);
    else snprintf(name, NAME, "%.*s%zu%s", (int)(mark - pattern), pattern, layer, mark + 3);
}

static sp_status need(const loader *l, sp_slot slot, size_t layer, sp_shape shape, const sp_tensor **out)
{
    char name[NAME];
    slot_name(l, slot, layer, name);
    return sp_tensors_get(l->tensors, name, shape, out, l->err);
}

static const sp_tensor *find(const loader *l, sp_slot slot, size_t layer)
{
    char name[NAME];
    if (!l->family->slots[slot]) return NULL;
    slot_name(l, slot, layer, name);
    return sp_tensors_find(l->tensors, name);
}

/* A vector [count] into memory of the arena. */
static sp_status vector(const loader *l, sp_slot slot, size_t layer, size_t count, float *out)
{
    const sp_tensor *tensor;
    SP_TRY(need(l, slot, layer, SP_SHAPE1(count), &tensor));
    l->t->parameters += count;
    return sp_tensor_floats(tensor, out, l->err);
}

/* A norm of heads: [heads, head_dim], or [head_dim] repeated for every head. Optional ones leave *out NULL. */
static sp_status head_norm(const loader *l, sp_slot slot, size_t layer, size_t heads, bool optional, float **out)
{
    size_t width = l->t->config.head_dim;
    const sp_tensor *tensor = find(l, slot, layer);
    if (!tensor && optional) {
        *out = NULL;
        return SP_OK;
    }
    sp_shape shape = tensor && tensor->rank == 1 ? SP_SHAPE1(width) : SP_SHAPE2(heads, width);
    SP_TRY(need(l, slot, layer, shape, &tensor));
    SP_TRY(sp_tensor_floats(tensor, *out, l->err));
    for (size_t head = 1; shape.rank == 1 && head < heads; head++)
        memcpy(*out + head * width, *out, width * sizeof **out);
    l->t->parameters += tensor->count;
    return SP_OK;
}

static size_t element(sp_dtype dtype) { return dtype == SP_F32 ? 4 : 2; }

static sp_status pack(const loader *l, const char *what, const void *data, sp_dtype dtype, size_t n, size_t k,
                      sp_weight *out)
{
    if (!l->t->ops->pack(out, data, dtype, n, k, l->t->bf16 && dtype == SP_BF16))
        return SP_FAIL(l->err, SP_ENOMEM, "%s: no memory for its %zu x %zu weights; close other programs", what, n, k);
    l->t->packed_bytes += out->bytes;
    l->t->parameters += n * k;
    return SP_OK;
}

/* Rows of up to three tensors with k columns, one under the other, packed as one weight. first skips rows. */
static sp_status stacked(const loader *l, const sp_slot *slots, const size_t *rows, size_t n_slots, size_t layer,
                         size_t k,
                         size_t first, sp_weight *out)
{
    const sp_tensor *parts[3] = {0};
    size_t total = 0, bytes = 0, at = 0;
    char name[NAME];
    slot_name(l, slots[0], layer, name);
    for (size_t i = 0; i < n_slots; i++) {
        const sp_tensor *found = find(l, slots[i], layer);
        size_t have = rows[i];
        if (first && found && found->rank == 2 && found->shape[0] >= first + have) have = found->shape[0];
        SP_TRY(need(l, slots[i], layer, SP_SHAPE2(have, k), &parts[i]));
        SP_TRY(sp_tensor_finite(parts[i], l->err));
        if (parts[i]->dtype != parts[0]->dtype)
            return SP_FAIL(l->err, SP_EFORMAT, "%s: tensors '%s' and '%s' have different dtypes: expected one",
                           sp_tensors_path(l->tensors), parts[0]->name, parts[i]->name);
        total += rows[i];
    }
    size_t row_bytes = k * element(parts[0]->dtype);
    const unsigned char *start = (const unsigned char *)parts[0]->data + first * row_bytes;
    if (n_slots == 1) return pack(l, name, start, parts[0]->dtype, total, k, out);
    SP_TRY(sp_size_product(&bytes, l->err, name, total, row_bytes, 1, 1));
    unsigned char *joined = sp_alloc(bytes, 1);
    if (!joined) return SP_FAIL(l->err, SP_ENOMEM, "%s: no memory to join %zu rows", name, total);
    for (size_t i = 0; i < n_slots; at += rows[i++] * row_bytes) memcpy(joined + at, parts[i]->data,
                                                                        rows[i] * row_bytes);
    sp_status status = pack(l, name, joined, parts[0]->dtype, total, k, out);
    sp_release(joined);
    return status;
}

static sp_status layer(const loader *l, size_t index)
{
    const sp_model_config *c = &l->t->config;
    sp_tensors_drop(l->tensors); /* of the layers before: at its peak loading holds one layer twice, not all */
    sp_layer *to = &l->t->layers[index];
    size_t q = c->heads * c->head_dim, kv = c->kv_heads * c->head_dim;
    if (l->family->slots[SP_SLOT_ATTENTION_NORM])
        SP_TRY(vector(l, SP_SLOT_ATTENTION_NORM, index, c->dim, to->attention_norm));
    SP_TRY(vector(l, SP_SLOT_FFN_NORM, index, c->dim, to->ffn_norm));
    if (c->qk_norm != SP_QK_NORM_NONE) {
        SP_TRY(head_norm(l, SP_SLOT_Q_NORM, index, c->heads, false, &to->q_norm));
        SP_TRY(head_norm(l, SP_SLOT_K_NORM, index, c->kv_heads, false, &to->k_norm));
        bool no_bias = c->qk_norm == SP_QK_NORM_RMS;
        SP_TRY(head_norm(l, SP_SLOT_Q_NORM_BIAS, index, c->heads, true, &to->q_norm_bias));
        SP_TRY(head_norm(l, SP_SLOT_K_NORM_BIAS, index, c->kv_heads, true, &to->k_norm_bias));
        if (no_bias) to->q_norm_bias = to->k_norm_bias = NULL;
    }
    if (l->family->slots[SP_SLOT_QKV])
        SP_TRY(stacked(l, (sp_slot[]){SP_SLOT_QKV}, (size_t[]){q + 2 * kv}, 1, index, c->dim, 0, &to->qkv));
    else
        SP_TRY(stacked(l, (sp_slot[]){SP_SLOT_Q, SP_SLOT_K, SP_SLOT_V}, (size_t[]){q, kv, kv}, 3, index, c->dim, 0,
                       &to->qkv));
    SP_TRY(stacked(l, (sp_slot[]){SP_SLOT_O}, (size_t[]){c->dim}, 1, index, q, 0, &to->o));
    SP_TRY(stacked(l, (sp_slot[]){SP_SLOT_GATE, SP_SLOT_UP}, (size_t[]){c->ffn_dim, c->ffn_dim}, 2, index, c->dim, 0,
                   &to->gate_up));
    return stacked(l, (sp_slot[]){SP_SLOT_DOWN}, (size_t[]){c->dim}, 1, index, c->ffn_dim, 0, &to->down);
}

static sp_status head(const loader *l)
{
    sp_transformer *t = l->t;
    const sp_model_config *c = &t->config;
    size_t inputs = c->dim;
    SP_TRY(vector(l, SP_SLOT_NORM, 0, c->dim, t->norm));
    if (c->head == SP_HEAD_MLP) {
        inputs = c->head_hidden;
        SP_TRY(stacked(l, (sp_slot[]){SP_SLOT_HEAD_HIDDEN}, (size_t[]){c->head_hidden}, 1, 0, c->dim, 0,
                       &t->head_hidden));
        SP_TRY(vector(l, SP_SLOT_HEAD_HIDDEN_BIAS, 0, c->head_hidden, t->head_hidden_bias));
        SP_TRY(vector(l, SP_SLOT_HEAD_BIAS, 0, c->n_codes, t->head_bias));
    }
    return stacked(l, (sp_slot[]){SP_SLOT_HEAD}, (size_t[]){c->n_codes}, 1, 0, inputs, c->code_row, &t->head);
}

static sp_status tables(const loader *l)
{
    sp_transformer *t = l->t;
    const sp_model_config *c = &t->config;
    const sp_tensor *found = find(l, SP_SLOT_CODES, 0);
    size_t rows = c->code_row && found && found->rank == 2 && found->shape[0] >= c->code_row + c->n_codes
                      ? found->shape[0] : c->code_row + c->n_codes;
    SP_TRY(need(l, SP_SLOT_PREFIX, 0, SP_SHAPE2(c->prefix_vocab, c->dim), &t->prefix));
    SP_TRY(need(l, SP_SLOT_CODES, 0, SP_SHAPE2(rows, c->dim), &t->codes));
    SP_TRY(sp_tensor_finite(t->prefix, l->err));
    SP_TRY(sp_tensor_finite(t->codes, l->err));
    t->parameters += t->prefix->count + c->n_codes * c->dim;
    if (c->prefix_positions) {
        SP_TRY(need(l, SP_SLOT_PREFIX_POSITION, 0, SP_SHAPE2(c->prefix_length, c->dim), &t->prefix_position));
        SP_TRY(sp_tensor_finite(t->prefix_position, l->err));
        t->parameters += t->prefix_position->count;
    }
    sp_rope_tables(c, t->cosine, t->sine);
    return SP_OK;
}

/* The small tensors and tables: measured first, then given out. */
static void take(sp_transformer *t)
{
    const sp_model_config *c = &t->config;
    sp_arena *a = &t->arena;
    size_t angles = (c->prefix_length + c->rows * c->columns) * (c->head_dim / 2);
    bool qk = c->qk_norm != SP_QK_NORM_NONE;
    size_t q = qk ? c->heads * c->head_dim : 0, k = qk ? c->kv_heads * c->head_dim : 0;
    t->layers = sp_arena_take(a, c->layers, sizeof *t->layers);
    t->norm = sp_arena_take(a, c->dim, sizeof(float));
    t->cosine = sp_arena_take(a, angles, sizeof(float));
    t->sine = sp_arena_take(a, angles, sizeof(float));
    t->head_bias = sp_arena_take(a, c->head == SP_HEAD_MLP ? c->n_codes : 0, sizeof(float));
    t->head_hidden_bias = sp_arena_take(a, c->head_hidden, sizeof(float));
    for (size_t i = 0; i < c->layers; i++) {
        sp_layer own = {.attention_norm = sp_arena_take(a, c->dim, sizeof(float)),
                        .ffn_norm = sp_arena_take(a, c->dim, sizeof(float))};
        own.q_norm = sp_arena_take(a, q, sizeof(float));
        own.q_norm_bias = sp_arena_take(a, q, sizeof(float));
        own.k_norm = sp_arena_take(a, k, sizeof(float));
        own.k_norm_bias = sp_arena_take(a, k, sizeof(float));
        if (t->layers) t->layers[i] = own;
    }
}

sp_status sp_weights_load(sp_transformer *t, const sp_tensors *tensors, sp_error *err)
{
    loader l = {t, tensors, sp_family_find(t->config.family), err};
    if (!l.family) return SP_FAIL(err, SP_EBUG, "model: family '%s' has no table", t->config.family);
    take(t);
    SP_TRY(sp_arena_commit(&t->arena, "model tables", err));
    take(t);
    SP_TRY(tables(&l));
    for (size_t i = 0; i < t->config.layers; i++) SP_TRY(layer(&l, i));
    return head(&l);
}

sp_status sp_weights_load_drafter(sp_transformer *t, const sp_family *family, const sp_tensors *tensors, sp_error *err)
{
    loader l = {t, tensors, family, err};
    const sp_model_config *c = &t->config;
    take(t);
    t->join_bias = sp_arena_take(&t->arena, c->dim, sizeof(float));
    SP_TRY(sp_arena_commit(&t->arena, "drafter tables", err));
    take(t);
    t->join_bias = sp_arena_take(&t->arena, c->dim, sizeof(float));
    SP_TRY(need(&l, SP_SLOT_CODES, 0, SP_SHAPE2(c->n_codes, c->dim), &t->codes));
    SP_TRY(sp_tensor_finite(t->codes, err));
    t->parameters += t->codes->count;
    sp_rope_tables(c, t->cosine, t->sine);
    for (size_t i = 0; i < c->layers; i++) SP_TRY(layer(&l, i));
    if (sp_tensors_find(tensors, family->slots[SP_SLOT_JOIN_BIAS]))
        SP_TRY(vector(&l, SP_SLOT_JOIN_BIAS, 0, c->dim, t->join_bias));
    return stacked(&l, (sp_slot[]){SP_SLOT_JOIN}, (size_t[]){c->dim}, 1, 0, 2 * c->dim, 0, &t->join);
}

void sp_weights_free(sp_transformer *t)
{
    for (size_t i = 0; t->arena.memory && i < t->config.layers; i++) {
        sp_layer *l = &t->layers[i];
        sp_release(l->qkv.data);
        sp_release(l->o.data);
        sp_release(l->gate_up.data);
        sp_release(l->down.data);
    }
    sp_release(t->head.data);
    sp_release(t->head_hidden.data);
    sp_release(t->join.data);
    sp_arena_free(&t->arena);
}

void sp_table_row(const sp_tensor *table, size_t row, size_t width, float *out)
{
    const unsigned char *source = (const unsigned char *)table->data + row * width * element(table->dtype);
    if (table->dtype == SP_F32) {
        memcpy(out, source, width * sizeof *out);
        return;
    }
    for (size_t i = 0; i < width; i++) {
        uint16_t half;
        memcpy(&half, source + 2 * i, 2);
        out[i] = table->dtype == SP_BF16 ? sp_bf16_to_f32(half) : sp_f16_to_f32(half);
    }
}
