#include "model/head_device.h"

#include <string.h>

#include "model/head_weights.h"

static sp_device_linear linear_of(const sp_weight *w)
{
    return (sp_device_linear){.weights = w->data, .bias = w->bias, .n = w->n, .k = w->k};
}

static void fill(sp_head_device_plan *p, const sp_head *h)
{
    for (size_t i = 0; i < h->config.blocks; i++) {
        const sp_head_block *b = &h->blocks[i];
        p->blocks[i] = (sp_device_head_block){b->norm, b->norm_bias, linear_of(&b->up), linear_of(&b->down)};
    }
    for (size_t k = 0; k < h->config.chain.steps; k++) {
        const sp_sampler_step *s = &h->steps[k];
        p->steps[k] = (sp_device_head_step){s->keep, s->weight, s->spread, s->low, s->high};
    }
}

sp_status sp_head_device_plan_make(sp_head_device_plan *out, const sp_head *h, sp_error *err)
{
    const sp_head_config *c = &h->config;
    *out = (sp_head_device_plan){0};
    if (strcmp(h->ops->name, "ref") != 0)
        return SP_FAIL(err, SP_EBUG, "head: its weights are those of '%s': expected rows of floats", h->ops->name);
    out->blocks = sp_alloc(c->blocks, sizeof *out->blocks);
    out->steps = sp_alloc(c->chain.steps, sizeof *out->steps);
    if (!out->blocks || !out->steps) {
        sp_head_device_plan_free(out);
        return SP_FAIL(err, SP_ENOMEM, "head: no memory");
    }
    fill(out, h);
    out->plan = (sp_device_head_plan){
        .dim = c->dim, .outputs = h->outputs, .width = c->width, .hidden = c->hidden, .blocks = c->blocks,
        .groups = c->groups, .steps = c->chain.steps, .gated = c->gated, .shift_first = c->shift_first,
        .condition = linear_of(&h->condition), .modulation = linear_of(&h->modulation),
        .input = linear_of(&h->input), .output = linear_of(&h->output), .block = out->blocks, .step = out->steps,
        .time = h->time};
    return SP_OK;
}

void sp_head_device_plan_free(sp_head_device_plan *p)
{
    sp_release(p->blocks);
    sp_release(p->steps);
    *p = (sp_head_device_plan){0};
}

static void leave_host(sp_head *h)
{
    sp_weight *matrices[] = {&h->condition, &h->modulation, &h->input, &h->output};
    for (size_t i = 0; i < sizeof matrices / sizeof *matrices; i++) sp_load_release(matrices[i]);
    for (size_t i = 0; i < h->config.blocks; i++) {
        sp_load_release(&h->blocks[i].up);
        sp_load_release(&h->blocks[i].down);
    }
    h->packed_bytes = 0;
}

sp_status sp_head_use_device(sp_head *h, const sp_device_head_ops *device, int number, sp_error *err)
{
    sp_head_device_plan plan;
    SP_TRY(sp_head_device_plan_make(&plan, h, err));
    sp_status status = device->open(&h->on_device, number, &plan.plan, err);
    sp_head_device_plan_free(&plan);
    SP_TRY(status);
    h->device = device;
    leave_host(h);
    return SP_OK;
}

const sp_device_head *sp_head_on_device(const sp_head *h) { return h->on_device; }
size_t sp_head_device_bytes(const sp_head *h) { return h->device ? h->device->bytes(h->on_device) : 0; }

sp_status sp_head_device_step(const sp_head *h, sp_device_head_context *context, const sp_chain_rows *rows,
                              sp_error *err)
{
    return h->device->step(context, &(sp_device_chain_step){.n = rows->n, .row = rows->row, .k = rows->k,
                                                            .state = rows->state, .mean = rows->mean,
                                                            .deviation = rows->deviation}, err);
}
