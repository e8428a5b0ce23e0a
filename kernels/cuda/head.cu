/* The host's side of a diffusion head: its memory, and what goes in and out of a call. */
#include <stdlib.h>

#include "kernels/cuda/head.cuh"

extern "C" {
#include "base/size.h"
}

enum { MAX_STREAMS = 2, MAX_WIDTH = 8192, MAX_DIM = 256 };

struct sp_device_head {
    int device, multiprocessors;
    size_t condition_width;
    sp_cuda_head head; /* the part that no picture changes: in device memory but for its numbers */
    unsigned char *memory;
    size_t bytes;
};

struct sp_device_head_context {
    const sp_device_head *of;
    size_t max_rows;
    sp_cuda_head head; /* all of it */
    float *features;   /* [MAX_STREAMS, max_rows, condition_width] */
    uint16_t *x;       /* the same in bf16 */
    unsigned char *memory;
    size_t bytes;
    cudaStream_t stream;
};

/* ---- memory: measured while there is none, then given out ---- */

typedef struct bump {
    unsigned char *base;
    size_t used;
} bump;

template <typename T> static T *take(bump *b, size_t count)
{
    T *at = b->base ? reinterpret_cast<T *>(b->base + b->used) : NULL;
    b->used += sp_round_up(count * sizeof(T), 256);
    return at;
}

static sp_cuda_linear take_linear(bump *b, const sp_device_linear *from)
{
    sp_cuda_linear linear;
    linear.weights = take<uint16_t>(b, sp_cuda_packed_count(from->n, from->k, 1));
    linear.bias = take<float>(b, from->n);
    linear.n = (int)from->n;
    linear.chunks = (int)sp_cuda_chunks(from->k);
    return linear;
}

/* blocks: on the host, where their pointers are written down to be uploaded. */
static void take_weights(sp_cuda_head *h, const sp_device_head_plan *p, sp_cuda_head_block *blocks, bump *b)
{
    h->blocks = take<sp_cuda_head_block>(b, p->blocks);
    for (size_t i = 0; i < p->blocks; i++) {
        blocks[i].norm = take<float>(b, p->width);
        blocks[i].norm_bias = take<float>(b, p->width);
        blocks[i].up = take_linear(b, &p->block[i].up);
        blocks[i].down = take_linear(b, &p->block[i].down);
    }
    h->condition = take_linear(b, &p->condition);
    h->modulation = take_linear(b, &p->modulation);
    h->input = take<float>(b, p->width * p->dim);
    h->input_bias = take<float>(b, p->width);
    h->output = take<float>(b, p->outputs * p->width);
    h->output_bias = take<float>(b, p->outputs);
    h->time = take<float>(b, p->steps * p->width);
    h->step = take<sp_device_head_step>(b, p->steps);
}

static void take_work(sp_device_head_context *c, bump *b)
{
    sp_cuda_head *h = &c->head;
    size_t rows = MAX_STREAMS * c->max_rows, states = c->max_rows * (size_t)h->dim;
    h->scale = take<float>(b, c->max_rows);
    h->conditions = take<float>(b, rows * (size_t)h->width);
    h->s = take<uint16_t>(b, rows * (size_t)h->width_stride);
    h->u = take<uint16_t>(b, rows * (size_t)h->width_stride);
    h->active = take<uint16_t>(b, rows * (size_t)h->hidden_stride);
    h->h = take<float>(b, rows * (size_t)h->width);
    h->m = take<float>(b, rows * (size_t)h->modulations);
    h->row = take<int32_t>(b, c->max_rows);
    h->position = take<uint32_t>(b, c->max_rows);
    for (int i = 0; i < 4; i++) h->path[i] = take<float>(b, states * (size_t)h->steps);
    h->state = take<float>(b, states);
    h->mean = take<float>(b, states);
    h->deviation = take<float>(b, states);
    h->counter = take<unsigned>(b, 1);
    c->features = take<float>(b, rows * c->of->condition_width);
    c->x = take<uint16_t>(b, rows * (size_t)h->condition.chunks * SP_CUDA_CHUNK);
}

static sp_status upload(const void *to, const void *from, size_t bytes, sp_error *err)
{
    SP_CUDA(cudaMemcpy(const_cast<void *>(to), from, bytes, cudaMemcpyHostToDevice), err);
    return SP_OK;
}

static sp_status upload_floats(const float *to, const float *from, size_t count, sp_error *err)
{
    return upload(to, from, count * sizeof *from, err);
}

static sp_status upload_linear(const sp_cuda_linear *to, const sp_device_linear *from, sp_error *err)
{
    size_t count = sp_cuda_packed_count(from->n, from->k, 1);
    uint16_t *packed = (uint16_t *)calloc(count, sizeof *packed);
    if (!packed) return SP_FAIL(err, SP_ENOMEM, "head: no memory for %zu weights; close other programs", count);
    sp_cuda_pack_conv(from->weights, SP_F32, from->n, from->k, 1, packed);
    sp_status status = upload(to->weights, packed, count * sizeof *packed, err);
    free(packed);
    return status == SP_OK ? upload_floats(to->bias, from->bias, from->n, err) : status;
}

static sp_status upload_weights(const sp_cuda_head *h, const sp_device_head_plan *p, const sp_cuda_head_block *blocks,
                                sp_error *err)
{
    SP_TRY(upload(h->blocks, blocks, p->blocks * sizeof *blocks, err));
    for (size_t i = 0; i < p->blocks; i++) {
        SP_TRY(upload_floats(blocks[i].norm, p->block[i].norm, p->width, err));
        SP_TRY(upload_floats(blocks[i].norm_bias, p->block[i].norm_bias, p->width, err));
        SP_TRY(upload_linear(&blocks[i].up, &p->block[i].up, err));
        SP_TRY(upload_linear(&blocks[i].down, &p->block[i].down, err));
    }
    SP_TRY(upload_linear(&h->condition, &p->condition, err));
    SP_TRY(upload_linear(&h->modulation, &p->modulation, err));
    SP_TRY(upload_floats(h->input, p->input.weights, p->width * p->dim, err));
    SP_TRY(upload_floats(h->input_bias, p->input.bias, p->width, err));
    SP_TRY(upload_floats(h->output, p->output.weights, p->outputs * p->width, err));
    SP_TRY(upload_floats(h->output_bias, p->output.bias, p->outputs, err));
    SP_TRY(upload_floats(h->time, p->time, p->steps * p->width, err));
    return upload(h->step, p->step, p->steps * sizeof *p->step, err);
}

/* ---- open and close ---- */

/* Largest sizes at which no product of them overflows. */
static sp_status check(const sp_device_head_plan *p, sp_error *err)
{
    if (p->dim < 1 || p->dim > MAX_DIM || p->width < 1 || p->width > MAX_WIDTH || p->hidden > 8 * MAX_WIDTH)
        return SP_FAIL(err, SP_EUNSUPPORTED, "device: a head of %zu numbers, width %zu and %zu inside: expected at "
                       "most %d, %d and %d; use --device cpu", p->dim, p->width, p->hidden, MAX_DIM, MAX_WIDTH,
                       8 * MAX_WIDTH);
    return SP_OK;
}

static sp_status check_rows(const sp_cuda_head *h, size_t max_rows, sp_error *err)
{
    size_t unused;
    SP_TRY(sp_size_product(&unused, err, "chains", max_rows, (size_t)h->steps, (size_t)h->dim, 4 * sizeof(float)));
    return sp_size_product(&unused, err, "modulations", MAX_STREAMS * max_rows, (size_t)h->modulations, sizeof(float),
                           1);
}

static void set_shape(sp_cuda_head *h, const sp_device_head_plan *p)
{
    h->dim = (int)p->dim;
    h->outputs = (int)p->outputs;
    h->width = (int)p->width;
    h->hidden = (int)p->hidden;
    h->n_blocks = (int)p->blocks;
    h->n_groups = (int)p->groups;
    h->blocks_a_group = (int)(p->blocks / p->groups);
    h->steps = (int)p->steps;
    h->modulations = (int)p->modulation.n;
    h->width_stride = (int)(sp_cuda_chunks(p->width) * SP_CUDA_CHUNK);
    h->hidden_stride = (int)(sp_cuda_chunks(p->hidden) * SP_CUDA_CHUNK);
    h->gated = p->gated;
    h->shift_first = p->shift_first;
}

/* Zeros beyond width and hidden, which nothing writes. */
static sp_status clear_ends(const sp_device_head_context *c, sp_error *err)
{
    const sp_cuda_head *h = &c->head;
    size_t rows = MAX_STREAMS * c->max_rows;
    SP_CUDA(cudaMemset(h->s, 0, rows * (size_t)h->width_stride * sizeof *h->s), err);
    SP_CUDA(cudaMemset(h->u, 0, rows * (size_t)h->width_stride * sizeof *h->u), err);
    SP_CUDA(cudaMemset(h->active, 0, rows * (size_t)h->hidden_stride * sizeof *h->active), err);
    return SP_OK;
}

static sp_status make(sp_device_head *d, const sp_device_head_plan *p, sp_cuda_head_block *blocks, sp_error *err)
{
    bump b = {};
    SP_CUDA(cudaSetDevice(d->device), err);
    SP_CUDA(cudaDeviceGetAttribute(&d->multiprocessors, cudaDevAttrMultiProcessorCount, d->device), err);
    take_weights(&d->head, p, blocks, &b);
    SP_CUDA(cudaMalloc(&d->memory, b.used), err);
    d->bytes = b.used;
    b = bump{d->memory, 0};
    take_weights(&d->head, p, blocks, &b);
    SP_TRY(upload_weights(&d->head, p, blocks, err));
    SP_CUDA(cudaDeviceSynchronize(), err);
    return SP_OK;
}

static void close_head(sp_device_head *d)
{
    if (!d) return;
    cudaSetDevice(d->device);
    cudaFree(d->memory);
    free(d);
}

static sp_status open_head(sp_device_head **out, int device, const sp_device_head_plan *plan, sp_error *err)
{
    *out = NULL;
    SP_TRY(check(plan, err));
    sp_device_head *d = (sp_device_head *)calloc(1, sizeof *d);
    sp_cuda_head_block *blocks = (sp_cuda_head_block *)calloc(plan->blocks + 1, sizeof *blocks);
    sp_status status = d && blocks ? SP_OK : SP_FAIL(err, SP_ENOMEM, "head: no memory");
    if (status == SP_OK) {
        d->device = device;
        d->condition_width = plan->condition.k;
        set_shape(&d->head, plan);
        status = make(d, plan, blocks, err);
    }
    free(blocks);
    if (status == SP_OK) *out = d;
    else close_head(d);
    return status;
}

static size_t bytes_of(const sp_device_head *d) { return d->bytes; }

static sp_status make_context(sp_device_head_context *c, sp_error *err)
{
    bump b = {};
    SP_TRY(check_rows(&c->head, c->max_rows, err));
    SP_CUDA(cudaSetDevice(c->of->device), err);
    SP_CUDA(cudaStreamCreateWithFlags(&c->stream, cudaStreamNonBlocking), err);
    take_work(c, &b);
    SP_CUDA(cudaMalloc(&c->memory, b.used), err);
    c->bytes = b.used;
    b = bump{c->memory, 0};
    take_work(c, &b);
    SP_TRY(clear_ends(c, err));
    SP_CUDA(cudaDeviceSynchronize(), err);
    return SP_OK;
}

static void close_context(sp_device_head_context *c)
{
    if (!c) return;
    cudaSetDevice(c->of->device);
    if (c->stream) cudaStreamDestroy(c->stream);
    cudaFree(c->memory);
    free(c);
}

static sp_status open_context(sp_device_head_context **out, const sp_device_head *d, size_t max_rows, sp_error *err)
{
    *out = NULL;
    sp_device_head_context *c = (sp_device_head_context *)calloc(1, sizeof *c);
    if (!c) return SP_FAIL(err, SP_ENOMEM, "head: no memory");
    c->of = d;
    c->max_rows = max_rows;
    c->head = d->head;
    c->head.max_rows = (int)max_rows;
    sp_status status = make_context(c, err);
    if (status == SP_OK) *out = c;
    else close_context(c);
    return status;
}

static size_t bytes_of_context(const sp_device_head_context *c) { return c->bytes; }

/* ---- calls ---- */

static sp_status check_chains(const sp_device_head_context *c, size_t n, sp_error *err)
{
    if (n >= 1 && n <= c->max_rows) return SP_OK;
    return SP_FAIL(err, SP_EBUG, "head: %zu chains: expected 1 to %zu", n, c->max_rows);
}

/* A copy of count items from the host, queued. */
template <typename T>
static sp_status send(const sp_device_head_context *c, const T *to, const T *from, size_t count, sp_error *err)
{
    SP_CUDA(cudaMemcpyAsync(const_cast<T *>(to), from, count * sizeof *from, cudaMemcpyHostToDevice, c->stream), err);
    return SP_OK;
}

/* The laws of n chains come out, and everything that is queued is done. */
static sp_status fetch_laws(const sp_device_head_context *c, size_t n, float *mean, float *deviation, sp_error *err)
{
    size_t bytes = n * (size_t)c->head.dim * sizeof(float);
    SP_CUDA(cudaMemcpyAsync(mean, c->head.mean, bytes, cudaMemcpyDeviceToHost, c->stream), err);
    SP_CUDA(cudaMemcpyAsync(deviation, c->head.deviation, bytes, cudaMemcpyDeviceToHost, c->stream), err);
    SP_CUDA(cudaStreamSynchronize(c->stream), err);
    return SP_OK;
}

static sp_status condition(sp_device_head_context *c, const sp_device_head_conditions *from, sp_error *err)
{
    sp_cuda_head *h = &c->head;
    size_t width = c->of->condition_width;
    if (from->n < 1 || from->n > c->max_rows || from->n_streams < 1 || from->n_streams > MAX_STREAMS)
        return SP_FAIL(err, SP_EBUG, "head: %zu conditions of %zu streams: expected at most %zu of %d", from->n,
                       from->n_streams, c->max_rows, MAX_STREAMS);
    h->n_conditions = (int)from->n;
    h->streams = (int)from->n_streams;
    h->temperature = from->temperature;
    SP_CUDA(cudaSetDevice(c->of->device), err);
    SP_CUDA(cudaMemcpyAsync(c->features, from->features, from->n_streams * from->n * width * sizeof *c->features,
                            cudaMemcpyDefault, c->stream), err);
    if (from->n_streams > 1) SP_TRY(send(c, h->scale, from->scale, from->n, err));
    SP_CUDA(sp_cuda_head_conditions(c->stream, h, c->features, width, c->x), err);
    return SP_OK;
}

static sp_status set_chains(sp_device_head_context *c, const sp_device_chains *from, sp_error *err)
{
    sp_cuda_head *h = &c->head;
    h->n = (int)from->n;
    h->n_coupled = (int)from->n_coupled;
    h->remember = from->remember;
    h->seed = from->seed;
    h->image = from->image;
    h->pass = from->pass;
    h->purpose = from->purpose;
    SP_TRY(send(c, h->row, from->row, from->n, err));
    return send(c, h->position, from->position, from->n, err);
}

static sp_status run(sp_device_head_context *c, const sp_device_chains *from, sp_error *err)
{
    const sp_cuda_head *h = &c->head;
    size_t bytes = from->n * (size_t)h->dim * sizeof(float);
    SP_TRY(check_chains(c, from->n, err));
    SP_CUDA(cudaSetDevice(c->of->device), err);
    SP_TRY(set_chains(c, from, err));
    SP_CUDA(sp_cuda_head_chains(c->stream, h, c->of->multiprocessors), err);
    SP_CUDA(cudaMemcpyAsync(from->state, h->state, bytes, cudaMemcpyDeviceToHost, c->stream), err);
    return fetch_laws(c, from->n, from->mean, from->deviation, err);
}

static sp_status step(sp_device_head_context *c, const sp_device_chain_step *from, sp_error *err)
{
    sp_cuda_head *h = &c->head;
    SP_TRY(check_chains(c, from->n, err));
    if (from->k >= (size_t)h->steps)
        return SP_FAIL(err, SP_EBUG, "head: step %zu of a chain: expected 0 to %d", from->k, h->steps - 1);
    SP_CUDA(cudaSetDevice(c->of->device), err);
    h->n = (int)from->n;
    SP_TRY(send(c, h->row, from->row, from->n, err));
    SP_TRY(send<float>(c, h->state, from->state, from->n * (size_t)h->dim, err));
    SP_CUDA(sp_cuda_head_step(c->stream, h, (int)from->k, c->of->multiprocessors), err);
    return fetch_laws(c, from->n, from->mean, from->deviation, err);
}

extern "C" const sp_device_head_ops sp_cuda_head_ops;
const sp_device_head_ops sp_cuda_head_ops = {open_head,        bytes_of,      close_head, open_context,
                                             bytes_of_context, close_context, condition,  run, step};
