/* A masked transformer on a device: its weights, the memory of a picture in the making, and a pass.
 *
 * Nothing is kept between passes, so keys and values are those of the block that runs, and every row's attention ends
 * at the last place. A pass is queued on one stream without a synchronisation.
 *
 * Roofline. MAR-L (478 M parameters, 405 M of them here) has up to 2 x 320 rows in each of its 32 blocks: 0.5 Tflop,
 * 0.9 ms at 600 Tflop/s of mma.sync. A product reads its weights once for every 128 rows, 5 times from the second-level
 * cache, 4 GB a pass; and its sums are in 1 to 4 slices so that enough blocks run: 94 MB a block written and read, 3 GB
 * a pass. At that cache's 5.5 TB/s both take 1.3 ms, beside the products. And there are 10 launches a block. */
#include "kernels/cuda/filler.cuh"
#include "kernels/cuda/gemm.cuh"
#include "kernels/cuda/masked.cuh"
#include "kernels/cuda/table.cuh"

extern "C" {
#include "base/arena.h"
}

struct map {
    sp_cuda_weight weight;
    const float *bias;
};

struct masked_block {
    sp_layer_norm norm[2];
    sp_heads heads;
    map qkv, out, up, down;
};

struct stack {
    masked_block *blocks; /* [n], of the host */
    size_t n;
    sp_layer_norm norm;
};

struct sp_device_masked {
    int device;
    sp_device_masked_plan plan; /* its pointers are not used after open */
    sp_latent_map tokens;
    sp_layer_norm tokens_norm;
    const float *no_class, *mask, *encoder_position, *decoder_position, *feature_position;
    stack encoder, decoder;
    map between;
    unsigned char *memory;
    size_t bytes;
};

/* What a pass is given, in one piece. */
struct arrival {
    float *latents, *class_row; /* [n_positions, latent_dim], [dim] */
    int32_t *row, *wanted;      /* [buffer + n_positions], [n_positions] */
};

struct sp_device_masked_context {
    const sp_device_masked *model;
    size_t n_places, max_rows; /* max_rows: of all streams */
    arrival in;                /* at the start of memory */
    int32_t *stream, *position, *slot; /* [max_rows] */
    float *x, *sums, *normed, *features;
    uint16_t *norm, *q, *attended, *active;
    sp_cache cache; /* of the block that runs */
    void *scratch;
    unsigned char *memory, *host; /* host: an arrival on its way */
    size_t bytes, in_bytes, cleared_bytes;
    cudaStream_t queue;
};

/* ---- weights ---- */

static sp_status fill_norm(sp_filler *f, const sp_device_masked_plan *p, const sp_device_layer_norm *from,
                           sp_layer_norm *to)
{
    to->eps = p->eps;
    SP_TRY(sp_fill_vector(f, from->gain, p->dim, &to->gain));
    return sp_fill_vector(f, from->bias, p->dim, &to->bias);
}

/* A pass has all rows of the decoder, so fewer slices of a product do than for a window. */
static sp_status fill_map(sp_filler *f, const sp_device_masked_plan *p, const sp_device_masked_map *from, map *to)
{
    sp_device_matrix matrix = {from->rows, from->n, from->k};
    size_t groups = (SP_DEVICE_STREAMS * (p->buffer + p->n_positions) + SP_GEMM_ROWS - 1) / SP_GEMM_ROWS;
    SP_TRY(sp_fill_vector(f, from->bias, from->n, &to->bias));
    SP_TRY(sp_fill_matrix(f, &matrix, &to->weight));
    to->weight.slices = sp_cuda_slices(groups * from->n, from->k);
    return SP_OK;
}

static sp_status fill_stack(sp_filler *f, const sp_device_masked_plan *p, const sp_device_masked_stack *from, stack *to)
{
    for (size_t i = 0; i < from->n; i++) {
        const sp_device_masked_block *b = &from->blocks[i];
        masked_block *out = &to->blocks[i];
        for (int j = 0; j < 2; j++) SP_TRY(fill_norm(f, p, &b->norm[j], &out->norm[j]));
        SP_TRY(fill_map(f, p, &b->qkv, &out->qkv));
        SP_TRY(fill_map(f, p, &b->out, &out->out));
        SP_TRY(fill_map(f, p, &b->up, &out->up));
        SP_TRY(fill_map(f, p, &b->down, &out->down));
        out->heads = sp_heads{p->heads, p->heads, p->head_dim, NULL, NULL, NULL, NULL, false, 0, NULL, NULL, false,
                              out->qkv.bias};
    }
    return fill_norm(f, p, &from->norm, &to->norm);
}

static sp_status fill(sp_filler *f, sp_device_masked *m, const sp_device_masked_plan *p)
{
    size_t places = (p->buffer + p->n_positions) * p->dim;
    m->tokens.latent_dim = p->latent_dim;
    SP_TRY(sp_fill_transposed(f, p->tokens, p->dim, p->latent_dim, &m->tokens.weights));
    SP_TRY(sp_fill_vector(f, p->tokens_bias, p->dim, &m->tokens.bias));
    SP_TRY(fill_norm(f, p, &p->tokens_norm, &m->tokens_norm));
    SP_TRY(sp_fill_vector(f, p->no_class, p->dim, &m->no_class));
    SP_TRY(sp_fill_vector(f, p->mask, p->dim, &m->mask));
    SP_TRY(sp_fill_vector(f, p->encoder_position, places, &m->encoder_position));
    SP_TRY(sp_fill_vector(f, p->decoder_position, places, &m->decoder_position));
    SP_TRY(sp_fill_vector(f, p->feature_position, p->n_positions * p->dim, &m->feature_position));
    SP_TRY(fill_map(f, p, &p->between, &m->between));
    SP_TRY(fill_stack(f, p, &p->encoder, &m->encoder));
    return fill_stack(f, p, &p->decoder, &m->decoder);
}

static void close_model(sp_device_masked *m)
{
    if (!m) return;
    cudaSetDevice(m->device);
    cudaFree(m->memory);
    sp_release(m->encoder.blocks); /* the decoder's follow in the same piece */
    sp_release(m);
}

static sp_status load(sp_device_masked *m, const sp_device_masked_plan *plan, sp_error *err)
{
    if (plan->head_dim % 2 != 0 || plan->head_dim > 256)
        return SP_FAIL(err, SP_EUNSUPPORTED, "device: heads of %zu; expected an even number up to 256; use "
                       "--device cpu", plan->head_dim);
    m->encoder.n = plan->encoder.n;
    m->decoder.n = plan->decoder.n;
    m->encoder.blocks = static_cast<masked_block *>(sp_alloc(m->encoder.n + m->decoder.n, sizeof(masked_block)));
    if (!m->encoder.blocks) return SP_FAIL(err, SP_ENOMEM, "device: no host memory for the blocks");
    m->decoder.blocks = m->encoder.blocks + m->encoder.n;
    SP_CUDA(cudaSetDevice(m->device), err);
    return sp_fill(&m->memory, &m->bytes, err, [&](sp_filler *f) { return fill(f, m, plan); });
}

static sp_status open_model(sp_device_masked **out, int device, const sp_device_masked_plan *plan, sp_error *err)
{
    *out = NULL;
    sp_device_masked *m = static_cast<sp_device_masked *>(sp_alloc(1, sizeof *m));
    if (!m) return SP_FAIL(err, SP_ENOMEM, "device: no host memory for the model");
    m->device = device;
    m->plan = *plan;
    sp_status status = load(m, plan, err);
    if (status == SP_OK) *out = m;
    else close_model(m);
    return status;
}

static size_t bytes_of_model(const sp_device_masked *m) { return m->bytes; }

/* ---- a picture in the making ---- */

static void include(const map &of, size_t *most)
{
    size_t sums = static_cast<size_t>(of.weight.slices) * of.weight.n;
    if (sums > *most) *most = sums;
}

/* Floats a row of the largest product, its slices side by side. */
static size_t largest_sums(const sp_device_masked *m)
{
    size_t most = 0;
    include(m->between, &most);
    for (size_t i = 0; i < m->encoder.n + m->decoder.n; i++) {
        const masked_block *b = &m->encoder.blocks[i];
        include(b->qkv, &most);
        include(b->out, &most);
        include(b->up, &most);
        include(b->down, &most);
    }
    return most;
}

static arrival take_arrival(const sp_device_masked_plan *p, sp_bump *b)
{
    arrival in;
    in.latents = sp_take<float>(b, p->n_positions * p->latent_dim);
    in.class_row = sp_take<float>(b, p->dim);
    in.row = sp_take<int32_t>(b, p->buffer + p->n_positions);
    in.wanted = sp_take<int32_t>(b, p->n_positions);
    return in;
}

static void lay_out(sp_device_masked_context *c, sp_bump *b)
{
    const sp_device_masked_plan *p = &c->model->plan;
    size_t rows = c->max_rows, padded = sp_round_up(p->head_dim, 16), capacity = sp_round_up(c->n_places, 64);
    c->in = take_arrival(p, b);
    c->in_bytes = b->used;
    c->cache.keys = sp_take<uint16_t>(b, SP_DEVICE_STREAMS * p->heads * padded * capacity);
    c->cache.values = sp_take<uint16_t>(b, SP_DEVICE_STREAMS * p->heads * padded * capacity);
    c->cache.capacity = capacity;
    c->cache.head_dim = padded;
    c->q = sp_take<uint16_t>(b, rows * p->heads * padded);
    c->cleared_bytes = b->used - c->in_bytes;
    c->stream = sp_take<int32_t>(b, rows);
    c->position = sp_take<int32_t>(b, rows);
    c->slot = sp_take<int32_t>(b, rows);
    c->x = sp_take<float>(b, rows * p->dim);
    c->sums = sp_take<float>(b, rows * largest_sums(c->model));
    c->normed = sp_take<float>(b, rows * p->dim);
    c->features = sp_take<float>(b, SP_DEVICE_STREAMS * p->n_positions * p->dim);
    c->norm = sp_take<uint16_t>(b, rows * p->dim);
    c->attended = sp_take<uint16_t>(b, rows * p->heads * p->head_dim);
    c->active = sp_take<uint16_t>(b, rows * p->ffn_dim);
    c->scratch = sp_take<unsigned char>(b, sp_cuda_attention_scratch(rows, p->heads, p->head_dim, capacity));
}

static sp_status open_parts(sp_device_masked_context *c, sp_error *err)
{
    sp_bump b = {NULL, 0};
    SP_CUDA(cudaSetDevice(c->model->device), err);
    SP_CUDA(cudaStreamCreateWithFlags(&c->queue, cudaStreamNonBlocking), err);
    lay_out(c, &b);
    c->bytes = b.used;
    SP_CUDA(cudaMalloc(&c->memory, c->bytes), err);
    SP_CUDA(cudaMallocHost(&c->host, c->in_bytes), err);
    b = sp_bump{c->memory, 0};
    lay_out(c, &b);
    /* Padding of heads is zero and stays so, and keys not yet written are numbers. */
    SP_CUDA(cudaMemsetAsync(c->memory + c->in_bytes, 0, c->cleared_bytes, c->queue), err);
    return SP_OK;
}

static void close_context(sp_device_masked_context *c)
{
    if (!c) return;
    cudaSetDevice(c->model->device);
    cudaFree(c->memory);
    cudaFreeHost(c->host);
    if (c->queue) cudaStreamDestroy(c->queue);
    sp_release(c);
}

static sp_status open_context(sp_device_masked_context **out, const sp_device_masked *model, sp_error *err)
{
    *out = NULL;
    sp_device_masked_context *c = static_cast<sp_device_masked_context *>(sp_alloc(1, sizeof *c));
    if (!c) return SP_FAIL(err, SP_ENOMEM, "device: no host memory for the session");
    c->model = model;
    c->n_places = model->plan.buffer + model->plan.n_positions;
    c->max_rows = SP_DEVICE_STREAMS * c->n_places;
    sp_status status = open_parts(c, err);
    if (status == SP_OK) *out = c;
    else close_context(c);
    return status;
}

static size_t bytes_of_context(const sp_device_masked_context *c) { return c->bytes; }

/* ---- a pass ---- */

/* What a product leaves to be added. */
struct addend {
    sp_partial sums;
    const float *bias;
};

static cudaError_t queue_norm(const sp_device_masked_context *c, const addend &add, const sp_layer_norm &norm,
                              size_t n_rows, uint16_t *y, float *features)
{
    return sp_cuda_layer_norm(c->queue, c->x, add.sums, add.bias, norm, n_rows, c->model->plan.dim, y, features);
}

static cudaError_t queue_product(const sp_device_masked_context *c, const map &of, const uint16_t *x, size_t n_rows,
                                 addend *y)
{
    y->bias = of.bias;
    return sp_cuda_gemm(c->queue, of.weight, x, n_rows, c->sums, &y->sums);
}

/* *add is what the block before left to be added to x, and what this one leaves. */
static cudaError_t queue_block(const sp_device_masked_context *c, const masked_block &b, const sp_rows &rows,
                               size_t n_streams, size_t n, addend *add)
{
    size_t all = n_streams * n;
    addend y;
    cudaError_t e = queue_norm(c, *add, b.norm[0], all, c->norm, NULL);
    if (e == cudaSuccess) e = queue_product(c, b.qkv, c->norm, all, &y);
    if (e == cudaSuccess) e = sp_cuda_heads(c->queue, y.sums, b.heads, rows, c->cache, all, c->q);
    if (e == cudaSuccess)
        e = sp_cuda_attention(c->queue, c->q, b.heads, rows, c->cache, n_streams, n, c->scratch, c->attended);
    if (e == cudaSuccess) e = queue_product(c, b.out, c->attended, all, &y);
    if (e == cudaSuccess) e = queue_norm(c, y, b.norm[1], all, c->norm, NULL);
    if (e == cudaSuccess) e = queue_product(c, b.up, c->norm, all, &y);
    if (e == cudaSuccess) e = sp_cuda_gelu(c->queue, y.sums, y.bias, all, c->model->plan.ffn_dim, c->active);
    if (e == cudaSuccess) e = queue_product(c, b.down, c->active, all, add);
    return e;
}

/* All blocks over n rows a stream in x, then the last norm. */
static cudaError_t queue_stack(const sp_device_masked_context *c, const stack &s, size_t n_streams, size_t n,
                               uint16_t *y, float *features)
{
    sp_rows rows = {NULL, c->stream, c->position, c->slot, NULL, NULL};
    addend add = {{NULL, 0, 0}, NULL};
    cudaError_t e = sp_cuda_masked_rows(c->queue, n_streams, n, c->stream, c->position, c->slot);
    for (size_t i = 0; e == cudaSuccess && i < s.n; i++) e = queue_block(c, s.blocks[i], rows, n_streams, n, &add);
    return e == cudaSuccess ? queue_norm(c, add, s.norm, n_streams * n, y, features) : e;
}

static cudaError_t queue_pass(const sp_device_masked_context *c, const sp_masked_places &places, size_t n_wanted)
{
    const sp_device_masked *m = c->model;
    size_t known = places.n_streams * places.n_known;
    addend y = {{NULL, 0, 0}, NULL};
    cudaError_t e = sp_cuda_masked_embed(c->queue, places, c->in.class_row, m->no_class, m->tokens, c->in.latents,
                                         m->encoder_position, c->x);
    if (e == cudaSuccess) e = queue_norm(c, y, m->tokens_norm, known, NULL, c->x);
    if (e == cudaSuccess) e = queue_stack(c, m->encoder, places.n_streams, places.n_known, c->norm, NULL);
    if (e == cudaSuccess) e = queue_product(c, m->between, c->norm, known, &y);
    if (e == cudaSuccess)
        e = sp_cuda_masked_spread(c->queue, places, y.sums, y.bias, m->mask, m->decoder_position, c->x);
    if (e == cudaSuccess) e = queue_stack(c, m->decoder, places.n_streams, places.n, NULL, c->normed);
    return e == cudaSuccess ? sp_cuda_masked_collect(c->queue, places, c->normed, c->in.wanted, n_wanted,
                                                     m->feature_position, c->features) : e;
}

/* Returns how many places have a row of the encoder. */
static size_t write_arrival(const sp_device_masked_context *c, const sp_device_masked_pass *pass)
{
    const sp_device_masked_plan *p = &c->model->plan;
    sp_bump b = {c->host, 0};
    arrival to = take_arrival(p, &b);
    size_t n_known = 0, width = p->latent_dim;
    memcpy(to.class_row, pass->class_row, p->dim * sizeof *to.class_row);
    memcpy(to.wanted, pass->positions, pass->n * sizeof *to.wanted);
    for (size_t place = 0; place < c->n_places; place++) {
        bool picture = place >= p->buffer, known = !picture || pass->known[place - p->buffer];
        to.row[place] = known ? static_cast<int32_t>(n_known++) : -1;
        if (!picture || !known) continue;
        size_t at = (place - p->buffer) * width;
        memcpy(to.latents + at, pass->latents + at, width * sizeof *to.latents);
    }
    return n_known;
}

static sp_status pass(sp_device_masked_context *c, const sp_device_masked_pass *pass, float *features, sp_error *err)
{
    const sp_device_masked_plan *p = &c->model->plan;
    if (pass->n < 1 || pass->n > p->n_positions || pass->n_streams < 1 || pass->n_streams > SP_DEVICE_STREAMS)
        return SP_FAIL(err, SP_EBUG, "device: %zu conditions of %zu streams; expected 1 to %zu of 1 or 2", pass->n,
                       pass->n_streams, p->n_positions);
    size_t n_known = write_arrival(c, pass), count = pass->n_streams * pass->n * p->dim;
    sp_masked_places places = {c->in.row, c->n_places, p->buffer, n_known, pass->n_streams, p->dim};
    SP_CUDA(cudaSetDevice(c->model->device), err);
    SP_CUDA(cudaMemcpyAsync(c->memory, c->host, c->in_bytes, cudaMemcpyHostToDevice, c->queue), err);
    SP_CUDA(queue_pass(c, places, pass->n), err);
    if (features)
        SP_CUDA(cudaMemcpyAsync(features, c->features, count * sizeof *features, cudaMemcpyDeviceToHost, c->queue),
                err);
    SP_CUDA(cudaStreamSynchronize(c->queue), err);
    return SP_OK;
}

static const float *features_of(const sp_device_masked_context *c) { return c->features; }

const sp_device_masked_ops sp_cuda_masked = {open_model,       bytes_of_model, close_model, open_context,
                                             bytes_of_context, close_context,  pass,        features_of};
