#include "model/latent.h"

#include <math.h>
#include <string.h>

#include "base/arena.h"
#include "model/head_device.h"
#include "model/masked.h"

enum { MAX_STREAMS = 2 };

struct sp_latent {
    sp_model_config config;
    sp_transformer *transformer;
    sp_head *head;
    sp_masked *masked; /* in place of both */
    const sp_device_ops *device; /* NULL: the processor */
};

struct sp_latent_context {
    const sp_latent *latent;
    sp_context *transformer;
    sp_head_context *head;
    sp_device_head_context *device_head; /* in place of head, on a device */
    sp_masked_context *masked; /* in place of all the rest */
    sp_latent_guidance guidance;
    size_t n_streams;
    float *features; /* [MAX_STREAMS, max_window, dim]; not on a device */
    float *scale;    /* [max_window] of guidance */
    sp_arena arena;
};

static sp_status load(sp_latent *l, const sp_tensors *tensors, const sp_ops *ops, bool bf16, sp_error *err)
{
    const sp_model_config *c = &l->config;
    if (c->masked) return sp_masked_open(&l->masked, c, tensors, ops, bf16, err);
    SP_TRY(sp_transformer_open(&l->transformer, c, tensors, ops, bf16, err));
    return sp_head_open(&l->head, &c->diffusion, sp_family_find(c->family), tensors, ops, bf16, err);
}

static sp_status load_on_device(sp_latent *l, const sp_tensors *tensors, int number, sp_error *err)
{
    const sp_model_config *c = &l->config;
    const sp_ops *plain = sp_ops_find("ref"); /* rows of floats, as the device takes them */
    if (c->masked) {
        SP_TRY(sp_masked_open(&l->masked, c, tensors, sp_device_pack_ops(), true, err));
        return sp_masked_use_device(l->masked, l->device, number, err);
    }
    SP_TRY(sp_transformer_open(&l->transformer, c, tensors, sp_device_pack_ops(), true, err));
    SP_TRY(sp_transformer_use_device(l->transformer, l->device->models, number, err));
    SP_TRY(sp_head_open(&l->head, &c->diffusion, sp_family_find(c->family), tensors, plain, true, err));
    return sp_head_use_device(l->head, l->device->heads, number, err);
}

static sp_status make(sp_latent **out, const sp_model_config *config, const sp_device_ops *device, sp_error *err)
{
    sp_latent *l = sp_alloc(1, sizeof *l);
    *out = l;
    if (!l) return SP_FAIL(err, SP_ENOMEM, "model: no memory");
    l->config = *config;
    l->device = device;
    return SP_OK;
}

/* Nothing is left of what could not be loaded. */
static sp_status finish(sp_latent **out, sp_status status)
{
    if (status == SP_OK) return SP_OK;
    sp_latent_close(*out);
    *out = NULL;
    return status;
}

sp_status sp_latent_open(sp_latent **out, const sp_model_config *config, const sp_tensors *tensors, const sp_ops *ops,
                         bool bf16, sp_error *err)
{
    SP_TRY(make(out, config, NULL, err));
    return finish(out, load(*out, tensors, ops, bf16, err));
}

sp_status sp_latent_open_on(sp_latent **out, const sp_model_config *config, const sp_tensors *tensors,
                            const sp_device_ops *device, int number, sp_error *err)
{
    SP_TRY(make(out, config, device, err));
    return finish(out, load_on_device(*out, tensors, number, err));
}

void sp_latent_close(sp_latent *l)
{
    if (!l) return;
    sp_masked_close(l->masked);
    sp_head_close(l->head);
    sp_transformer_close(l->transformer);
    sp_release(l);
}

size_t sp_latent_parameters(const sp_latent *l)
{
    if (l->masked) return sp_masked_parameters(l->masked);
    return sp_transformer_parameters(l->transformer) + sp_head_parameters(l->head);
}

size_t sp_latent_head_parameters(const sp_latent *l)
{
    return l->masked ? sp_masked_head_parameters(l->masked) : sp_head_parameters(l->head);
}

size_t sp_latent_bytes(const sp_latent *l)
{
    if (l->masked) return sp_masked_bytes(l->masked);
    return sp_transformer_bytes(l->transformer) + sp_head_bytes(l->head);
}

size_t sp_latent_device_bytes(const sp_latent *l)
{
    if (l->masked) return sp_masked_device_bytes(l->masked);
    return l->device ? sp_transformer_device_bytes(l->transformer) + sp_head_device_bytes(l->head) : 0;
}

static sp_status open_parts(sp_latent_context *c, sp_pool *pool, size_t max_window, sp_error *err)
{
    const sp_latent *l = c->latent;
    if (l->masked) return sp_masked_context_open(&c->masked, l->masked, pool, err);
    SP_TRY(sp_context_open(&c->transformer, l->transformer, pool, max_window, 1, err));
    if (l->device)
        SP_TRY(l->device->heads->context_open(&c->device_head, sp_head_on_device(l->head), max_window, err));
    else SP_TRY(sp_head_context_open(&c->head, l->head, pool, max_window, err));
    size_t features = l->device ? 0 : MAX_STREAMS * max_window;
    for (int pass = 0; pass < 2; pass++) {
        c->features = sp_arena_take(&c->arena, features, l->config.dim * sizeof(float));
        c->scale = sp_arena_take(&c->arena, max_window, sizeof(float));
        if (pass == 0) SP_TRY(sp_arena_commit(&c->arena, "session (conditions)", err));
    }
    return SP_OK;
}

sp_status sp_latent_context_open(sp_latent_context **out, const sp_latent *latent, sp_pool *pool, size_t max_window,
                                 sp_error *err)
{
    *out = NULL;
    sp_latent_context *c = sp_alloc(1, sizeof *c);
    if (!c) return SP_FAIL(err, SP_ENOMEM, "session: no memory");
    c->latent = latent;
    sp_status status = open_parts(c, pool, max_window, err);
    if (status != SP_OK) {
        sp_latent_context_close(c);
        return status;
    }
    *out = c;
    return SP_OK;
}

void sp_latent_context_close(sp_latent_context *c)
{
    if (!c) return;
    if (c->device_head) c->latent->device->heads->context_close(c->device_head);
    sp_masked_context_close(c->masked);
    sp_head_context_close(c->head);
    sp_context_close(c->transformer);
    sp_arena_free(&c->arena);
    sp_release(c);
}

size_t sp_latent_context_bytes(const sp_latent_context *c)
{
    if (c->masked) return sp_masked_context_bytes(c->masked);
    return sp_context_bytes(c->transformer) + (c->head ? sp_head_context_bytes(c->head) : 0) + c->arena.bytes;
}

size_t sp_latent_context_device_bytes(const sp_latent_context *c)
{
    if (c->masked) return sp_masked_context_device_bytes(c->masked);
    if (!c->device_head) return 0;
    return sp_context_device_bytes(c->transformer) + c->latent->device->heads->context_bytes(c->device_head);
}

size_t sp_latent_context_kv_bytes(const sp_latent_context *c)
{
    return c->masked ? 0 : sp_context_kv_bytes(c->transformer);
}

static sp_status begin(void *state, const sp_model_prompt *prompt, const sp_latent_guidance *guidance, sp_error *err)
{
    sp_latent_context *c = state;
    sp_model model = sp_context_model(c->transformer);
    bool guided = guidance->cfg_scale != 1.0f;
    c->guidance = *guidance;
    c->n_streams = guided ? MAX_STREAMS : 1;
    return model.ops->begin(model.state, prompt, guided, NULL, err);
}

/* A scale is the position's own, whatever the window: the linear schedule runs from 1 to just below cfg_scale. */
static float scale_at(const sp_latent_context *c, size_t position)
{
    const sp_model_config *m = &c->latent->config;
    float above = c->guidance.cfg_scale - 1;
    if (m->guidance == SP_GUIDANCE_LINEAR) above *= (float)position / (float)(m->rows * m->columns);
    return 1 + above;
}

static sp_status condition(void *state, size_t first, size_t n, const float *latents, sp_error *err)
{
    sp_latent_context *c = state;
    sp_model model = sp_context_model(c->transformer);
    float *out = c->device_head ? NULL : c->features; /* on a device they stay there */
    sp_model_window window = {.first = first, .n = n, .latents = latents, .features = out};
    SP_TRY(model.ops->forward(model.state, &window, err));
    for (size_t j = 0; j < n; j++) c->scale[j] = scale_at(c, first + j);
    if (c->device_head) {
        const float *features = sp_context_device_features(c->transformer);
        sp_device_head_conditions conditions = {n, c->n_streams, features, c->scale, c->guidance.temperature};
        return c->latent->device->heads->condition(c->device_head, &conditions, err);
    }
    sp_head_condition(c->head, &(sp_head_conditions){.n = n, .n_streams = c->n_streams, .features = c->features,
                                                     .scale = c->scale, .temperature = c->guidance.temperature});
    return SP_OK;
}

static sp_status step(void *state, const sp_chain_rows *rows, sp_error *err)
{
    sp_latent_context *c = state;
    if (c->device_head) return sp_head_device_step(c->latent->head, c->device_head, rows, err);
    sp_head_step(c->head, rows);
    return SP_OK;
}

static sp_status chains(void *state, const sp_device_chains *chains, sp_error *err)
{
    sp_latent_context *c = state;
    return c->latent->device->heads->run(c->device_head, chains, err);
}

/* Onto the sphere of radius sqrt(dim); a state of length 0, which no chain ends in, stays finite. */
static void project(void *state, size_t n, const float *states, float *tokens)
{
    const sp_latent_context *c = state;
    size_t dim = c->latent->config.latent_dim;
    for (size_t j = 0; j < n; j++, states += dim, tokens += dim) {
        double squares = 0;
        for (size_t i = 0; i < dim; i++) squares += (double)states[i] * (double)states[i];
        double length = sqrt(squares), factor = sqrt((double)dim) / (length > 1e-7 ? length : 1e-7);
        if (!c->latent->config.project_sphere) factor = 1;
        for (size_t i = 0; i < dim; i++) tokens[i] = (float)((double)states[i] * factor);
    }
}

sp_latent_model sp_latent_context_model(sp_latent_context *context)
{
    static const sp_latent_model_ops steps = {begin, condition, step, project, NULL};
    static const sp_latent_model_ops device = {begin, condition, step, project, chains};
    const sp_latent *l = context->latent;
    const sp_model_config *m = &l->config;
    return (sp_latent_model){context->device_head ? &device : &steps, context, m->latent_dim, m->diffusion.chain.steps,
                             m->rows, m->columns,
                             sp_head_rows_apart(l->head), sp_head_fixed_deviation(l->head),
                             sp_head_degenerate(l->head)};
}

sp_masked_model sp_latent_context_masked(sp_latent_context *context)
{
    return sp_masked_context_model(context->masked);
}
