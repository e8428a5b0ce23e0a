#include "model/masked_weights.h"

#include <stdio.h>
#include <string.h>

#include "base/size.h"

typedef struct loader {
    sp_masked *m;
    const sp_tensors *tensors;
    sp_error *err;
} loader;

typedef struct tensor_name {
    char text[96];
} tensor_name;

static tensor_name join(const char *prefix, const char *suffix)
{
    tensor_name name;
    snprintf(name.text, sizeof name.text, "%s.%s", prefix, suffix);
    return name;
}

static sp_status values(const loader *l, const char *name, sp_shape shape, float *out)
{
    const sp_tensor *tensor;
    SP_TRY(sp_tensors_get(l->tensors, name, shape, &tensor, l->err));
    l->m->parameters += tensor->count;
    return sp_tensor_floats(tensor, out, l->err);
}

static sp_status norm(const loader *l, const char *prefix, const sp_masked_norm *to)
{
    size_t dim = l->m->config.dim;
    SP_TRY(values(l, join(prefix, "weight").text, SP_SHAPE1(dim), to->gain));
    return values(l, join(prefix, "bias").text, SP_SHAPE1(dim), to->bias);
}

/* The back end of what is float whatever the arithmetic: a device takes that as rows of floats. */
static const sp_ops *float_ops(const sp_masked *m)
{
    return m->ops == sp_device_pack_ops() ? sp_ops_find("ref") : m->ops;
}

static sp_status map(const loader *l, const char *prefix, size_t n, size_t k, bool bf16, sp_masked_map *to)
{
    const sp_tensor *t;
    const sp_ops *ops = bf16 ? l->m->ops : float_ops(l->m);
    SP_TRY(sp_tensors_get(l->tensors, join(prefix, "weight").text, SP_SHAPE2(n, k), &t, l->err));
    SP_TRY(sp_tensor_finite(t, l->err));
    SP_TRY(values(l, join(prefix, "bias").text, SP_SHAPE1(n), to->bias));
    if (!ops->pack(&to->weight, t->data, t->dtype, n, k, bf16))
        return SP_FAIL(l->err, SP_ENOMEM, "%s: no memory for its %zu x %zu weights; close other programs", t->name, n,
                       k);
    to->weight.bias = to->bias;
    l->m->packed_bytes += to->weight.bytes;
    l->m->parameters += t->count;
    return SP_OK;
}

static sp_status block(const loader *l, const char *prefix, sp_masked_block *to)
{
    const sp_model_config *c = &l->m->config;
    size_t width = c->heads * c->head_dim;
    bool bf16 = l->m->bf16;
    SP_TRY(norm(l, join(prefix, "norm1").text, &to->norm[0]));
    SP_TRY(map(l, join(prefix, "attn.qkv").text, 3 * width, c->dim, bf16, &to->qkv));
    SP_TRY(map(l, join(prefix, "attn.proj").text, c->dim, width, bf16, &to->out));
    SP_TRY(norm(l, join(prefix, "norm2").text, &to->norm[1]));
    SP_TRY(map(l, join(prefix, "mlp.fc1").text, c->ffn_dim, c->dim, bf16, &to->up));
    return map(l, join(prefix, "mlp.fc2").text, c->dim, c->ffn_dim, bf16, &to->down);
}

static sp_status stack(const loader *l, const char *side, sp_masked_stack *to)
{
    tensor_name name;
    for (size_t i = 0; i < to->n; i++) {
        sp_tensors_drop(l->tensors); /* at its peak loading holds one block twice, not all */
        snprintf(name.text, sizeof name.text, "%s_blocks.%zu", side, i);
        SP_TRY(block(l, name.text, &to->blocks[i]));
    }
    snprintf(name.text, sizeof name.text, "%s_norm", side);
    return norm(l, name.text, &to->norm);
}

/* gemm reads biases in whole groups. */
static float *take_bias(sp_arena *a, size_t count) { return sp_arena_take(a, sp_round_up(count, 64), sizeof(float)); }

static void take_norm(sp_arena *a, size_t width, sp_masked_norm *to)
{
    to->gain = sp_arena_take(a, width, sizeof(float));
    to->bias = sp_arena_take(a, width, sizeof(float));
}

static void take_stack(sp_masked *m, sp_masked_stack *to)
{
    const sp_model_config *c = &m->config;
    sp_arena *a = &m->arena;
    to->blocks = sp_arena_take(a, to->n, sizeof *to->blocks);
    for (size_t i = 0; i < to->n; i++) {
        sp_masked_block measured, *b = to->blocks ? &to->blocks[i] : &measured;
        take_norm(a, c->dim, &b->norm[0]);
        take_norm(a, c->dim, &b->norm[1]);
        b->qkv.bias = take_bias(a, 3 * c->heads * c->head_dim);
        b->out.bias = take_bias(a, c->dim);
        b->up.bias = take_bias(a, c->ffn_dim);
        b->down.bias = take_bias(a, c->dim);
    }
    take_norm(a, c->dim, &to->norm);
}

static void take(sp_masked *m)
{
    const sp_model_config *c = &m->config;
    sp_arena *a = &m->arena;
    size_t positions = c->rows * c->columns, row = c->dim * sizeof(float);
    m->no_class = sp_arena_take(a, 1, row);
    m->mask = sp_arena_take(a, 1, row);
    m->encoder_position = sp_arena_take(a, c->buffer + positions, row);
    m->decoder_position = sp_arena_take(a, c->buffer + positions, row);
    m->feature_position = sp_arena_take(a, positions, row);
    m->tokens.bias = take_bias(a, c->dim);
    m->between.bias = take_bias(a, c->dim);
    take_norm(a, c->dim, &m->tokens_norm);
    take_stack(m, &m->encoder);
    take_stack(m, &m->decoder);
}

static sp_status tables(const loader *l)
{
    sp_masked *m = l->m;
    const sp_model_config *c = &m->config;
    size_t positions = c->rows * c->columns, all = c->buffer + positions;
    SP_TRY(sp_tensors_get(l->tensors, "class_emb.weight", SP_SHAPE2(c->n_classes, c->dim), &m->classes, l->err));
    SP_TRY(sp_tensor_finite(m->classes, l->err));
    m->parameters += m->classes->count;
    sp_shape one = {3, {1, 1, c->dim}}, every = {3, {1, all, c->dim}}, each = {3, {1, positions, c->dim}};
    SP_TRY(values(l, "fake_latent", SP_SHAPE2(1, c->dim), m->no_class));
    SP_TRY(values(l, "mask_token", one, m->mask));
    SP_TRY(values(l, "encoder_pos_embed_learned", every, m->encoder_position));
    SP_TRY(values(l, "decoder_pos_embed_learned", every, m->decoder_position));
    return values(l, "diffusion_pos_embed_learned", each, m->feature_position);
}

sp_status sp_masked_load(sp_masked *m, const sp_tensors *tensors, sp_error *err)
{
    const sp_model_config *c = &m->config;
    loader l = {m, tensors, err};
    m->encoder.n = c->layers;
    m->decoder.n = c->decoder_layers;
    take(m);
    SP_TRY(sp_arena_commit(&m->arena, "model norms and tables", err));
    take(m);
    SP_TRY(tables(&l));
    /* Tokens are read in float whatever the arithmetic, as the head reads and writes them. */
    SP_TRY(map(&l, "z_proj", c->dim, c->latent_dim, false, &m->tokens));
    SP_TRY(norm(&l, "z_proj_ln", &m->tokens_norm));
    SP_TRY(stack(&l, "encoder", &m->encoder));
    SP_TRY(map(&l, "decoder_embed", c->dim, c->dim, m->bf16, &m->between));
    SP_TRY(stack(&l, "decoder", &m->decoder));
    return sp_head_open(&m->head, &c->diffusion, sp_family_find(c->family), tensors, float_ops(m), m->bf16, err);
}

static void free_stack(const sp_masked_stack *s)
{
    for (size_t i = 0; s->blocks && i < s->n; i++) {
        const sp_masked_block *b = &s->blocks[i];
        const sp_masked_map *maps[] = {&b->qkv, &b->out, &b->up, &b->down};
        for (size_t j = 0; j < sizeof maps / sizeof *maps; j++) sp_release(maps[j]->weight.data);
    }
}

void sp_masked_free(sp_masked *m)
{
    sp_head_close(m->head);
    free_stack(&m->encoder);
    free_stack(&m->decoder);
    sp_release(m->tokens.weight.data);
    sp_release(m->between.weight.data);
    sp_arena_free(&m->arena);
}
