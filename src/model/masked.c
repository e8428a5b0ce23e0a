#include "model/masked.h"

#include <math.h>
#include <string.h>

#include "base/size.h"
#include "model/head_device.h"
#include "model/masked_weights.h"
#include "model/weights.h"

enum { CONDITIONAL = 0, FREE = 1, MAX_STREAMS = 2 };

/* Rows of a pass are those of the conditional stream, then as many of the free one; of each the buffer, then tokens. */
struct sp_masked_context {
    const sp_masked *m;
    sp_pool *pool;
    sp_latent_guidance guidance;
    size_t n_streams, max_rows;   /* max_rows: a stream */
    int32_t *known;               /* [positions] that are known, ascending; n_known of them */
    size_t n_known;
    int32_t *stream, *slot, *last, *zero; /* [all rows] of attention: every row sees all of its stream */
    float *class_row;             /* [dim] */
    float *latents;               /* [positions, latent_dim] of the known ones */
    float *x, *norm, *qkv, *attended, *active; /* [all rows, ...] */
    float *features, *scale;      /* [all rows, dim]; [positions] */
    sp_kv_view kv[MAX_STREAMS];   /* of the layer that runs */
    void *gemm_scratch, *attention_scratch;
    sp_head_context *head;
    /* On a device, which then does the rest: class_row, scale and guidance are all that is here. */
    sp_device_masked_context *there;
    sp_device_head_context *head_there;
    sp_arena arena;
};

sp_status sp_masked_open(sp_masked **out, const sp_model_config *config, const sp_tensors *tensors, const sp_ops *ops,
                         bool bf16, sp_error *err)
{
    *out = NULL;
    sp_masked *m = sp_alloc(1, sizeof *m);
    if (!m) return SP_FAIL(err, SP_ENOMEM, "model: no memory");
    m->config = *config;
    m->ops = ops;
    m->bf16 = bf16;
    sp_status status = sp_masked_load(m, tensors, err);
    if (status != SP_OK) {
        sp_masked_close(m);
        return status;
    }
    *out = m;
    return SP_OK;
}

void sp_masked_close(sp_masked *m)
{
    if (!m) return;
    if (m->on_device) m->device->masked->close(m->on_device);
    sp_masked_free(m);
    sp_release(m);
}

size_t sp_masked_parameters(const sp_masked *m) { return m->parameters + sp_head_parameters(m->head); }
size_t sp_masked_head_parameters(const sp_masked *m) { return sp_head_parameters(m->head); }
size_t sp_masked_bytes(const sp_masked *m) { return m->packed_bytes + m->arena.bytes + sp_head_bytes(m->head); }

static void take(sp_masked_context *c)
{
    const sp_masked *m = c->m;
    const sp_model_config *g = &m->config;
    sp_arena *a = &c->arena;
    size_t positions = g->rows * g->columns, rows = MAX_STREAMS * c->max_rows, width = g->heads * g->head_dim;
    size_t capacity = sp_round_up(c->max_rows, 32), inputs = g->ffn_dim > g->dim ? g->ffn_dim : g->dim;
    int32_t **of_rows[] = {&c->stream, &c->slot, &c->last, &c->zero};
    c->class_row = sp_arena_take(a, g->dim, sizeof(float));
    c->scale = sp_arena_take(a, positions, sizeof(float));
    if (m->device) return;
    for (size_t i = 0; i < sizeof of_rows / sizeof *of_rows; i++) *of_rows[i] = sp_arena_take(a, rows, sizeof(int32_t));
    if (width > inputs) inputs = width;
    c->known = sp_arena_take(a, positions, sizeof *c->known);
    c->latents = sp_arena_take(a, positions, g->latent_dim * sizeof(float));
    c->x = sp_arena_take(a, rows, g->dim * sizeof(float));
    c->norm = sp_arena_take(a, rows, g->dim * sizeof(float));
    c->features = sp_arena_take(a, rows, g->dim * sizeof(float));
    c->qkv = sp_arena_take(a, rows, 3 * width * sizeof(float));
    c->attended = sp_arena_take(a, rows, width * sizeof(float));
    c->active = sp_arena_take(a, rows, g->ffn_dim * sizeof(float));
    for (size_t s = 0; s < MAX_STREAMS; s++)
        c->kv[s] = (sp_kv_view){.keys = sp_arena_take(a, capacity, width * sizeof(float)),
                                .values = sp_arena_take(a, capacity, width * sizeof(float)), .capacity = capacity,
                                .round = m->bf16};
    c->gemm_scratch = sp_arena_take(a, m->ops->gemm_scratch(rows, inputs), 1);
    c->attention_scratch =
        sp_arena_take(a, m->ops->attention_scratch(capacity, g->head_dim, sp_pool_threads(c->pool)), 1);
}

static sp_status open_parts(sp_masked_context *c, sp_error *err)
{
    const sp_masked *m = c->m;
    size_t positions = m->config.rows * m->config.columns;
    take(c);
    SP_TRY(sp_arena_commit(&c->arena, "session (scratch)", err));
    take(c);
    if (!m->device) return sp_head_context_open(&c->head, m->head, c->pool, positions, err);
    SP_TRY(m->device->masked->context_open(&c->there, m->on_device, err));
    return m->device->heads->context_open(&c->head_there, sp_head_on_device(m->head), positions, err);
}

sp_status sp_masked_context_open(sp_masked_context **out, const sp_masked *m, sp_pool *pool, sp_error *err)
{
    *out = NULL;
    sp_masked_context *c = sp_alloc(1, sizeof *c);
    if (!c) return SP_FAIL(err, SP_ENOMEM, "session: no memory");
    c->m = m;
    c->pool = pool;
    c->max_rows = m->config.buffer + m->config.rows * m->config.columns;
    sp_status status = open_parts(c, err);
    if (status != SP_OK) {
        sp_masked_context_close(c);
        return status;
    }
    *out = c;
    return SP_OK;
}

void sp_masked_context_close(sp_masked_context *c)
{
    if (!c) return;
    if (c->there) c->m->device->masked->context_close(c->there);
    if (c->head_there) c->m->device->heads->context_close(c->head_there);
    sp_head_context_close(c->head);
    sp_arena_free(&c->arena);
    sp_release(c);
}

size_t sp_masked_context_bytes(const sp_masked_context *c)
{
    return c->arena.bytes + (c->head ? sp_head_context_bytes(c->head) : 0);
}

size_t sp_masked_context_device_bytes(const sp_masked_context *c)
{
    const sp_device_ops *device = c->m->device;
    return device ? device->masked->context_bytes(c->there) + device->heads->context_bytes(c->head_there) : 0;
}

const float *sp_masked_features(const sp_masked_context *c) { return c->features; }

/* y = or += x W^T + bias. */
static void apply(const sp_masked_context *c, const sp_masked_map *map, const float *x, size_t n_rows, float *y,
                  sp_gemm_mode mode)
{
    const sp_weight *w = &map->weight;
    c->m->ops->gemm(c->pool, w, x, w->k, n_rows, y, w->n, mode, c->gemm_scratch);
}

static void normalise(const sp_masked_context *c, const sp_masked_norm *norm, const float *x, size_t n_rows, float *y)
{
    const sp_model_config *g = &c->m->config;
    c->m->ops->layer_norm(c->pool, x, norm->gain, norm->bias, g->norm_eps, n_rows, g->dim, 1, y);
}

/* All blocks over n_rows rows a stream in x, then the last norm into norm. */
static void run_stack(const sp_masked_context *c, const sp_masked_stack *stack, size_t n_rows)
{
    const sp_model_config *g = &c->m->config;
    const sp_ops *ops = c->m->ops;
    size_t all = c->n_streams * n_rows, width = g->heads * g->head_dim;
    for (size_t row = 0; row < all; row++) {
        c->stream[row] = (int32_t)(row / n_rows);
        c->slot[row] = (int32_t)(row % n_rows);
        c->last[row] = (int32_t)n_rows - 1;
    }
    sp_attention_rows written = {.n_rows = all, .stream = c->stream, .position = c->slot, .first_key = c->zero,
                                 .heads = g->heads, .kv_heads = g->heads, .head_dim = g->head_dim,
                                 .scale = 1.0f / sqrtf((float)g->head_dim)};
    sp_attention_rows seen = written;
    seen.position = c->last;
    for (size_t i = 0; i < stack->n; i++) {
        const sp_masked_block *b = &stack->blocks[i];
        normalise(c, &b->norm[0], c->x, all, c->norm);
        apply(c, &b->qkv, c->norm, all, c->qkv, SP_GEMM_SET);
        ops->kv_write(c->pool, &written, c->qkv + width, c->qkv + 2 * width, 3 * width, c->kv);
        ops->attention(c->pool, &seen, c->qkv, 3 * width, c->kv, c->attended, c->attention_scratch);
        apply(c, &b->out, c->attended, all, c->x, SP_GEMM_ADD);
        normalise(c, &b->norm[1], c->x, all, c->norm);
        apply(c, &b->up, c->norm, all, c->active, SP_GEMM_SET);
        ops->gelu(c->pool, c->active, all * g->ffn_dim, false);
        apply(c, &b->down, c->active, all, c->x, SP_GEMM_ADD);
    }
    normalise(c, &stack->norm, c->x, all, c->norm);
}

static void add_row(float *x, const float *table, size_t row, size_t width)
{
    for (size_t i = 0; i < width; i++) x[i] += table[row * width + i];
}

/* Rows of the encoder in x, n_rows a stream. */
static void embed(sp_masked_context *c, const sp_masked_pass *pass, size_t n_rows)
{
    const sp_masked *m = c->m;
    size_t dim = m->config.dim, width = m->config.latent_dim, buffer = m->config.buffer;
    const float *classes[MAX_STREAMS] = {c->class_row, m->no_class};
    for (size_t i = 0; i < c->n_known; i++)
        memcpy(c->latents + i * width, pass->latents + (size_t)c->known[i] * width, width * sizeof(float));
    if (c->n_known) apply(c, &m->tokens, c->latents, c->n_known, c->norm, SP_GEMM_SET);
    for (size_t s = 0; s < c->n_streams; s++) {
        float *x = c->x + s * n_rows * dim;
        for (size_t i = 0; i < n_rows; i++, x += dim) {
            size_t position = i < buffer ? i : buffer + (size_t)c->known[i - buffer];
            memcpy(x, i < buffer ? classes[s] : c->norm + (i - buffer) * dim, dim * sizeof *x);
            add_row(x, m->encoder_position, position, dim);
        }
    }
    normalise(c, &m->tokens_norm, c->x, c->n_streams * n_rows, c->x);
}

/* From the encoder's rows in features, n_rows a stream, the decoder's in x: max_rows a stream. */
static void spread(sp_masked_context *c, const sp_masked_pass *pass, size_t n_rows)
{
    const sp_masked *m = c->m;
    size_t dim = m->config.dim, buffer = m->config.buffer;
    for (size_t s = 0; s < c->n_streams; s++) {
        const float *from = c->features + s * n_rows * dim;
        float *x = c->x + s * c->max_rows * dim;
        for (size_t i = 0; i < c->max_rows; i++, x += dim) {
            bool known = i < buffer || pass->known[i - buffer];
            memcpy(x, known ? from : m->mask, dim * sizeof *x);
            if (known) from += dim;
            add_row(x, m->decoder_position, i, dim);
        }
    }
}

static void collect(sp_masked_context *c, const sp_masked_pass *pass)
{
    const sp_masked *m = c->m;
    size_t dim = m->config.dim, buffer = m->config.buffer;
    for (size_t s = 0; s < c->n_streams; s++)
        for (size_t j = 0; j < pass->n; j++) {
            size_t position = (size_t)pass->positions[j];
            float *to = c->features + (s * pass->n + j) * dim;
            memcpy(to, c->norm + (s * c->max_rows + buffer + position) * dim, dim * sizeof *to);
            add_row(to, m->feature_position, position, dim);
        }
}

static void set_scale(sp_masked_context *c, const sp_masked_pass *pass)
{
    for (size_t j = 0; j < pass->n; j++) {
        float share = c->m->config.guidance == SP_GUIDANCE_LINEAR ? pass->share[j] : 1;
        c->scale[j] = 1 + (c->guidance.cfg_scale - 1) * share;
    }
}

static sp_status condition(void *state, const sp_masked_pass *pass, sp_error *err)
{
    sp_masked_context *c = state;
    const sp_model_config *g = &c->m->config;
    size_t positions = g->rows * g->columns;
    c->n_known = 0;
    for (size_t i = 0; i < positions; i++)
        if (pass->known[i]) c->known[c->n_known++] = (int32_t)i;
    size_t n_rows = g->buffer + c->n_known;
    embed(c, pass, n_rows);
    run_stack(c, &c->m->encoder, n_rows);
    apply(c, &c->m->between, c->norm, c->n_streams * n_rows, c->features, SP_GEMM_SET);
    spread(c, pass, n_rows);
    run_stack(c, &c->m->decoder, c->max_rows);
    collect(c, pass);
    set_scale(c, pass);
    for (size_t i = 0; i < c->n_streams * pass->n * g->dim; i++)
        if (!isfinite(c->features[i]))
            return SP_FAIL(err, SP_EFORMAT, "model: the condition of position %d came out as %g: expected numbers; the "
                           "weights overflow, fetch them again", (int)pass->positions[i / g->dim % pass->n],
                           (double)c->features[i]);
    sp_head_condition(c->head, &(sp_head_conditions){.n = pass->n, .n_streams = c->n_streams, .features = c->features,
                                                     .scale = c->scale, .temperature = c->guidance.temperature});
    return SP_OK;
}

/* Features stay on the device. */
static sp_status condition_there(void *state, const sp_masked_pass *pass, sp_error *err)
{
    sp_masked_context *c = state;
    const sp_device_ops *device = c->m->device;
    sp_device_masked_pass there = {c->n_streams, c->class_row, pass->known, pass->latents, pass->n, pass->positions};
    SP_TRY(device->masked->pass(c->there, &there, NULL, err));
    set_scale(c, pass);
    sp_device_head_conditions conditions = {pass->n, c->n_streams, device->masked->features(c->there), c->scale,
                                            c->guidance.temperature};
    return device->heads->condition(c->head_there, &conditions, err);
}

static sp_status begin(void *state, const sp_model_prompt *prompt, const sp_latent_guidance *guidance, sp_error *err)
{
    sp_masked_context *c = state;
    const sp_model_config *g = &c->m->config;
    if (prompt->n_ids != 1 || prompt->ids[0] < 0 || (size_t)prompt->ids[0] >= g->n_classes)
        return SP_FAIL(err, SP_EARG, "model: expected one class from 0 to %zu", g->n_classes - 1);
    sp_table_row(c->m->classes, (size_t)prompt->ids[0], g->dim, c->class_row);
    c->guidance = *guidance;
    c->n_streams = guidance->cfg_scale == 1 ? 1 : MAX_STREAMS;
    return SP_OK;
}

static sp_status step(void *state, const sp_chain_rows *rows, sp_error *err)
{
    const sp_masked_context *c = state;
    if (c->head_there) return sp_head_device_step(c->m->head, c->head_there, rows, err);
    sp_head_step(c->head, rows);
    return SP_OK;
}

static sp_status chains(void *state, const sp_device_chains *chains, sp_error *err)
{
    const sp_masked_context *c = state;
    return c->m->device->heads->run(c->head_there, chains, err);
}

sp_masked_model sp_masked_context_model(sp_masked_context *context)
{
    static const sp_masked_model_ops here = {begin, condition, step, NULL};
    static const sp_masked_model_ops there = {begin, condition_there, step, chains};
    const sp_model_config *g = &context->m->config;
    return (sp_masked_model){.ops = context->there ? &there : &here, .state = context, .dim = g->latent_dim,
                             .n_steps = g->diffusion.chain.steps, .rows = g->rows, .columns = g->columns,
                             .rows_apart = sp_head_rows_apart(context->m->head)};
}
