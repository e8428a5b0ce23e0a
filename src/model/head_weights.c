#include "model/head_weights.h"

#include <math.h>

#include "base/size.h"

static float *take_bias(sp_arena *arena, size_t count)
{
    return sp_arena_take(arena, sp_round_up(count, 64), sizeof(float));
}

/* The small tensors and tables: measured first, then given out. */
static void take(sp_head *h)
{
    const sp_head_config *c = &h->config;
    sp_arena *a = &h->arena;
    h->blocks = sp_arena_take(a, c->blocks, sizeof *h->blocks);
    h->steps = sp_arena_take(a, c->chain.steps, sizeof *h->steps);
    h->time = sp_arena_take(a, c->chain.steps, c->width * sizeof(float));
    h->condition_bias = take_bias(a, c->width);
    h->modulation_bias = take_bias(a, h->modulations);
    h->input_bias = take_bias(a, c->width);
    h->output_bias = take_bias(a, h->outputs);
    for (size_t i = 0; i < c->blocks; i++) {
        sp_head_block own = {.norm = sp_arena_take(a, c->width, sizeof(float))};
        own.norm_bias = sp_arena_take(a, c->width, sizeof(float));
        own.up_bias = take_bias(a, (c->gated ? 2 : 1) * c->hidden);
        own.down_bias = take_bias(a, c->width);
        if (h->blocks) h->blocks[i] = own;
    }
}

static sp_status linear(sp_loader *l, sp_slot slot, size_t index, size_t rows, size_t k, sp_weight *weight, float *bias)
{
    SP_TRY(sp_load_weight(l, slot, index, rows, k, weight));
    weight->bias = bias;
    return sp_load_bias(l, slot, index, rows, bias);
}

static sp_status block(sp_loader *l, const sp_head_config *c, size_t index, sp_head_block *to)
{
    size_t up = (c->gated ? 2 : 1) * c->hidden;
    sp_tensors_drop(l->tensors);
    SP_TRY(sp_load_vector(l, SP_SLOT_DIFFUSION_NORM, index, c->width, to->norm));
    SP_TRY(sp_load_bias(l, SP_SLOT_DIFFUSION_NORM, index, c->width, to->norm_bias));
    SP_TRY(linear(l, SP_SLOT_DIFFUSION_UP, index, up, c->width, &to->up, to->up_bias));
    return linear(l, SP_SLOT_DIFFUSION_DOWN, index, c->width, c->hidden, &to->down, to->down_bias);
}

/* Every group's rows and the last layer's as one matrix over s, so that they are one product. */
static sp_status modulation(sp_loader *l, sp_head *h)
{
    const sp_head_config *c = &h->config;
    sp_part *parts = sp_alloc(c->groups + 1, sizeof *parts);
    if (!parts) return SP_FAIL(l->err, SP_ENOMEM, "head: no memory");
    for (size_t g = 0; g < c->groups; g++) parts[g] = (sp_part){SP_SLOT_DIFFUSION_MODULATION, g, 3 * c->width};
    parts[c->groups] = (sp_part){SP_SLOT_DIFFUSION_FINAL_MODULATION, 0, 2 * c->width};
    sp_status status = sp_load_stacked(l, parts, c->groups + 1, c->width, 0, &h->modulation);
    float *bias = h->modulation_bias;
    for (size_t i = 0; i <= c->groups && status == SP_OK; bias += parts[i++].rows)
        status = sp_load_bias(l, parts[i].slot, parts[i].index, parts[i].rows, bias);
    h->modulation.bias = h->modulation_bias;
    sp_release(parts);
    return status;
}

typedef struct time_mlp {
    sp_weight in, out;
    float *in_bias, *out_bias; /* [width] */
    float *embedding;          /* [steps, time_width] */
    float *hidden;             /* [steps, width] */
    void *scratch;
    sp_arena arena;
} time_mlp;

static void take_time(time_mlp *m, const sp_head *h)
{
    const sp_head_config *c = &h->config;
    size_t inputs = c->time_width > c->width ? c->time_width : c->width;
    m->in_bias = take_bias(&m->arena, c->width);
    m->out_bias = take_bias(&m->arena, c->width);
    m->embedding = sp_arena_take(&m->arena, c->chain.steps, c->time_width * sizeof(float));
    m->hidden = sp_arena_take(&m->arena, c->chain.steps, c->width * sizeof(float));
    m->scratch = sp_arena_take(&m->arena, h->ops->gemm_scratch(c->chain.steps, inputs), 1);
}

/* Cosines of time f_i, then as many sines, f_i = 10000^(-i / half). */
static void embed(float time, size_t half, float *out)
{
    for (size_t i = 0; i < half; i++) {
        double angle = (double)time * pow(10000, -(double)i / (double)half);
        out[i] = (float)cos(angle);
        out[half + i] = (float)sin(angle);
    }
}

static sp_status run_time(time_mlp *m, sp_head *h, sp_loader *l)
{
    const sp_head_config *c = &h->config;
    size_t n = c->chain.steps;
    take_time(m, h);
    SP_TRY(sp_arena_commit(&m->arena, "head (time table)", l->err));
    take_time(m, h);
    SP_TRY(linear(l, SP_SLOT_DIFFUSION_TIME_IN, 0, c->width, c->time_width, &m->in, m->in_bias));
    SP_TRY(linear(l, SP_SLOT_DIFFUSION_TIME_OUT, 0, c->width, c->width, &m->out, m->out_bias));
    for (size_t k = 0; k < n; k++) embed(h->steps[k].time, c->time_width / 2, m->embedding + k * c->time_width);
    h->ops->gemm(NULL, &m->in, m->embedding, c->time_width, n, m->hidden, c->width, SP_GEMM_SET, m->scratch);
    h->ops->silu(NULL, m->hidden, NULL, n, c->width, m->hidden);
    h->ops->gemm(NULL, &m->out, m->hidden, c->width, n, h->time, c->width, SP_GEMM_SET, m->scratch);
    return SP_OK;
}

/* The time MLP is run here, once for every step of the chain, and not kept. */
static sp_status time_table(sp_loader *l, sp_head *h)
{
    time_mlp m = {0};
    size_t packed = l->packed_bytes;
    sp_status status = run_time(&m, h, l);
    l->packed_bytes = packed;
    sp_release(m.in.data);
    sp_release(m.out.data);
    sp_arena_free(&m.arena);
    return status;
}

/* First and last layer and the time table are in float whatever the arithmetic: what a rounded output costs, a chain
 * multiplies (docs/models/mar.md). */
static sp_status exact_layers(sp_loader *l, sp_head *h)
{
    const sp_head_config *c = &h->config;
    SP_TRY(linear(l, SP_SLOT_DIFFUSION_INPUT, 0, c->width, c->dim, &h->input, h->input_bias));
    SP_TRY(linear(l, SP_SLOT_DIFFUSION_OUTPUT, 0, h->outputs, c->width, &h->output, h->output_bias));
    return time_table(l, h);
}

sp_status sp_head_weights_load(sp_head *h, sp_loader *l)
{
    const sp_head_config *c = &h->config;
    h->modulations = (3 * c->groups + 2) * c->width;
    h->outputs = (c->sampler->learns_deviation ? 2 : 1) * c->dim;
    take(h);
    SP_TRY(sp_arena_commit(&h->arena, "head tables", l->err));
    take(h);
    c->sampler->fill(&c->chain, h->steps);
    bool bf16 = l->bf16;
    l->bf16 = false;
    SP_TRY(exact_layers(l, h));
    l->bf16 = bf16;
    SP_TRY(linear(l, SP_SLOT_DIFFUSION_CONDITION, 0, c->width, c->condition, &h->condition, h->condition_bias));
    SP_TRY(modulation(l, h));
    for (size_t i = 0; i < c->blocks; i++) SP_TRY(block(l, c, i, &h->blocks[i]));
    h->parameters = l->parameters;
    h->packed_bytes = l->packed_bytes;
    return SP_OK;
}

void sp_head_weights_free(sp_head *h)
{
    for (size_t i = 0; h->arena.memory && i < h->config.blocks; i++) {
        sp_release(h->blocks[i].up.data);
        sp_release(h->blocks[i].down.data);
    }
    sp_release(h->condition.data);
    sp_release(h->modulation.data);
    sp_release(h->input.data);
    sp_release(h->output.data);
    sp_arena_free(&h->arena);
}
