#include "model/transformer.h"

#include <math.h>
#include <string.h>

#include "base/arena.h"
#include "base/size.h"
#include "model/weights.h"

enum { CONDITIONAL = 0, FREE = 1, MAX_STREAMS = 2 };

struct sp_context {
    const sp_transformer *t;
    sp_pool *pool;
    size_t max_window, max_rows;    /* max_rows: of a pass, in all streams */
    size_t n_pictures, picture;     /* whose memory is here, and which of them is in work; a device has its own */
    size_t n_streams;               /* of a picture: stream s of picture p is number MAX_STREAMS p + s */
    int32_t *prefix_ids;            /* [n_pictures * MAX_STREAMS, prefix_length] */
    sp_kv_view *kv;                 /* [layers, n_pictures * MAX_STREAMS] */
    int32_t *before;                /* [n_pictures * MAX_STREAMS, capacity] of kv, the same in every layer */
    size_t capacity, kv_bytes;
    int32_t *stream, *position, *first_key, *slot;
    int32_t *token;                 /* [max_rows] of a device: a code, or ~id of the prefix */
    sp_device_context *device;      /* NULL: passes run on the processor */
    bool branched;                  /* rows lie at slots */
    float *x, *norm, *qkv, *attended, *gate_up, *active, *hidden; /* [max_rows, ...] */
    sp_pool *pair, *half[MAX_STREAMS];           /* threads as two teams, a stream each; NULL: one team */
    void *gemm_scratch[MAX_STREAMS], *attention_scratch[MAX_STREAMS]; /* of a team */
    sp_arena arena;
};

/* Rows of a pass that one team works on: slices of the context's. */
typedef struct batch {
    sp_pool *pool;
    size_t n_rows;
    const int32_t *stream, *position, *first_key, *slot;
    float *x, *norm, *qkv, *attended, *gate_up, *active, *hidden;
    void *gemm_scratch, *attention_scratch;
} batch;

sp_status sp_transformer_open(sp_transformer **out, const sp_model_config *config, const sp_tensors *tensors,
                              const sp_ops *ops, bool bf16, sp_error *err)
{
    *out = NULL;
    sp_transformer *t = sp_alloc(1, sizeof *t);
    if (!t) return SP_FAIL(err, SP_ENOMEM, "model: no memory");
    t->config = *config;
    t->ops = ops;
    t->bf16 = bf16;
    sp_status status = sp_weights_load(t, tensors, err);
    if (status != SP_OK) {
        sp_transformer_close(t);
        return status;
    }
    *out = t;
    return SP_OK;
}

void sp_transformer_close(sp_transformer *t)
{
    if (!t) return;
    if (t->on_device) t->device->close(t->on_device);
    sp_weights_free(t);
    sp_release(t);
}

size_t sp_transformer_parameters(const sp_transformer *t) { return t->parameters; }
size_t sp_transformer_bytes(const sp_transformer *t) { return t->packed_bytes + t->arena.bytes; }

static size_t largest(size_t a, size_t b) { return a > b ? a : b; }

static void take_scratch(sp_context *c)
{
    const sp_transformer *t = c->t;
    const sp_model_config *m = &t->config;
    size_t rows = c->max_rows, q = m->heads * m->head_dim, kv = m->kv_heads * m->head_dim;
    size_t inputs = largest(largest(m->dim, q), largest(m->ffn_dim, m->head_hidden));
    sp_arena *a = &c->arena;
    c->stream = sp_arena_take(a, rows, sizeof *c->stream);
    c->position = sp_arena_take(a, rows, sizeof *c->position);
    c->first_key = sp_arena_take(a, rows, sizeof *c->first_key);
    c->slot = sp_arena_take(a, rows, sizeof *c->slot);
    c->prefix_ids = sp_arena_take(a, c->n_pictures * MAX_STREAMS, m->prefix_length * sizeof(int32_t));
    c->norm = sp_arena_take(a, rows, m->dim * sizeof(float));
    c->token = sp_arena_take(a, t->device ? rows : 0, sizeof *c->token);
    if (t->device) return;
    c->x = sp_arena_take(a, rows, m->dim * sizeof(float));
    c->qkv = sp_arena_take(a, rows, (q + 2 * kv) * sizeof(float));
    c->attended = sp_arena_take(a, rows, q * sizeof(float));
    c->gate_up = sp_arena_take(a, rows, 2 * m->ffn_dim * sizeof(float));
    c->active = sp_arena_take(a, rows, m->ffn_dim * sizeof(float));
    c->hidden = sp_arena_take(a, rows, m->head_hidden * sizeof(float));
    for (size_t team = 0; team < MAX_STREAMS; team++) {
        c->gemm_scratch[team] = sp_arena_take(a, t->ops->gemm_scratch(rows, inputs), 1);
        c->attention_scratch[team] =
            sp_arena_take(a, t->ops->attention_scratch(c->capacity, m->head_dim, sp_pool_threads(c->pool)), 1);
    }
}

static void take_kv(sp_context *c)
{
    const sp_model_config *m = &c->t->config;
    size_t capacity = c->capacity, width = m->kv_heads * m->head_dim, n_streams = c->n_pictures * MAX_STREAMS;
    c->before = sp_arena_take(&c->arena, n_streams, capacity * sizeof(int32_t));
    if (c->t->device) return;
    c->kv = sp_arena_take(&c->arena, m->layers * n_streams, sizeof *c->kv);
    for (size_t i = 0; i < m->layers * n_streams; i++) {
        sp_kv_view view = {.keys = sp_arena_take(&c->arena, capacity, width * sizeof(float)),
                           .values = sp_arena_take(&c->arena, capacity, width * sizeof(float)),
                           .capacity = capacity, .round = c->t->bf16};
        if (c->before) view.before = c->before + i % n_streams * capacity;
        if (c->kv) c->kv[i] = view;
    }
    c->kv_bytes = m->layers * n_streams * 2 * capacity * width * sizeof(float);
}

static void close_teams(sp_context *c)
{
    for (size_t team = 0; team < MAX_STREAMS; team++) sp_pool_close(c->half[team]);
    if (c->pair != c->pool) sp_pool_close(c->pair);
}

/* A team of one thread needs no pool. */
static sp_status open_teams(sp_context *c, sp_error *err)
{
    int threads = sp_pool_threads(c->pool);
    if (threads % MAX_STREAMS != 0) return SP_OK;
    if (threads == MAX_STREAMS) {
        c->pair = c->pool;
        return SP_OK;
    }
    for (size_t team = 0; team < MAX_STREAMS; team++)
        SP_TRY(sp_pool_open(&c->half[team], threads / MAX_STREAMS, err));
    return sp_pool_open(&c->pair, MAX_STREAMS, err);
}

sp_status sp_context_open(sp_context **out, const sp_transformer *t, sp_pool *pool, size_t max_window,
                          size_t max_pictures, sp_error *err)
{
    *out = NULL;
    sp_context *c = sp_alloc(1, sizeof *c);
    if (!c) return SP_FAIL(err, SP_ENOMEM, "session: no memory");
    c->t = t;
    c->pool = pool;
    c->max_window = max_window;
    c->n_pictures = t->device ? 1 : max_pictures;
    c->max_rows = MAX_STREAMS * sp_context_rows(max_window, c->n_pictures);
    /* The last tree may start at the last position. */
    c->capacity = sp_round_up(t->config.prefix_length + t->config.rows * t->config.columns + max_window, 32);
    sp_status status = t->device ? SP_OK : open_teams(c, err);
    if (t->device)
        status = t->device->context_open(&c->device, t->on_device, max_window, t->config.codec.code_dim, max_pictures,
                                         err);
    for (int pass = 0; pass < 2 && status == SP_OK; pass++) {
        take_scratch(c);
        take_kv(c);
        if (pass == 0) status = sp_arena_commit(&c->arena, "session (KV cache and scratch)", err);
    }
    if (status != SP_OK) {
        sp_context_close(c);
        return status;
    }
    *out = c;
    return SP_OK;
}

void sp_context_close(sp_context *c)
{
    if (!c) return;
    if (c->device) c->t->device->context_close(c->device);
    close_teams(c);
    sp_arena_free(&c->arena);
    sp_release(c);
}

size_t sp_context_bytes(const sp_context *c) { return c->arena.bytes; }

size_t sp_context_kv_bytes(const sp_context *c)
{
    return c->device ? c->t->device->context_kv_bytes(c->device) : c->kv_bytes;
}

size_t sp_context_device_bytes(const sp_context *c) { return c->device ? c->t->device->context_bytes(c->device) : 0; }

const float *sp_context_device_features(const sp_context *c)
{
    return c->device ? c->t->device->features(c->device) : NULL;
}

sp_device_loop sp_context_loop(sp_context *c)
{
    return c->device ? c->t->device->loop(c->device) : (sp_device_loop){0};
}

void sp_context_select(sp_context *c, size_t picture)
{
    if (c->device) c->t->device->select(c->device, picture);
    else c->picture = picture;
}

size_t sp_context_rows(size_t max_window, size_t max_pictures)
{
    return max_pictures > 1 && max_window < SP_BATCH_ROWS ? SP_BATCH_ROWS : max_window;
}

/* Norm of query and key heads, head by head, before they are rotated. */
static void normalise_heads(const sp_context *c, const batch *b, const sp_layer *layer, size_t stride)
{
    const sp_model_config *m = &c->t->config;
    const sp_ops *ops = c->t->ops;
    for (size_t row = 0; row < b->n_rows; row++) {
        float *q = b->qkv + row * stride, *k = q + m->heads * m->head_dim;
        if (m->qk_norm == SP_QK_NORM_LAYER) {
            ops->layer_norm(b->pool, q, layer->q_norm, layer->q_norm_bias, m->norm_eps, m->heads, m->head_dim,
                            m->heads, q);
            ops->layer_norm(b->pool, k, layer->k_norm, layer->k_norm_bias, m->norm_eps, m->kv_heads, m->head_dim,
                            m->kv_heads, k);
        } else {
            for (size_t h = 0; h < m->heads; h++)
                ops->rms_norm(b->pool, q + h * m->head_dim, layer->q_norm + h * m->head_dim, m->norm_eps, 1,
                              m->head_dim,
                              q + h * m->head_dim);
            for (size_t h = 0; h < m->kv_heads; h++)
                ops->rms_norm(b->pool, k + h * m->head_dim, layer->k_norm + h * m->head_dim, m->norm_eps, 1,
                              m->head_dim,
                              k + h * m->head_dim);
        }
    }
}

static void attention_block(const sp_context *c, const batch *b, size_t index)
{
    const sp_transformer *t = c->t;
    const sp_model_config *m = &t->config;
    const sp_ops *ops = t->ops;
    const sp_layer *layer = &t->layers[index];
    size_t q = m->heads * m->head_dim, kv = m->kv_heads * m->head_dim, stride = q + 2 * kv;
    sp_attention_rows rows = {.n_rows = b->n_rows, .stream = b->stream, .position = b->position,
                              .first_key = b->first_key, .slot = c->branched ? b->slot : NULL, .heads = m->heads,
                              .kv_heads = m->kv_heads, .head_dim = m->head_dim,
                              .scale = 1.0f / sqrtf((float)m->head_dim)};
    const sp_kv_view *view = &c->kv[index * c->n_pictures * MAX_STREAMS];
    ops->rms_norm(b->pool, b->x, layer->attention_norm, m->norm_eps, b->n_rows, m->dim, b->norm);
    ops->gemm(b->pool, &layer->qkv, b->norm, m->dim, b->n_rows, b->qkv, stride, SP_GEMM_SET, b->gemm_scratch);
    if (m->qk_norm != SP_QK_NORM_NONE) normalise_heads(c, b, layer, stride);
    /* Queries and keys lie side by side: one call turns both. */
    ops->rope(b->pool, b->qkv, stride, t->cosine, t->sine, b->position, b->n_rows, m->heads + m->kv_heads, m->head_dim,
              m->rope_adjacent);
    ops->kv_write(b->pool, &rows, b->qkv + q, b->qkv + q + kv, stride, view);
    ops->attention(b->pool, &rows, b->qkv, stride, view, b->attended, b->attention_scratch);
    ops->gemm(b->pool, &layer->o, b->attended, q, b->n_rows, b->x, m->dim, SP_GEMM_ADD, b->gemm_scratch);
}

static void ffn_block(const sp_context *c, const batch *b, size_t index)
{
    const sp_model_config *m = &c->t->config;
    const sp_ops *ops = c->t->ops;
    const sp_layer *layer = &c->t->layers[index];
    ops->rms_norm(b->pool, b->x, layer->ffn_norm, m->norm_eps, b->n_rows, m->dim, b->norm);
    ops->gemm(b->pool, &layer->gate_up, b->norm, m->dim, b->n_rows, b->gate_up, 2 * m->ffn_dim, SP_GEMM_SET,
              b->gemm_scratch);
    ops->swiglu(b->pool, b->gate_up, b->n_rows, m->ffn_dim, b->active);
    ops->gemm(b->pool, &layer->down, b->active, m->ffn_dim, b->n_rows, b->x, m->dim, SP_GEMM_ADD, b->gemm_scratch);
}

static void add_bias(float *y, const float *bias, size_t n_rows, size_t width)
{
    for (size_t row = 0; row < n_rows; row++)
        for (size_t i = 0; i < width; i++) y[row * width + i] += bias[i];
}

/* Logits [n_rows, n_codes] of the rows whose features are in norm. */
static void head(const sp_context *c, const batch *b, float *logits)
{
    const sp_transformer *t = c->t;
    const sp_model_config *m = &t->config;
    const sp_ops *ops = t->ops;
    const float *inputs = b->norm;
    size_t width = m->dim;
    if (m->head == SP_HEAD_MLP) {
        width = m->head_hidden;
        ops->gemm(b->pool, &t->head_hidden, b->norm, m->dim, b->n_rows, b->hidden, width, SP_GEMM_SET,
                  b->gemm_scratch);
        add_bias(b->hidden, t->head_hidden_bias, b->n_rows, width);
        ops->gelu(b->pool, b->hidden, b->n_rows * width, false);
        inputs = b->hidden;
    }
    ops->gemm(b->pool, &t->head, inputs, width, b->n_rows, logits, m->n_codes, SP_GEMM_SET, b->gemm_scratch);
    if (m->head == SP_HEAD_MLP) add_bias(logits, t->head_bias, b->n_rows, m->n_codes);
}

static batch slice(const sp_context *c, size_t team, sp_pool *pool, size_t from, size_t n_rows)
{
    const sp_model_config *m = &c->t->config;
    size_t q = m->heads * m->head_dim, kv = m->kv_heads * m->head_dim;
    return (batch){.pool = pool, .n_rows = n_rows, .stream = c->stream + from, .position = c->position + from,
                   .first_key = c->first_key + from, .slot = c->slot + from, .x = c->x + from * m->dim,
                   .norm = c->norm + from * m->dim,
                   .qkv = c->qkv + from * (q + 2 * kv), .attended = c->attended + from * q,
                   .gate_up = c->gate_up + from * 2 * m->ffn_dim, .active = c->active + from * m->ffn_dim,
                   .hidden = c->hidden + from * m->head_hidden, .gemm_scratch = c->gemm_scratch[team],
                   .attention_scratch = c->attention_scratch[team]};
}

typedef struct stages {
    const sp_context *c;
    size_t layer, end; /* layer .. end - 1; the number of layers stands for the last norm and the head */
    size_t n_rows[MAX_STREAMS];
    float *logits;
} stages;

static void run_stages(const stages *s, const batch *b, float *logits)
{
    const sp_transformer *t = s->c->t;
    if (s->layer == 0 && t->config.input_norm)
        t->ops->rms_norm(b->pool, b->x, t->input_norm, t->config.norm_eps, b->n_rows, t->config.dim, b->x);
    for (size_t layer = s->layer; layer < s->end && layer < t->config.layers; layer++) {
        attention_block(s->c, b, layer);
        ffn_block(s->c, b, layer);
    }
    if (s->end <= t->config.layers) return;
    t->ops->rms_norm(b->pool, b->x, t->norm, t->config.norm_eps, b->n_rows, t->config.dim, b->norm);
    if (logits) head(s->c, b, logits);
}

/* With fewer rows a team than TEAM_ROWS the time goes into reading the weights, and one team reads them once.
 * Weights up to LOCKSTEP_BYTES stay in a shared cache; of larger ones both teams should read the same layer at the same
 * time. */
enum { TEAM_ROWS = 10, LOCKSTEP_BYTES = 64 << 20 };

static void team_work(void *arguments, int team, int n_teams)
{
    (void)n_teams;
    const stages *s = arguments;
    const sp_context *c = s->c;
    size_t from = team == 0 ? 0 : s->n_rows[0];
    batch b = slice(c, (size_t)team, c->half[team], from, s->n_rows[team]);
    if (b.n_rows > 0) run_stages(s, &b, s->logits ? s->logits + from * c->t->config.n_codes : NULL);
}

/* All layers over the rows set up in x, stream, position and slot, in two parts that have no stream in common. Leaves
 * their features in norm; logits may be NULL.
 *
 * Streams share weights and nothing else. Two teams of threads take a part each, so that activations, keys and values
 * stay in the caches of their cores. */
static void run_here(const sp_context *c, const size_t n_rows[MAX_STREAMS], float *logits)
{
    size_t n_stages = c->t->config.layers + 1;
    stages s = {c, 0, n_stages, {n_rows[0], n_rows[1]}, logits};
    if (!c->pair || n_rows[1] < TEAM_ROWS) {
        batch whole = slice(c, 0, c->pool, 0, n_rows[0] + n_rows[1]);
        run_stages(&s, &whole, logits);
        return;
    }
    size_t step = c->t->packed_bytes > LOCKSTEP_BYTES ? 1 : n_stages;
    for (; s.layer < n_stages; s.layer = s.end) {
        s.end = s.layer + step;
        sp_pool_run(c->pair, team_work, &s);
    }
}

/* The rows of w, or of the prefix when that has none; features: whether norm is read. */
static sp_status run(const sp_context *c, const size_t n_rows[MAX_STREAMS], const sp_model_window *w, bool features,
                     sp_error *err)
{
    if (!c->device) {
        run_here(c, n_rows, w->logits);
        return SP_OK;
    }
    sp_device_rows rows = {.n_streams = c->n_streams, .n = n_rows[0], .token = c->token, .position = c->position,
                           .slot = c->slot, .parent = w->parents, .latents = w->latents};
    return c->t->device->pass(c->device, &rows, w->logits, features ? c->norm : NULL, err);
}

static int32_t *ids_of(const sp_context *c, size_t stream)
{
    return c->prefix_ids + stream * c->t->config.prefix_length;
}

static void prefix_row(const sp_context *c, size_t stream, size_t index, size_t row)
{
    const sp_transformer *t = c->t;
    size_t dim = t->config.dim, id = (size_t)ids_of(c, stream)[index];
    c->stream[row] = (int32_t)stream;
    c->position[row] = (int32_t)index;
    c->first_key[row] = 0;
    if (c->device) {
        c->slot[row] = c->position[row];
        c->token[row] = ~(int32_t)id;
        return;
    }
    float *x = c->x + row * dim;
    sp_table_row(t->prefix, t->config.from_text ? id : id * t->config.prefix_length + index, dim, x);
    if (t->prefix_position) {
        float *position = c->norm; /* free until the first block */
        sp_table_row(t->prefix_position, index, dim, position);
        for (size_t i = 0; i < dim; i++) x[i] += position[i];
    }
}

/* The last row of each prefix is fed by the first window. */
static sp_status end_prefix(const sp_context *c, sp_error *err)
{
    int32_t last[MAX_STREAMS];
    if (!c->device) return SP_OK;
    for (size_t s = 0; s < c->n_streams; s++) last[s] = ids_of(c, s)[c->t->config.prefix_length - 1];
    return c->t->device->follow(c->device, last, c->n_streams, err);
}

/* The full prefix of a stream: text is padded on the left, the null prompt is all pads or the null class. */
static sp_status set_prefix(sp_context *c, size_t stream, const sp_model_prompt *prompt, sp_error *err)
{
    const sp_model_config *m = &c->t->config;
    int32_t *ids = ids_of(c, stream);
    size_t n = !prompt ? 0 : prompt->n_ids < m->prefix_length ? prompt->n_ids : m->prefix_length;
    if (!m->from_text && prompt && n != 1) return SP_FAIL(err, SP_EARG, "prompt: a class number is expected");
    for (size_t i = 0; i < m->prefix_length - n; i++) ids[i] = m->from_text ? m->pad_id : m->null_class;
    for (size_t i = 0; i < n; i++) {
        int32_t id = prompt->ids[i];
        if (id < 0 || (size_t)id >= m->prefix_vocab)
            return SP_FAIL(err, SP_EARG, "prompt: %s %d is not between 0 and %zu", m->from_text ? "token" : "class", id,
                           m->prefix_vocab - 1);
        ids[m->prefix_length - n + i] = id;
    }
    /* A class fills the prefix with rows of its own. */
    for (size_t i = 0; !m->from_text && i + 1 < m->prefix_length; i++) ids[i] = ids[m->prefix_length - 1];
    return SP_OK;
}

static sp_status begin(void *state, const sp_model_prompt *prompt, bool guided, float *features, sp_error *err)
{
    sp_context *c = state;
    size_t dim = c->t->config.dim, last = c->t->config.prefix_length - 1, own = c->picture * MAX_STREAMS;
    c->n_streams = guided ? MAX_STREAMS : 1;
    c->branched = false;
    SP_TRY(set_prefix(c, own + CONDITIONAL, prompt, err));
    if (guided) SP_TRY(set_prefix(c, own + FREE, NULL, err));
    /* All rows but the last, which the first forward call feeds to get the law of position 0. */
    for (size_t done = 0, n; done < last; done += n) {
        n = last - done < c->max_window ? last - done : c->max_window;
        for (size_t s = 0; s < c->n_streams; s++)
            for (size_t j = 0; j < n; j++) prefix_row(c, own + s, done + j, s * n + j);
        SP_TRY(run(c, (size_t[MAX_STREAMS]){n, c->n_streams > 1 ? n : 0}, &(sp_model_window){0}, features != NULL,
                   err));
        for (size_t s = 0; features && s < c->n_streams; s++)
            memcpy(features + (s * last + done) * dim, c->norm + s * n * dim, n * dim * sizeof(float));
    }
    return end_prefix(c, err);
}

/* Where row j of a window stands whose rows of this stream are those from first_row on: its position, its slot, and the
 * slot before that. */
static sp_status place(sp_context *c, const sp_model_window *w, size_t stream, size_t first_row, size_t j,
                       sp_error *err)
{
    size_t row = first_row + j, prefix = c->t->config.prefix_length, base = prefix + w->first - 1;
    size_t parent = w->parents && j ? (size_t)w->parents[j] : j - 1;
    if (j && parent >= j) return SP_FAIL(err, SP_EBUG, "model: row %zu follows row %zu", j, parent);
    c->stream[row] = (int32_t)stream;
    c->position[row] = j ? c->position[first_row + parent] + 1 : (int32_t)base;
    c->first_key[row] = 0;
    c->slot[row] = (int32_t)(base + j);
    if (j) c->before[stream * c->capacity + base + j] = c->slot[first_row + parent];
    size_t last = prefix + c->t->config.rows * c->t->config.columns - 2;
    if ((size_t)c->position[row] <= last) return SP_OK;
    return SP_FAIL(err, SP_EBUG, "model: row %zu of a window of %zu from %zu is beyond the picture", j, w->n, w->first);
}

/* The rows of latents, the same in every stream. */
static void latent_rows(const sp_context *c, const sp_model_window *w)
{
    const sp_transformer *t = c->t;
    size_t dim = t->config.dim, skip = w->first == 0, n = w->n - skip;
    float *x = c->x + skip * dim;
    if (n == 0 || c->device) return;
    t->ops->gemm(c->pool, &t->latents, w->latents + skip * t->config.latent_dim, t->config.latent_dim, n, x, dim,
                 SP_GEMM_SET, c->gemm_scratch[0]);
    if (c->n_streams > 1) memcpy(x + w->n * dim, x, n * dim * sizeof(float));
}

static void give_features(const sp_context *c, const sp_model_window *w)
{
    const sp_transformer *t = c->t;
    size_t dim = t->config.dim;
    memcpy(w->features, c->norm, c->n_streams * w->n * dim * sizeof(float));
    for (size_t j = 0; t->feature_position && !c->device && j < w->n; j++) {
        float *position = c->norm; /* free after the last norm */
        sp_table_row(t->feature_position, w->first + j, dim, position);
        for (size_t s = 0; s < c->n_streams; s++) {
            float *feature = w->features + (s * w->n + j) * dim;
            for (size_t i = 0; i < dim; i++) feature[i] += position[i];
        }
    }
}

/* The rows of a picture's window, from first_row on. */
static sp_status set_window(sp_context *c, size_t picture, const sp_model_window *w, size_t first_row, sp_error *err)
{
    const sp_model_config *m = &c->t->config;
    if (w->n < 1 || w->n > c->max_window || w->first >= m->rows * m->columns || picture >= c->n_pictures)
        return SP_FAIL(err, SP_EBUG, "model: window of %zu positions from %zu does not fit", w->n, w->first);
    for (size_t s = 0; s < c->n_streams; s++) {
        size_t stream = picture * MAX_STREAMS + s, rows = first_row + s * w->n;
        for (size_t j = 0; j < w->n; j++) {
            SP_TRY(place(c, w, stream, rows, j, err));
            if (w->first == 0 && j == 0) {
                prefix_row(c, stream, m->prefix_length - 1, rows);
                continue;
            }
            if (m->latent_dim) {
                if (c->device) c->token[rows + j] = 0;
                continue;
            }
            if (w->ids[j] < 0 || (size_t)w->ids[j] >= m->n_codes)
                return SP_FAIL(err, SP_EBUG, "model: token %d is not between 0 and %zu", w->ids[j], m->n_codes - 1);
            if (c->device) c->token[rows + j] = w->ids[j];
            else sp_table_row(c->t->codes, m->code_row + (size_t)w->ids[j], m->dim, c->x + (rows + j) * m->dim);
        }
    }
    return SP_OK;
}

static sp_status forward(void *state, const sp_model_window *w, sp_error *err)
{
    sp_context *c = state;
    c->branched = w->parents != NULL;
    SP_TRY(set_window(c, c->picture, w, 0, err));
    if (c->t->config.latent_dim) latent_rows(c, w);
    SP_TRY(run(c, (size_t[MAX_STREAMS]){w->n, c->n_streams > 1 ? w->n : 0}, w, w->features != NULL, err));
    if (w->features) give_features(c, w);
    return SP_OK;
}

static sp_status forward_batch(void *state, const size_t *pictures, const sp_model_window *windows, size_t n_windows,
                               sp_error *err)
{
    sp_context *c = state;
    size_t all = 0, first_part = 0, rows = 0;
    for (size_t i = 0; i < n_windows; i++) all += c->n_streams * windows[i].n;
    if (c->device || all > c->max_rows)
        return SP_FAIL(err, SP_EBUG, "model: %zu rows of %zu windows do not fit", all, n_windows);
    c->branched = false;
    for (size_t i = 0; i < n_windows; i++) {
        const sp_model_window *w = &windows[i];
        if (w->parents || w->features || w->logits != windows[0].logits + rows * c->t->config.n_codes)
            return SP_FAIL(err, SP_EBUG, "model: window %zu of %zu is not a plain one", i, n_windows);
        SP_TRY(set_window(c, pictures[i], w, rows, err));
        /* Streams whose middle is not beyond that of all, and so the first ones. */
        for (size_t s = 0; s < c->n_streams; s++, rows += w->n)
            if (2 * rows + w->n <= all) first_part = rows + w->n;
    }
    run_here(c, (size_t[MAX_STREAMS]){first_part, all - first_part}, windows[0].logits);
    return SP_OK;
}

static sp_status keep(void *state, size_t first, const int32_t *path, size_t n, sp_error *err)
{
    sp_context *c = state;
    const sp_model_config *m = &c->t->config;
    if (n < 1 || n > c->max_window || path[0] != 0)
        return SP_FAIL(err, SP_EBUG, "model: a path of %zu rows from row %d cannot stay", n, n ? path[0] : 0);
    for (size_t i = 1; i < n; i++)
        if (path[i] <= path[i - 1] || (size_t)path[i] >= c->max_window)
            return SP_FAIL(err, SP_EBUG, "model: a path cannot go from row %d to row %d", path[i - 1], path[i]);
    size_t stays = 1;
    while (stays < n && (size_t)path[stays] == stays) stays++;
    for (size_t s = 0; c->device && s < c->n_streams && stays < n; s++) {
        size_t base = m->prefix_length + first - 1;
        for (size_t j = stays; j < n; j++) c->slot[j] = (int32_t)(base + (size_t)path[j]);
        SP_TRY(c->t->device->move(c->device, s, c->slot + stays, base + stays, n - stays, err));
    }
    size_t n_streams = c->n_pictures * MAX_STREAMS, own = c->picture * MAX_STREAMS;
    for (size_t i = 0; !c->device && i < m->layers * n_streams && stays < n; i++) {
        size_t stream = i % n_streams, base = m->prefix_length + first - 1;
        if (stream < own || stream >= own + c->n_streams) continue;
        for (size_t j = stays; j < n; j++) c->slot[j] = (int32_t)(base + (size_t)path[j]);
        c->t->ops->kv_move(&c->kv[i], m->kv_heads, m->head_dim, c->slot + stays, base + stays, n - stays);
    }
    return SP_OK;
}

sp_model sp_context_model(sp_context *context)
{
    static const sp_model_ops one = {begin, forward, keep, NULL}, many = {begin, forward, keep, forward_batch};
    const sp_model_config *m = &context->t->config;
    return (sp_model){context->n_pictures > 1 ? &many : &one, context, m->n_codes, m->rows, m->columns,
                      m->prefix_length, m->dim};
}
