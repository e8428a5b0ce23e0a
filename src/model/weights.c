#include "model/weights.h"

#include <string.h>

#include "base/size.h"
#include "model/loader.h"
#include "model/rope.h"

/* A norm of heads: [heads, head_dim], or [head_dim] repeated for every head. Optional ones leave *out NULL. */
static sp_status head_norm(sp_loader *l, sp_slot slot, size_t layer, size_t heads, size_t width, bool optional,
                           float **out)
{
    const sp_tensor *tensor = sp_load_find(l, slot, layer);
    if (!tensor && optional) {
        *out = NULL;
        return SP_OK;
    }
    sp_shape shape = tensor && tensor->rank == 1 ? SP_SHAPE1(width) : SP_SHAPE2(heads, width);
    SP_TRY(sp_load_tensor(l, slot, layer, shape, &tensor));
    SP_TRY(sp_tensor_floats(tensor, *out, l->err));
    for (size_t head = 1; shape.rank == 1 && head < heads; head++)
        memcpy(*out + head * width, *out, width * sizeof **out);
    l->parameters += tensor->count;
    return SP_OK;
}

static sp_status fused_or_parts(sp_loader *l, sp_slot fused, const sp_part *parts, size_t n_parts, size_t k,
                                sp_weight *out)
{
    size_t rows = 0;
    for (size_t i = 0; i < n_parts; i++) rows += parts[i].rows;
    if (l->family->slots[fused]) return sp_load_weight(l, fused, parts[0].index, rows, k, out);
    return sp_load_stacked(l, parts, n_parts, k, 0, out);
}

static sp_status layer(sp_loader *l, const sp_model_config *c, size_t index, sp_layer *to)
{
    size_t q = c->heads * c->head_dim, kv = c->kv_heads * c->head_dim;
    sp_tensors_drop(l->tensors); /* of the layers before: at its peak loading holds one layer twice, not all */
    if (l->family->slots[SP_SLOT_ATTENTION_NORM])
        SP_TRY(sp_load_vector(l, SP_SLOT_ATTENTION_NORM, index, c->dim, to->attention_norm));
    SP_TRY(sp_load_vector(l, SP_SLOT_FFN_NORM, index, c->dim, to->ffn_norm));
    if (c->qk_norm != SP_QK_NORM_NONE) {
        SP_TRY(head_norm(l, SP_SLOT_Q_NORM, index, c->heads, c->head_dim, false, &to->q_norm));
        SP_TRY(head_norm(l, SP_SLOT_K_NORM, index, c->kv_heads, c->head_dim, false, &to->k_norm));
        bool no_bias = c->qk_norm == SP_QK_NORM_RMS;
        SP_TRY(head_norm(l, SP_SLOT_Q_NORM_BIAS, index, c->heads, c->head_dim, true, &to->q_norm_bias));
        SP_TRY(head_norm(l, SP_SLOT_K_NORM_BIAS, index, c->kv_heads, c->head_dim, true, &to->k_norm_bias));
        if (no_bias) to->q_norm_bias = to->k_norm_bias = NULL;
    }
    sp_part qkv[] = {{SP_SLOT_Q, index, q}, {SP_SLOT_K, index, kv}, {SP_SLOT_V, index, kv}};
    sp_part gate_up[] = {{SP_SLOT_GATE, index, c->ffn_dim}, {SP_SLOT_UP, index, c->ffn_dim}};
    SP_TRY(fused_or_parts(l, SP_SLOT_QKV, qkv, 3, c->dim, &to->qkv));
    SP_TRY(sp_load_weight(l, SP_SLOT_O, index, c->dim, q, &to->o));
    SP_TRY(fused_or_parts(l, SP_SLOT_GATE_UP, gate_up, 2, c->dim, &to->gate_up));
    return sp_load_weight(l, SP_SLOT_DOWN, index, c->dim, c->ffn_dim, &to->down);
}

static sp_status head(sp_loader *l, sp_transformer *t)
{
    const sp_model_config *c = &t->config;
    size_t inputs = c->dim;
    SP_TRY(sp_load_vector(l, SP_SLOT_NORM, 0, c->dim, t->norm));
    if (c->feature_positions)
        SP_TRY(sp_load_table(l, SP_SLOT_FEATURE_POSITION, c->rows * c->columns, c->dim, &t->feature_position));
    if (c->latent_dim) return SP_OK;
    if (c->head == SP_HEAD_MLP) {
        inputs = c->head_hidden;
        SP_TRY(sp_load_weight(l, SP_SLOT_HEAD_HIDDEN, 0, c->head_hidden, c->dim, &t->head_hidden));
        SP_TRY(sp_load_vector(l, SP_SLOT_HEAD_HIDDEN_BIAS, 0, c->head_hidden, t->head_hidden_bias));
        SP_TRY(sp_load_vector(l, SP_SLOT_HEAD_BIAS, 0, c->n_codes, t->head_bias));
    }
    sp_part codes = {SP_SLOT_HEAD, 0, c->n_codes};
    return sp_load_stacked(l, &codes, 1, inputs, c->code_row, &t->head);
}

static sp_status codes(sp_loader *l, sp_transformer *t)
{
    const sp_model_config *c = &t->config;
    const sp_tensor *found = sp_load_find(l, SP_SLOT_CODES, 0);
    size_t rows = c->code_row && found && found->rank == 2 && found->shape[0] >= c->code_row + c->n_codes
                      ? found->shape[0] : c->code_row + c->n_codes;
    SP_TRY(sp_load_table(l, SP_SLOT_CODES, rows, c->dim, &t->codes));
    l->parameters -= (rows - c->n_codes) * c->dim;
    return SP_OK;
}

/* Latents are read in float whatever the arithmetic: they are few, and all of a token. */
static sp_status latents(sp_loader *l, sp_transformer *t)
{
    const sp_model_config *c = &t->config;
    l->bf16 = false;
    if (t->ops == sp_device_pack_ops()) l->ops = sp_ops_find("ref"); /* a device takes them as rows of floats */
    SP_TRY(sp_load_weight(l, SP_SLOT_LATENTS, 0, c->dim, c->latent_dim, &t->latents));
    l->ops = t->ops;
    l->bf16 = t->bf16;
    if (sp_load_find(l, SP_SLOT_LATENTS_BIAS, 0))
        SP_TRY(sp_load_vector(l, SP_SLOT_LATENTS_BIAS, 0, c->dim, t->latents_bias));
    t->latents.bias = t->latents_bias;
    return SP_OK;
}

static sp_status tables(sp_loader *l, sp_transformer *t)
{
    const sp_model_config *c = &t->config;
    SP_TRY(sp_load_table(l, SP_SLOT_PREFIX, c->prefix_vocab, c->dim * (c->from_text ? 1 : c->prefix_length),
                         &t->prefix));
    SP_TRY(c->latent_dim ? latents(l, t) : codes(l, t));
    if (c->prefix_positions)
        SP_TRY(sp_load_table(l, SP_SLOT_PREFIX_POSITION, c->prefix_length, c->dim, &t->prefix_position));
    if (c->input_norm) SP_TRY(sp_load_vector(l, SP_SLOT_INPUT_NORM, 0, c->dim, t->input_norm));
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
    t->input_norm = sp_arena_take(a, c->input_norm ? c->dim : 0, sizeof(float));
    t->latents_bias = sp_arena_take(a, c->latent_dim ? sp_round_up(c->dim, 64) : 0, sizeof(float));
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

static sp_loader loader_of(sp_transformer *t, const sp_family *family, const sp_tensors *tensors, sp_error *err)
{
    return (sp_loader){.tensors = tensors, .family = family, .ops = t->ops, .bf16 = t->bf16, .err = err};
}

static sp_status load(sp_transformer *t, sp_loader *l)
{
    SP_TRY(tables(l, t));
    for (size_t i = 0; i < t->config.layers; i++) SP_TRY(layer(l, &t->config, i, &t->layers[i]));
    SP_TRY(head(l, t));
    t->parameters = l->parameters;
    t->packed_bytes = l->packed_bytes;
    return SP_OK;
}

sp_status sp_weights_load(sp_transformer *t, const sp_tensors *tensors, sp_error *err)
{
    sp_loader l = loader_of(t, sp_family_find(t->config.family), tensors, err);
    if (!l.family) return SP_FAIL(err, SP_EBUG, "model: family '%s' has no table", t->config.family);
    take(t);
    SP_TRY(sp_arena_commit(&t->arena, "model tables", err));
    take(t);
    return load(t, &l);
}

sp_status sp_weights_load_drafter(sp_transformer *t, const sp_family *family, const sp_tensors *tensors, sp_error *err)
{
    sp_loader l = loader_of(t, family, tensors, err);
    const sp_model_config *c = &t->config;
    take(t);
    t->join_bias = sp_arena_take(&t->arena, c->dim, sizeof(float));
    SP_TRY(sp_arena_commit(&t->arena, "drafter tables", err));
    take(t);
    t->join_bias = sp_arena_take(&t->arena, c->dim, sizeof(float));
    SP_TRY(sp_load_table(&l, SP_SLOT_CODES, c->n_codes, c->dim, &t->codes));
    sp_rope_tables(c, t->cosine, t->sine);
    for (size_t i = 0; i < c->layers; i++) SP_TRY(layer(&l, c, i, &t->layers[i]));
    if (sp_load_find(&l, SP_SLOT_JOIN_BIAS, 0)) SP_TRY(sp_load_vector(&l, SP_SLOT_JOIN_BIAS, 0, c->dim, t->join_bias));
    SP_TRY(sp_load_weight(&l, SP_SLOT_JOIN, 0, c->dim, 2 * c->dim, &t->join));
    t->parameters = l.parameters;
    t->packed_bytes = l.packed_bytes;
    return SP_OK;
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
    sp_release(t->latents.data);
    sp_arena_free(&t->arena);
}

void sp_table_row(const sp_tensor *table, size_t row, size_t width, float *out)
{
    const unsigned char *source = (const unsigned char *)table->data + row * width * (table->dtype == SP_F32 ? 4 : 2);
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
