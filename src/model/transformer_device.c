#include "base/size.h"
#include "model/loader.h"
#include "model/weights.h"

static sp_device_matrix matrix_of(const sp_weight *w) { return (sp_device_matrix){w->data, w->n, w->k}; }

static sp_device_table table_of(const sp_tensor *tensor)
{
    if (!tensor) return (sp_device_table){NULL, SP_F32, 0};
    return (sp_device_table){tensor->data, tensor->dtype, tensor->shape[0]};
}

static sp_device_block block_of(const sp_layer *l, bool qk_norm)
{
    sp_device_block block = {
        .attention_norm = l->attention_norm, .ffn_norm = l->ffn_norm, .qkv = matrix_of(&l->qkv), .o = matrix_of(&l->o),
        .gate_up = matrix_of(&l->gate_up), .down = matrix_of(&l->down)};
    if (!qk_norm) return block;
    block.q_norm = l->q_norm;
    block.k_norm = l->k_norm;
    block.q_norm_bias = l->q_norm_bias;
    block.k_norm_bias = l->k_norm_bias;
    return block;
}

static sp_device_plan plan_of(const sp_transformer *t, const sp_device_block *blocks)
{
    const sp_model_config *c = &t->config;
    bool hidden = c->head == SP_HEAD_MLP;
    sp_device_plan plan = {
        .dim = c->dim, .n_blocks = c->layers, .heads = c->heads, .kv_heads = c->kv_heads, .head_dim = c->head_dim,
        .ffn_dim = c->ffn_dim, .n_codes = c->n_codes, .n_prefix = c->prefix_length, .n_positions = c->rows * c->columns,
        .eps = c->norm_eps, .layer_norm = c->qk_norm == SP_QK_NORM_LAYER, .rope_adjacent = c->rope_adjacent,
        .code_row = c->code_row, .prefix_lines = c->from_text ? 1 : c->prefix_length, .codes = table_of(t->codes),
        .prefix = table_of(t->prefix), .prefix_position = table_of(t->prefix_position), .cosine = t->cosine,
        .sine = t->sine, .latent_dim = c->latent_dim, .latents = t->latents.data, .latents_bias = t->latents_bias,
        .feature_position = table_of(t->feature_position), .input_norm = c->input_norm ? t->input_norm : NULL,
        .blocks = blocks, .norm = t->norm,
        .head = matrix_of(&t->head), .head_hidden = matrix_of(&t->head_hidden),
        .head_bias = hidden ? t->head_bias : NULL, .head_hidden_bias = hidden ? t->head_hidden_bias : NULL};
    plan.prefix.rows *= plan.prefix_lines; /* a class has all its rows in one of the table's */
    return plan;
}

static void leave_host(sp_transformer *t)
{
    for (size_t i = 0; i < t->config.layers; i++) {
        sp_load_release(&t->layers[i].qkv);
        sp_load_release(&t->layers[i].o);
        sp_load_release(&t->layers[i].gate_up);
        sp_load_release(&t->layers[i].down);
    }
    sp_load_release(&t->head);
    sp_load_release(&t->head_hidden);
    sp_load_release(&t->latents);
    sp_load_release(&t->join);
    t->packed_bytes = 0;
}

/* What a drafter's plan has otherwise than that of a transformer of its sizes. */
static void draft_for(const sp_transformer *target, const sp_transformer *t, sp_device_plan *plan,
                      sp_device_block *block)
{
    /* It has no row for position 0, so it counts from the next one. */
    plan->n_prefix--;
    plan->cosine += t->config.head_dim / 2;
    plan->sine += t->config.head_dim / 2;
    plan->norm = plan->input_norm = block->attention_norm = NULL;
    plan->join = matrix_of(&t->join);
    plan->join_bias = t->join_bias;
    plan->head_of = target->on_device;
}

static sp_status use_device(sp_transformer *t, const sp_device_model_ops *device, int number,
                            const sp_transformer *target, sp_error *err)
{
    if (!t->bf16 || t->on_device) return SP_FAIL(err, SP_EBUG, "device: only a transformer in bf16, and only once");
    sp_device_block *blocks = sp_alloc(t->config.layers, sizeof *blocks);
    if (!blocks) return SP_FAIL(err, SP_ENOMEM, "device: no host memory for the plan of the model");
    bool qk_norm = t->config.qk_norm != SP_QK_NORM_NONE;
    for (size_t i = 0; i < t->config.layers; i++) blocks[i] = block_of(&t->layers[i], qk_norm);
    sp_device_plan plan = plan_of(t, blocks);
    if (target) draft_for(target, t, &plan, blocks);
    sp_status status = device->open(&t->on_device, number, &plan, err);
    sp_release(blocks);
    SP_TRY(status);
    t->device = device;
    t->device_number = number;
    leave_host(t);
    return SP_OK;
}

sp_status sp_transformer_use_device(sp_transformer *t, const sp_device_model_ops *device, int number, sp_error *err)
{
    return use_device(t, device, number, NULL, err);
}

sp_status sp_drafter_use_device(sp_transformer *drafter, const sp_transformer *target, sp_error *err)
{
    return use_device(drafter, target->device, target->device_number, target, err);
}

size_t sp_transformer_device_bytes(const sp_transformer *t) { return t->device ? t->device->bytes(t->on_device) : 0; }
