#include "model/head_device.h"
#include "model/loader.h"
#include "model/masked_weights.h"

static sp_device_masked_map map_of(const sp_masked_map *map)
{
    return (sp_device_masked_map){map->weight.data, map->bias, map->weight.n, map->weight.k};
}

static sp_device_layer_norm norm_of(const sp_masked_norm *norm)
{
    return (sp_device_layer_norm){norm->gain, norm->bias};
}

static sp_device_masked_stack stack_of(const sp_masked_stack *from, sp_device_masked_block *blocks)
{
    for (size_t i = 0; i < from->n; i++) {
        const sp_masked_block *b = &from->blocks[i];
        blocks[i] = (sp_device_masked_block){{norm_of(&b->norm[0]), norm_of(&b->norm[1])}, map_of(&b->qkv),
                                             map_of(&b->out), map_of(&b->up), map_of(&b->down)};
    }
    return (sp_device_masked_stack){blocks, from->n, norm_of(&from->norm)};
}

/* blocks [those of encoder and decoder]: the plan points there. */
static sp_device_masked_plan plan_of(const sp_masked *m, sp_device_masked_block *blocks)
{
    const sp_model_config *c = &m->config;
    return (sp_device_masked_plan){
        .dim = c->dim, .heads = c->heads, .head_dim = c->head_dim, .ffn_dim = c->ffn_dim, .latent_dim = c->latent_dim,
        .buffer = c->buffer, .n_positions = c->rows * c->columns, .eps = c->norm_eps, .tokens = m->tokens.weight.data,
        .tokens_bias = m->tokens.bias, .tokens_norm = norm_of(&m->tokens_norm), .no_class = m->no_class,
        .mask = m->mask, .encoder_position = m->encoder_position, .decoder_position = m->decoder_position,
        .feature_position = m->feature_position, .encoder = stack_of(&m->encoder, blocks),
        .decoder = stack_of(&m->decoder, blocks + m->encoder.n), .between = map_of(&m->between)};
}

static void leave_host(sp_masked *m)
{
    const sp_masked_stack *stacks[] = {&m->encoder, &m->decoder};
    for (size_t i = 0; i < sizeof stacks / sizeof *stacks; i++)
        for (size_t j = 0; j < stacks[i]->n; j++) {
            sp_masked_block *b = &stacks[i]->blocks[j];
            sp_load_release(&b->qkv.weight);
            sp_load_release(&b->out.weight);
            sp_load_release(&b->up.weight);
            sp_load_release(&b->down.weight);
        }
    sp_load_release(&m->tokens.weight);
    sp_load_release(&m->between.weight);
    m->packed_bytes = 0;
}

sp_status sp_masked_use_device(sp_masked *m, const sp_device_ops *device, int number, sp_error *err)
{
    if (!m->bf16 || m->device) return SP_FAIL(err, SP_EBUG, "device: only a masked model in bf16, and only once");
    sp_device_masked_block *blocks = sp_alloc(m->encoder.n + m->decoder.n, sizeof *blocks);
    if (!blocks) return SP_FAIL(err, SP_ENOMEM, "device: no host memory for the plan of the model");
    sp_device_masked_plan plan = plan_of(m, blocks);
    sp_status status = device->masked->open(&m->on_device, number, &plan, err);
    sp_release(blocks);
    SP_TRY(status);
    m->device = device;
    leave_host(m);
    return sp_head_use_device(m->head, device->heads, number, err);
}

size_t sp_masked_device_bytes(const sp_masked *m)
{
    return m->device ? m->device->masked->bytes(m->on_device) + sp_head_device_bytes(m->head) : 0;
}
