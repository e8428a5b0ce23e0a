/* A transformer on a device: its weights, the memory of a picture in the making, and a pass over a window.
 *
 * A pass is queued on one stream without a synchronisation and without allocations, so the loop captures it. Of a block
 * of width d it reads 12 d^2 bf16 weights or so once; the 9 kernels between and after the four products touch only what
 * the second-level cache holds. */
#include "kernels/cuda/filler.cuh"
#include "kernels/cuda/loop.cuh"
#include "kernels/cuda/table.cuh"

extern "C" {
#include "base/arena.h"
}

struct block {
    const float *attention_norm, *ffn_norm;
    sp_heads heads;
    sp_cuda_weight qkv, o, gate_up, down;
};

struct sp_device_model {
    int device;
    sp_device_plan plan; /* its pointers are not used after open */
    sp_embedding embedding;
    sp_latent_map latents;     /* latent_dim 0: tokens are codes */
    sp_table feature_position; /* data NULL: none */
    const float *cosine, *sine, *norm, *input_norm, *head_bias, *head_hidden_bias, *join_bias;
    sp_cuda_weight head, head_hidden, join; /* join without tiles: not a drafting model */
    block *blocks;
    unsigned char *memory;
    size_t bytes;
};

struct sp_device_context {
    const sp_device_model *model;
    size_t max_window, max_pictures, max_rows, n_streams, capacity, bytes, kv_bytes;
    size_t picture; /* of pass, follow and move */
    sp_cache *caches; /* [blocks] */
    int32_t *token, *stream, *position, *slot, *parent, *node; /* [max_rows] */
    int32_t *last;                                      /* [max_pictures, SP_DEVICE_STREAMS] the prefix's last token */
    int32_t *from;                                      /* [max_window] of a move */
    float *x, *sums, *logits, *features, *latents;
    float *kept;                                        /* [SP_DEVICE_STREAMS, max_window, dim] of a drafter's nodes */
    uint16_t *norm, *q, *attended, *active, *joined;
    void *scratch;
    unsigned char *memory;
    int32_t *host; /* the rows of a pass, on their way */
    cudaStream_t queue;
    sp_cuda_loop *loop;
};

/* ---- weights ---- */

static sp_status fill_latents(sp_filler *f, sp_device_model *m, const sp_device_plan *p)
{
    m->latents.latent_dim = p->latent_dim;
    SP_TRY(sp_fill_table(f, &p->feature_position, p->dim, &m->feature_position));
    if (!p->latent_dim) return SP_OK;
    SP_TRY(sp_fill_transposed(f, p->latents, p->dim, p->latent_dim, &m->latents.weights));
    return sp_fill_vector(f, p->latents_bias, p->dim, &m->latents.bias);
}

static sp_status fill_block(sp_filler *f, const sp_device_model *m, const sp_device_block *from, block *to)
{
    const sp_device_plan *p = &m->plan;
    size_t q = p->heads * p->head_dim, kv = p->kv_heads * p->head_dim;
    sp_heads *h = &to->heads;
    *h = sp_heads{p->heads, p->kv_heads, p->head_dim, NULL, NULL, NULL, NULL, p->layer_norm, p->eps,
                  m->cosine, m->sine, p->rope_adjacent, NULL};
    SP_TRY(sp_fill_vector(f, from->attention_norm, p->dim, &to->attention_norm));
    SP_TRY(sp_fill_vector(f, from->ffn_norm, p->dim, &to->ffn_norm));
    SP_TRY(sp_fill_vector(f, from->q_norm, q, &h->q_norm));
    SP_TRY(sp_fill_vector(f, from->k_norm, kv, &h->k_norm));
    SP_TRY(sp_fill_vector(f, from->q_norm_bias, q, &h->q_bias));
    SP_TRY(sp_fill_vector(f, from->k_norm_bias, kv, &h->k_bias));
    SP_TRY(sp_fill_matrix(f, &from->qkv, &to->qkv));
    SP_TRY(sp_fill_matrix(f, &from->o, &to->o));
    SP_TRY(sp_fill_matrix(f, &from->gate_up, &to->gate_up));
    return sp_fill_matrix(f, &from->down, &to->down);
}

static sp_status fill(sp_filler *f, sp_device_model *m, const sp_device_plan *p)
{
    size_t angles = (p->n_prefix + p->n_positions) * (p->head_dim / 2);
    m->embedding.code_row = p->code_row;
    m->embedding.prefix_lines = p->prefix_lines;
    SP_TRY(sp_fill_table(f, &p->codes, p->dim, &m->embedding.codes));
    SP_TRY(sp_fill_table(f, &p->prefix, p->dim, &m->embedding.prefix));
    SP_TRY(sp_fill_table(f, &p->prefix_position, p->dim, &m->embedding.prefix_position));
    SP_TRY(fill_latents(f, m, p));
    SP_TRY(sp_fill_vector(f, p->cosine, angles, &m->cosine));
    SP_TRY(sp_fill_vector(f, p->sine, angles, &m->sine));
    SP_TRY(sp_fill_vector(f, p->norm, p->dim, &m->norm));
    SP_TRY(sp_fill_vector(f, p->input_norm, p->dim, &m->input_norm));
    SP_TRY(sp_fill_vector(f, p->head_bias, p->n_codes, &m->head_bias));
    SP_TRY(sp_fill_vector(f, p->head_hidden_bias, p->head_hidden.n, &m->head_hidden_bias));
    SP_TRY(sp_fill_matrix(f, &p->head, &m->head));
    SP_TRY(sp_fill_matrix(f, &p->head_hidden, &m->head_hidden));
    if (p->head_of) m->head = p->head_of->head;
    SP_TRY(sp_fill_vector(f, p->join_bias, p->dim, &m->join_bias));
    SP_TRY(sp_fill_matrix(f, &p->join, &m->join));
    for (size_t i = 0; i < p->n_blocks; i++) SP_TRY(fill_block(f, m, &p->blocks[i], &m->blocks[i]));
    return SP_OK;
}

static void close_model(sp_device_model *m)
{
    if (!m) return;
    cudaSetDevice(m->device);
    cudaFree(m->memory);
    sp_release(m->blocks);
    sp_release(m);
}

static sp_status load(sp_device_model *m, const sp_device_plan *plan, sp_error *err)
{
    if (plan->head_dim % 2 != 0 || plan->head_dim > 256 || plan->heads / plan->kv_heads > 16)
        return SP_FAIL(err, SP_EUNSUPPORTED, "device: heads of %zu, %zu of them a key; expected an even number up to "
                       "256, up to 16; use --device cpu", plan->head_dim, plan->heads / plan->kv_heads);
    SP_CUDA(cudaSetDevice(m->device), err);
    return sp_fill(&m->memory, &m->bytes, err, [&](sp_filler *f) { return fill(f, m, plan); });
}

static sp_status open_model(sp_device_model **out, int device, const sp_device_plan *plan, sp_error *err)
{
    *out = NULL;
    sp_device_model *m = static_cast<sp_device_model *>(sp_alloc(1, sizeof *m));
    block *blocks = static_cast<block *>(sp_alloc(plan->n_blocks, sizeof *blocks));
    if (!m || !blocks) {
        sp_release(m);
        sp_release(blocks);
        return SP_FAIL(err, SP_ENOMEM, "device: no host memory for the model");
    }
    m->device = device;
    m->plan = *plan;
    m->blocks = blocks;
    sp_status status = load(m, plan, err);
    if (status != SP_OK) {
        close_model(m);
        return status;
    }
    *out = m;
    return SP_OK;
}

static size_t bytes_of_model(const sp_device_model *m) { return m->bytes; }

/* ---- a picture in the making ---- */

static size_t larger(size_t a, size_t b) { return a > b ? a : b; }
static size_t sums_of(const sp_cuda_weight *w) { return static_cast<size_t>(w->slices) * w->n; }

/* Floats a row of the largest product, its slices side by side. */
static size_t largest_sums(const sp_device_model *m)
{
    size_t most = larger(sums_of(&m->head), larger(sums_of(&m->head_hidden), sums_of(&m->join)));
    for (size_t i = 0; i < m->plan.n_blocks; i++) {
        const block *b = &m->blocks[i];
        most = larger(most, larger(larger(sums_of(&b->qkv), sums_of(&b->o)),
                                   larger(sums_of(&b->gate_up), sums_of(&b->down))));
    }
    return most;
}

static void lay_out(sp_device_context *c, sp_bump *b)
{
    const sp_device_plan *p = &c->model->plan;
    size_t rows = c->max_rows, padded = sp_round_up(p->head_dim, 16);
    size_t cached = c->max_pictures * SP_DEVICE_STREAMS * p->kv_heads * padded * c->capacity;
    for (size_t i = 0; i < p->n_blocks; i++) {
        c->caches[i].keys = sp_take<uint16_t>(b, cached);
        c->caches[i].values = sp_take<uint16_t>(b, cached);
        c->caches[i].capacity = c->capacity;
        c->caches[i].head_dim = padded;
    }
    c->q = sp_take<uint16_t>(b, rows * p->heads * padded);
    c->kv_bytes = b->used;
    c->token = sp_take<int32_t>(b, rows);
    c->stream = sp_take<int32_t>(b, rows);
    c->position = sp_take<int32_t>(b, rows);
    c->slot = sp_take<int32_t>(b, rows);
    c->parent = sp_take<int32_t>(b, rows);
    c->node = sp_take<int32_t>(b, rows);
    c->last = sp_take<int32_t>(b, c->max_pictures * SP_DEVICE_STREAMS);
    c->from = sp_take<int32_t>(b, c->max_window);
    c->x = sp_take<float>(b, rows * p->dim);
    c->sums = sp_take<float>(b, rows * largest_sums(c->model));
    c->logits = sp_take<float>(b, rows * p->n_codes);
    c->features = sp_take<float>(b, rows * p->dim);
    c->latents = sp_take<float>(b, c->max_window * p->latent_dim);
    c->norm = sp_take<uint16_t>(b, rows * p->dim);
    c->attended = sp_take<uint16_t>(b, rows * p->heads * p->head_dim);
    c->active = sp_take<uint16_t>(b, rows * larger(p->ffn_dim, p->head_hidden.n));
    bool drafts = c->model->join.tiles;
    c->joined = sp_take<uint16_t>(b, drafts ? rows * 2 * p->dim : 0);
    c->kept = sp_take<float>(b, drafts ? SP_DEVICE_STREAMS * c->max_window * p->dim : 0);
    c->scratch =
        sp_take<unsigned char>(b, sp_cuda_attention_scratch(rows, p->heads, p->head_dim, c->capacity));
}

static sp_status queue_window(void *state, sp_cuda_window *window, sp_error *err);

static sp_status open_parts(sp_device_context *c, size_t code_dim, sp_error *err)
{
    const sp_device_model *m = c->model;
    sp_bump b = {NULL, 0};
    SP_CUDA(cudaSetDevice(m->device), err);
    SP_CUDA(cudaStreamCreateWithFlags(&c->queue, cudaStreamNonBlocking), err);
    c->caches = static_cast<sp_cache *>(sp_alloc(m->plan.n_blocks, sizeof *c->caches));
    if (!c->caches) return SP_FAIL(err, SP_ENOMEM, "device: no host memory for the session");
    lay_out(c, &b);
    c->bytes = b.used;
    SP_CUDA(cudaMalloc(&c->memory, c->bytes), err);
    SP_CUDA(cudaMallocHost(&c->host, 6 * c->max_rows * sizeof *c->host), err);
    b = sp_bump{c->memory, 0};
    lay_out(c, &b);
    /* Padding of heads is zero and stays so, and keys not yet written are numbers. */
    SP_CUDA(cudaMemsetAsync(c->memory, 0, c->kv_bytes, c->queue), err);
    if (m->plan.latent_dim || m->join.tiles) return SP_OK;
    sp_cuda_model model = {c, queue_window, c->queue, m->plan.n_codes, m->plan.n_positions, code_dim};
    c->bytes += sp_cuda_loop_bytes(&model, c->max_window, c->max_pictures);
    return sp_cuda_loop_open(&c->loop, &model, c->max_window, c->max_pictures, err);
}

static void close_context(sp_device_context *c)
{
    if (!c) return;
    cudaSetDevice(c->model->device);
    sp_cuda_loop_close(c->loop);
    cudaFree(c->memory);
    cudaFreeHost(c->host);
    if (c->queue) cudaStreamDestroy(c->queue);
    sp_release(c->caches);
    sp_release(c);
}

static sp_status open_context(sp_device_context **out, const sp_device_model *model, size_t max_window,
                              size_t code_dim, size_t max_pictures, sp_error *err)
{
    *out = NULL;
    sp_device_context *c = static_cast<sp_device_context *>(sp_alloc(1, sizeof *c));
    if (!c) return SP_FAIL(err, SP_ENOMEM, "device: no host memory for the session");
    c->model = model;
    c->max_window = max_window;
    c->max_pictures = max_pictures;
    c->max_rows = SP_DEVICE_STREAMS * sp_cuda_loop_rows(max_window, max_pictures);
    c->capacity = sp_round_up(model->plan.n_prefix + model->plan.n_positions + max_window, 64);
    sp_status status = open_parts(c, code_dim, err);
    if (status != SP_OK) {
        close_context(c);
        return status;
    }
    *out = c;
    return SP_OK;
}

static size_t bytes_of_context(const sp_device_context *c) { return c->bytes; }
static size_t kv_bytes_of_context(const sp_device_context *c) { return c->kv_bytes; }

/* ---- a pass ---- */

static const sp_partial nothing = {NULL, 0, 0};

/* Attention and feed-forward part of a block. *add is what the block before left to be added to x, and what this one
 * leaves. */
static cudaError_t queue_block(const sp_device_context *c, size_t index, const sp_rows &rows, size_t n_streams,
                               size_t n, sp_partial *add)
{
    const sp_device_plan *p = &c->model->plan;
    const block &b = c->model->blocks[index];
    const sp_cache &cache = c->caches[index];
    size_t all = n_streams * n;
    sp_partial y;
    cudaError_t e = sp_cuda_norm(c->queue, c->x, *add, b.attention_norm, p->eps, all, p->dim, c->norm, NULL);
    if (e == cudaSuccess) e = sp_cuda_gemm(c->queue, b.qkv, c->norm, all, c->sums, &y);
    if (e == cudaSuccess) e = sp_cuda_heads(c->queue, y, b.heads, rows, cache, all, c->q);
    if (e == cudaSuccess)
        e = sp_cuda_attention(c->queue, c->q, b.heads, rows, cache, n_streams, n, c->scratch, c->attended);
    if (e == cudaSuccess) e = sp_cuda_gemm(c->queue, b.o, c->attended, all, c->sums, &y);
    if (e == cudaSuccess) e = sp_cuda_norm(c->queue, c->x, y, b.ffn_norm, p->eps, all, p->dim, c->norm, NULL);
    if (e == cudaSuccess) e = sp_cuda_gemm(c->queue, b.gate_up, c->norm, all, c->sums, &y);
    if (e == cudaSuccess) e = sp_cuda_swiglu(c->queue, y, all, p->ffn_dim, c->active);
    if (e == cudaSuccess) e = sp_cuda_gemm(c->queue, b.down, c->active, all, c->sums, add);
    return e;
}

/* Logits of rows whose features are in norm, or the race over them, where the loop's window allows it. */
static cudaError_t queue_head(const sp_device_context *c, size_t all, float *logits, sp_cuda_window *w)
{
    const sp_device_model *m = c->model;
    const uint16_t *inputs = c->norm;
    sp_partial y;
    cudaError_t e = cudaSuccess;
    if (m->head_hidden.tiles) {
        e = sp_cuda_gemm(c->queue, m->head_hidden, c->norm, all, c->sums, &y);
        if (e == cudaSuccess)
            e = sp_cuda_gelu(c->queue, y, m->head_hidden_bias, all, m->head_hidden.n, c->active);
        inputs = c->active;
    }
    if (w && sp_cuda_head_can_race(m->head, w->n_pictures * w->n, w->rule))
        return e == cudaSuccess ? sp_cuda_head_race(c->queue, m->head, m->head_bias, inputs, w->picture, w->n, w->rule,
                                                    &w->raced) : e;
    /* A product in one slice is the logits, and 16 MB are not copied. */
    bool whole = m->head.slices == 1 && !m->head_bias;
    if (e == cudaSuccess) e = sp_cuda_gemm(c->queue, m->head, inputs, all, whole ? logits : c->sums, &y);
    if (e == cudaSuccess && !whole) e = sp_cuda_finish(c->queue, y, m->head_bias, all, m->plan.n_codes, logits);
    return e;
}

/* What a pass over rows in device memory reads beside them and writes: device memory, or NULL where there is none. */
struct pass_ends {
    const float *latents;
    float *logits, *features;
    sp_cuda_window *window; /* the loop's */
};

static cudaError_t queue_pass(const sp_device_context *c, const sp_rows &rows, size_t n_streams, size_t n,
                              const pass_ends &ends)
{
    const sp_device_model *m = c->model;
    const sp_device_plan *p = &m->plan;
    size_t all = n_streams * n;
    sp_partial add = nothing;
    cudaError_t e = sp_cuda_embed(c->queue, m->embedding, rows, all, p->dim, c->x);
    if (e == cudaSuccess && ends.latents)
        e = sp_cuda_latents(c->queue, m->latents, rows, ends.latents, n_streams, n, p->dim, c->x);
    if (e == cudaSuccess && m->input_norm)
        e = sp_cuda_norm(c->queue, c->x, nothing, m->input_norm, p->eps, all, p->dim, NULL, c->x);
    for (size_t i = 0; e == cudaSuccess && i < p->n_blocks; i++) e = queue_block(c, i, rows, n_streams, n, &add);
    if (e == cudaSuccess) e = sp_cuda_norm(c->queue, c->x, add, m->norm, p->eps, all, p->dim, c->norm, ends.features);
    if (e == cudaSuccess && ends.features && m->feature_position.data)
        e = sp_cuda_add_position(c->queue, m->feature_position, rows, p->n_prefix, all, p->dim, ends.features);
    return e == cudaSuccess && ends.logits ? queue_head(c, all, ends.logits, ends.window) : e;
}

/* The rows of a drafting model, over what send_rows and the last passes left in features and kept. */
static cudaError_t queue_draft(const sp_device_context *c, const sp_rows &rows, size_t n_streams, size_t n, bool logits)
{
    const sp_device_model *m = c->model;
    size_t all = n_streams * n, dim = m->plan.dim;
    sp_partial add;
    cudaError_t e = sp_cuda_join(c->queue, m->embedding.codes, rows, c->features, c->kept, c->max_window, m->join_bias,
                                 n_streams, n, dim, c->joined, c->x);
    if (e == cudaSuccess) e = sp_cuda_gemm(c->queue, m->join, c->joined, all, c->sums, &add);
    if (e == cudaSuccess) e = queue_block(c, 0, rows, n_streams, n, &add);
    if (e == cudaSuccess) e = sp_cuda_norm(c->queue, c->x, add, NULL, 0, all, dim, c->norm, c->features);
    if (e != cudaSuccess || !logits) return e;
    e = sp_cuda_keep_features(c->queue, rows, c->features, n_streams, n, c->max_window, dim, c->kept);
    return e == cudaSuccess ? queue_head(c, all, c->logits, NULL) : e;
}

static sp_rows rows_of(const sp_device_context *c, bool tree)
{
    bool drafts = c->model->join.tiles;
    return sp_rows{c->token, c->stream, c->position, c->slot, tree ? c->parent : NULL, drafts ? c->node : NULL};
}

/* The rows of the chains that the loop asks for, of all pictures with the prompt, then of all without. */
__global__ void chain_kernel(const uint32_t *order, const int32_t *first, const int32_t *ids, const int32_t *last,
                             int n_prefix, int n_positions, int n_pictures, int n, int rows, int32_t *token,
                             int32_t *stream, int32_t *position, int32_t *slot)
{
    sp_wait_launch();
    int row = static_cast<int>(blockIdx.x * blockDim.x + threadIdx.x), each = n_pictures * n;
    if (row >= rows) return;
    int j = row % n, picture = row % each / n;
    int own = static_cast<int>(order[picture]) * SP_DEVICE_STREAMS + row / each;
    int from = first[picture], at = n_prefix + from - 1 + j;
    bool live = from + j < n_positions;
    token[row] = from + j == 0 ? ~last[own] : ids[row % each];
    stream[row] = own;
    position[row] = live ? at : -1;
    slot[row] = live ? at : 0;
}

static sp_status queue_window(void *state, sp_cuda_window *w, sp_error *err)
{
    const sp_device_context *c = static_cast<const sp_device_context *>(state);
    const sp_device_plan *p = &c->model->plan;
    size_t n_windows = (w->guided ? 2 : 1) * w->n_pictures, all = n_windows * w->n;
    SP_CUDA(SP_LAUNCH(chain_kernel, sp_blocks(all, 128), 128, 0, c->queue, w->order, w->first, w->ids, c->last,
                      static_cast<int>(p->n_prefix), static_cast<int>(p->n_positions),
                      static_cast<int>(w->n_pictures), static_cast<int>(w->n), static_cast<int>(all), c->token,
                      c->stream, c->position, c->slot), err);
    SP_CUDA(queue_pass(c, rows_of(c, false), n_windows, w->n, pass_ends{NULL, w->logits, NULL, w}), err);
    return SP_OK;
}

/* The arrays of a pass, by way of memory that a copy can be queued from. */
static sp_status send_rows(const sp_device_context *c, const sp_device_rows *rows, sp_error *err)
{
    size_t all = rows->n_streams * rows->n;
    int32_t *stream = c->host;
    for (size_t r = 0; r < all; r++)
        stream[r] = static_cast<int32_t>(c->picture * SP_DEVICE_STREAMS + r / rows->n);
    const struct { int32_t *to; const int32_t *from; size_t count; } arrays[] = {
        {c->stream, stream, all}, {c->token, rows->token, all}, {c->position, rows->position, all},
        {c->slot, rows->slot, all}, {c->parent, rows->parent, rows->node ? c->max_window : rows->n},
        {c->node, rows->node, rows->n}};
    for (size_t i = 0; i < sizeof arrays / sizeof *arrays; i++) {
        int32_t *host = c->host + i * c->max_rows;
        size_t bytes = arrays[i].count * sizeof *host;
        if (!arrays[i].from) continue;
        if (host != arrays[i].from) memcpy(host, arrays[i].from, bytes);
        SP_CUDA(cudaMemcpyAsync(arrays[i].to, host, bytes, cudaMemcpyHostToDevice, c->queue), err);
    }
    return SP_OK;
}

/* Neighbours in one copy. */
static sp_status send_features(const sp_device_context *c, const sp_device_rows *rows, sp_error *err)
{
    size_t dim = c->model->plan.dim, all = rows->features ? rows->n_streams * rows->n : 0;
    for (size_t r = 0, n; r < all; r += n) {
        for (n = 1; r + n < all && rows->features[r + n] == rows->features[r] + n * dim;) n++;
        SP_CUDA(cudaMemcpyAsync(c->features + r * dim, rows->features[r], n * dim * sizeof(float), cudaMemcpyDefault,
                                c->queue), err);
    }
    return SP_OK;
}

static void select_picture(sp_device_context *c, size_t picture) { c->picture = picture; }

static sp_status pass(sp_device_context *c, const sp_device_rows *rows, float *logits, float *features, sp_error *err)
{
    const sp_device_plan *p = &c->model->plan;
    size_t all = rows->n_streams * rows->n;
    bool drafts = c->model->join.tiles;
    if (rows->n < 1 || rows->n > c->max_window || rows->n_streams > SP_DEVICE_STREAMS)
        return SP_FAIL(err, SP_EBUG, "device: a pass over %zu x %zu rows does not fit", rows->n_streams, rows->n);
    SP_CUDA(cudaSetDevice(c->model->device), err);
    SP_TRY(send_rows(c, rows, err));
    pass_ends ends = {rows->latents ? c->latents : NULL, logits ? c->logits : NULL, c->features, NULL};
    if (rows->latents)
        SP_CUDA(cudaMemcpyAsync(c->latents, rows->latents, rows->n * p->latent_dim * sizeof(float),
                                cudaMemcpyHostToDevice, c->queue), err);
    SP_TRY(send_features(c, rows, err));
    sp_rows there = rows_of(c, rows->parent != NULL);
    SP_CUDA(drafts ? queue_draft(c, there, rows->n_streams, rows->n, logits != NULL)
                   : queue_pass(c, there, rows->n_streams, rows->n, ends), err);
    size_t given = drafts && !rows->parent ? 1 : rows->n, count = given * p->n_codes;
    for (size_t s = 0; logits && s < rows->n_streams; s++)
        SP_CUDA(cudaMemcpyAsync(logits + s * count, c->logits + ((s + 1) * rows->n - given) * p->n_codes,
                                count * sizeof(float), cudaMemcpyDeviceToHost, c->queue), err);
    if (features)
        SP_CUDA(cudaMemcpyAsync(features, c->features, all * p->dim * sizeof(float), cudaMemcpyDeviceToHost, c->queue),
                err);
    SP_CUDA(cudaStreamSynchronize(c->queue), err);
    return SP_OK;
}

static const float *features_of(const sp_device_context *c) { return c->features; }

static sp_status follow(sp_device_context *c, const int32_t *token, size_t n_streams, sp_error *err)
{
    SP_CUDA(cudaSetDevice(c->model->device), err);
    SP_CUDA(cudaMemcpyAsync(c->last + c->picture * SP_DEVICE_STREAMS, token, n_streams * sizeof *token,
                            cudaMemcpyHostToDevice, c->queue), err);
    SP_CUDA(cudaStreamSynchronize(c->queue), err);
    return SP_OK;
}

static sp_status move(sp_device_context *c, size_t stream, const int32_t *from, size_t first, size_t n, sp_error *err)
{
    size_t of = c->picture * SP_DEVICE_STREAMS + stream;
    if (n > c->max_window) return SP_FAIL(err, SP_EBUG, "device: a path of %zu rows cannot stay", n);
    SP_CUDA(cudaSetDevice(c->model->device), err);
    SP_CUDA(cudaMemcpyAsync(c->from, from, n * sizeof *from, cudaMemcpyHostToDevice, c->queue), err);
    for (size_t i = 0; i < c->model->plan.n_blocks; i++)
        SP_CUDA(sp_cuda_kv_move(c->queue, c->caches[i], c->model->plan.kv_heads, of, c->from, first, n), err);
    SP_CUDA(cudaStreamSynchronize(c->queue), err);
    return SP_OK;
}

static sp_device_loop loop_of(sp_device_context *c)
{
    return c->loop ? sp_cuda_loop_of(c->loop) : sp_device_loop{};
}

const sp_device_model_ops sp_cuda_models = {
    open_model, bytes_of_model, close_model, open_context, bytes_of_context, kv_bytes_of_context, close_context,
    select_picture, pass, features_of, follow, move, loop_of};
