/* The decoder of a codec: its layers as convolutions and attention over three buffers, captured once as a graph. What a
 * picture costs is in conv.cu; the tokens in and the colours out are a thousandth of it. */
#include <stdlib.h>

#include "kernels/cuda/conv.cuh"
#include "kernels/cuda/group_norm.cuh"
#include "kernels/cuda/self_attention.cuh"
#include "kernels/cuda/table.cuh"

extern "C" {
#include "base/size.h"
#include "kernels/device_codec.h"
}

enum { THREADS = 256, N_BUFFERS = 3 };

typedef struct layer {
    sp_device_layer plan; /* what it points to is not used after open, but for the pointers below */
    const float *gain, *bias;
    const uint16_t *weights[4];
    const float *map_bias[4];
} layer;

struct sp_device_codec {
    int device, multiprocessors;
    layer *layers;
    size_t n_layers, groups, positions, code_dim, pixels; /* pixels: of the picture */
    float eps, latent_scale;
    bool latents;
    unsigned char *weights, *work;
    size_t weight_bytes, work_bytes;
    float *codes;               /* [n_codes, code_dim], in weights */
    float *buffer[N_BUFFERS];   /* in work, as the rest: */
    size_t buffer_floats;
    float2 *affine;
    float *norm_scratch;
    uint16_t *keys, *values;    /* of attention; zeros beyond what a layer writes */
    size_t key_halves, value_halves;
    unsigned char *tokens;
    size_t token_bytes;
    uint8_t *rgb;
    unsigned long long *wrong;  /* index of the first colour that is no number, or all ones */
    cudaStream_t stream;
    cudaGraphExec_t graph;
};

/* Gives out memory from `base` on; measures while that is NULL. */
typedef struct bump {
    unsigned char *base;
    size_t used;
} bump;

static void *take(bump *b, size_t bytes)
{
    void *at = b->base ? b->base + b->used : NULL;
    b->used += sp_round_up(bytes, 256);
    return at;
}

static int maps_of(const sp_device_layer *l) { return l->kind == SP_DEVICE_ATTENTION ? 4 : 1; }
static size_t size_of(const sp_device_layer *l) { return l->kind == SP_DEVICE_CONV3 ? 3 : 1; }
static size_t larger(size_t a, size_t b) { return a > b ? a : b; }

static size_t output_pixels(const sp_device_layer *l)
{
    return l->in.height * l->in.width * (l->upsample ? 4 : 1);
}

/* ---- weights ---- */

static void take_weights(sp_device_codec *c, const sp_device_codec_plan *plan, bump *b)
{
    if (!c->latents) c->codes = (float *)take(b, plan->n_codes * plan->code_dim * sizeof(float));
    for (size_t i = 0; i < c->n_layers; i++) {
        layer *l = &c->layers[i];
        const sp_device_layer *from = &plan->layers[i];
        if (from->gain) l->gain = (float *)take(b, from->in.channels * sizeof(float));
        if (from->gain) l->bias = (float *)take(b, from->in.channels * sizeof(float));
        for (int m = 0; m < maps_of(from); m++) {
            const sp_device_map *map = &from->map[m];
            l->weights[m] = (uint16_t *)take(b, 2 * sp_cuda_packed_count(map->n, map->k, size_of(from)));
            l->map_bias[m] = (float *)take(b, map->n * sizeof(float));
        }
    }
}

static sp_status upload(const void *to, const void *from, size_t bytes, sp_error *err)
{
    SP_CUDA(cudaMemcpy(const_cast<void *>(to), from, bytes, cudaMemcpyHostToDevice), err);
    return SP_OK;
}

static sp_status upload_layer(const layer *l, const sp_device_layer *from, uint16_t *staging, sp_error *err)
{
    if (from->gain) SP_TRY(upload(l->gain, from->gain, from->in.channels * sizeof(float), err));
    if (from->gain) SP_TRY(upload(l->bias, from->bias, from->in.channels * sizeof(float), err));
    for (int m = 0; m < maps_of(from); m++) {
        const sp_device_map *map = &from->map[m];
        sp_cuda_pack_conv(map->weights, map->dtype, map->n, map->k, size_of(from), staging);
        SP_TRY(upload(l->weights[m], staging, 2 * sp_cuda_packed_count(map->n, map->k, size_of(from)), err));
        SP_TRY(upload(l->map_bias[m], map->bias, map->n * sizeof(float), err));
    }
    return SP_OK;
}

static sp_status upload_all(sp_device_codec *c, const sp_device_codec_plan *plan, sp_error *err)
{
    size_t largest = 0;
    sp_status status = SP_OK;
    for (size_t i = 0; i < c->n_layers; i++)
        for (int m = 0; m < maps_of(&plan->layers[i]); m++) {
            const sp_device_map *map = &plan->layers[i].map[m];
            largest = larger(largest, sp_cuda_packed_count(map->n, map->k, size_of(&plan->layers[i])));
        }
    if (!c->latents) SP_TRY(upload(c->codes, plan->codes, plan->n_codes * plan->code_dim * sizeof(float), err));
    uint16_t *staging = (uint16_t *)calloc(largest, sizeof *staging);
    if (!staging) return SP_FAIL(err, SP_ENOMEM, "codec: no memory for %zu weights; close other programs", largest);
    for (size_t i = 0; i < c->n_layers && status == SP_OK; i++)
        status = upload_layer(&c->layers[i], &plan->layers[i], staging, err);
    free(staging);
    return status;
}

/* ---- work memory ---- */

/* Raises what the buffers must hold to what a layer needs. */
static sp_status fit(sp_device_codec *c, const sp_device_layer *l, size_t *norm_floats, size_t *channels, sp_error *err)
{
    size_t in = 0, out = 0, n = l->in.height * l->in.width, k = l->in.channels;
    size_t last = l->map[maps_of(l) - 1].n;
    SP_TRY(sp_size_product(&in, err, "codec layer", n, sp_cuda_stride(k), 1, 1));
    SP_TRY(sp_size_product(&out, err, "codec layer", output_pixels(l), sp_cuda_stride(last), 1, 1));
    c->buffer_floats = larger(c->buffer_floats, larger(in, out));
    if (l->gain) *norm_floats = larger(*norm_floats, sp_cuda_group_norm_scratch(l->in));
    *channels = larger(*channels, k);
    if (l->kind != SP_DEVICE_ATTENTION) return SP_OK;
    c->buffer_floats = larger(c->buffer_floats, sp_cuda_stride(n)); /* a row of scores */
    c->key_halves = larger(c->key_halves, n * sp_round_up(k, SP_CUDA_CHUNK));
    c->value_halves = larger(c->value_halves, k * sp_round_up(n, SP_CUDA_CHUNK));
    return SP_OK;
}

static void take_work(sp_device_codec *c, size_t norm_floats, size_t channels, bump *b)
{
    for (int i = 0; i < N_BUFFERS; i++) c->buffer[i] = (float *)take(b, c->buffer_floats * sizeof(float));
    c->affine = (float2 *)take(b, channels * sizeof(float2));
    c->norm_scratch = (float *)take(b, norm_floats * sizeof(float));
    c->keys = (uint16_t *)take(b, 2 * c->key_halves);
    c->values = (uint16_t *)take(b, 2 * c->value_halves);
    c->tokens = (unsigned char *)take(b, c->token_bytes);
    c->rgb = (uint8_t *)take(b, 3 * c->pixels);
    c->wrong = (unsigned long long *)take(b, sizeof *c->wrong);
}

static sp_status make_room(sp_device_codec *c, const sp_device_codec_plan *plan, sp_error *err)
{
    size_t norm_floats = 0, channels = 0;
    bump weights = {}, work = {};
    for (size_t i = 0; i < c->n_layers; i++) SP_TRY(fit(c, &plan->layers[i], &norm_floats, &channels, err));
    c->buffer_floats = larger(c->buffer_floats, c->positions * sp_cuda_stride(c->code_dim));
    take_weights(c, plan, &weights);
    take_work(c, norm_floats, channels, &work);
    SP_CUDA(cudaMalloc(&c->weights, weights.used), err);
    SP_CUDA(cudaMalloc(&c->work, work.used), err);
    c->weight_bytes = weights.used;
    c->work_bytes = work.used;
    weights = bump{c->weights, 0};
    work = bump{c->work, 0};
    take_weights(c, plan, &weights);
    take_work(c, norm_floats, channels, &work);
    if (c->key_halves) SP_CUDA(cudaMemset(c->keys, 0, 2 * c->key_halves), err);
    if (c->value_halves) SP_CUDA(cudaMemset(c->values, 0, 2 * c->value_halves), err);
    return SP_OK;
}

/* ---- the decoder ---- */

__global__ void read_codes(const int32_t *tokens, const float *codes, size_t n, size_t dim, size_t stride, float *out)
{
    sp_wait_launch();
    size_t i = blockIdx.x * (size_t)THREADS + threadIdx.x;
    if (i < n * dim) out[i / dim * stride + i % dim] = codes[(size_t)tokens[i / dim] * dim + i % dim];
}

__global__ void read_latents(const float *latents, float scale, size_t n, size_t dim, size_t stride, float *out)
{
    sp_wait_launch();
    size_t i = blockIdx.x * (size_t)THREADS + threadIdx.x;
    if (i < n * dim) out[i / dim * stride + i % dim] = latents[i] / scale;
}

/* [-1, 1] to 0 .. 255, halves upwards, as vq/codec.c does it. */
__global__ void write_colours(const float *x, size_t count, uint8_t *rgb, unsigned long long *wrong)
{
    sp_wait_launch();
    size_t i = blockIdx.x * (size_t)THREADS + threadIdx.x;
    if (i >= count) return;
    float value = floorf(127.5f * x[i / 3 * 4 + i % 3] + 128.0f);
    rgb[i] = (uint8_t)fminf(fmaxf(value, 0.0f), 255.0f);
    if (!isfinite(value)) atomicMin(wrong, (unsigned long long)i);
}

static sp_status normalise(const sp_device_codec *c, const layer *l, sp_error *err)
{
    if (!l->gain) return SP_OK;
    sp_cuda_group_norm norm = {};
    norm.x = c->buffer[l->plan.from];
    norm.x_stride = sp_cuda_stride(l->plan.in.channels);
    norm.plane = l->plan.in;
    norm.groups = c->groups;
    norm.eps = c->eps;
    norm.gain = l->gain;
    norm.bias = l->bias;
    norm.affine = c->affine;
    norm.scratch = c->norm_scratch;
    SP_CUDA(sp_cuda_group_norm_run(c->stream, &norm), err);
    return SP_OK;
}

/* Map m of the layer, of its normed input, into nowhere yet. */
static sp_cuda_conv conv_of(const sp_device_codec *c, const layer *l, int m)
{
    const sp_device_layer *p = &l->plan;
    sp_cuda_conv conv = {};
    conv.size = (int)size_of(p);
    conv.upsample = p->upsample;
    conv.in = p->in;
    conv.n = p->map[m].n;
    conv.x = c->buffer[p->from];
    conv.x_stride = sp_cuda_stride(p->in.channels);
    conv.affine = l->gain ? c->affine : NULL;
    conv.swish = p->swish;
    conv.weights = sp_cuda_packed(l->weights[m], conv.n);
    conv.bias = l->map_bias[m];
    conv.y_stride = sp_cuda_stride(conv.n);
    return conv;
}

static sp_status convolve(const sp_device_codec *c, const sp_cuda_conv *conv, sp_error *err)
{
    SP_CUDA(sp_cuda_convolve(c->stream, conv, c->multiprocessors), err);
    return SP_OK;
}

static sp_status run_conv(const sp_device_codec *c, const layer *l, sp_error *err)
{
    sp_cuda_conv conv = conv_of(c, l, 0);
    conv.y = c->buffer[l->plan.to];
    conv.residual = l->plan.residual < 0 ? NULL : c->buffer[l->plan.residual];
    return convolve(c, &conv, err);
}

/* Of the other two buffers one holds queries, then what they gave, and one scores. */
static sp_status run_attention(const sp_device_codec *c, const layer *l, sp_error *err)
{
    int x = l->plan.from;
    sp_cuda_self_attention a = {};
    a.n = l->plan.in.height * l->plan.in.width;
    a.width = l->plan.in.channels;
    a.keys = c->keys;
    a.values = c->values;
    a.key_stride = sp_round_up(a.width, SP_CUDA_CHUNK);
    a.value_stride = sp_round_up(a.n, SP_CUDA_CHUNK);
    a.q = a.out = c->buffer[(x + 1) % N_BUFFERS];
    a.stride = sp_cuda_stride(a.width);
    a.scratch = c->buffer[(x + 2) % N_BUFFERS];
    a.scratch_floats = c->buffer_floats;
    sp_cuda_conv q = conv_of(c, l, 0), k = conv_of(c, l, 1), v = conv_of(c, l, 2), out = conv_of(c, l, 3);
    q.y = a.out;
    k.half = c->keys;
    k.half_stride = a.key_stride;
    v.half = c->values;
    v.half_stride = a.value_stride;
    v.transposed = true;
    SP_TRY(convolve(c, &q, err));
    SP_TRY(convolve(c, &k, err));
    SP_TRY(convolve(c, &v, err));
    SP_CUDA(sp_cuda_self_attention_run(c->stream, &a, c->multiprocessors), err);
    out.x = a.out;
    out.affine = NULL;
    out.y = c->buffer[l->plan.to];
    out.residual = c->buffer[l->plan.residual];
    return convolve(c, &out, err);
}

static sp_status enqueue(const sp_device_codec *c, sp_error *err)
{
    size_t count = c->positions * c->code_dim, stride = sp_cuda_stride(c->code_dim);
    float *first = c->buffer[c->layers[0].plan.from];
    const layer *last = &c->layers[c->n_layers - 1];
    if (c->latents)
        SP_CUDA(SP_LAUNCH(read_latents, sp_blocks(count, THREADS), THREADS, 0, c->stream, (const float *)c->tokens,
                          c->latent_scale, c->positions, c->code_dim, stride, first), err);
    else
        SP_CUDA(SP_LAUNCH(read_codes, sp_blocks(count, THREADS), THREADS, 0, c->stream, (const int32_t *)c->tokens,
                          c->codes, c->positions, c->code_dim, stride, first), err);
    for (size_t i = 0; i < c->n_layers; i++) {
        const layer *l = &c->layers[i];
        SP_TRY(normalise(c, l, err));
        SP_TRY(l->plan.kind == SP_DEVICE_ATTENTION ? run_attention(c, l, err) : run_conv(c, l, err));
    }
    SP_CUDA(cudaMemsetAsync(c->wrong, 0xFF, sizeof *c->wrong, c->stream), err);
    SP_CUDA(SP_LAUNCH(write_colours, sp_blocks(3 * c->pixels, THREADS), THREADS, 0, c->stream,
                      c->buffer[last->plan.to], 3 * c->pixels, c->rgb, c->wrong), err);
    return SP_OK;
}

static sp_status capture(sp_device_codec *c, sp_error *err)
{
    cudaGraph_t graph = NULL;
    SP_CUDA(cudaStreamBeginCapture(c->stream, cudaStreamCaptureModeThreadLocal), err);
    sp_status status = enqueue(c, err);
    cudaError_t ended = cudaStreamEndCapture(c->stream, &graph);
    if (status != SP_OK) return status;
    SP_CUDA(ended, err);
    cudaError_t made = cudaGraphInstantiate(&c->graph, graph, 0);
    cudaGraphDestroy(graph);
    SP_CUDA(made, err);
    return SP_OK;
}

static void close_codec(sp_device_codec *c)
{
    if (!c) return;
    cudaSetDevice(c->device);
    if (c->graph) cudaGraphExecDestroy(c->graph);
    if (c->stream) cudaStreamDestroy(c->stream);
    cudaFree(c->work);
    cudaFree(c->weights);
    free(c->layers);
    free(c);
}

static sp_status build(sp_device_codec *c, const sp_device_codec_plan *plan, sp_error *err)
{
    c->layers = (layer *)calloc(plan->n_layers, sizeof *c->layers);
    if (!c->layers) return SP_FAIL(err, SP_ENOMEM, "codec: no memory for the list of its layers");
    for (size_t i = 0; i < plan->n_layers; i++) c->layers[i].plan = plan->layers[i];
    SP_CUDA(cudaSetDevice(c->device), err);
    SP_CUDA(cudaDeviceGetAttribute(&c->multiprocessors, cudaDevAttrMultiProcessorCount, c->device), err);
    SP_CUDA(cudaStreamCreateWithFlags(&c->stream, cudaStreamNonBlocking), err);
    SP_TRY(make_room(c, plan, err));
    SP_TRY(upload_all(c, plan, err));
    SP_CUDA(cudaDeviceSynchronize(), err);
    return capture(c, err);
}

static sp_status open_codec(sp_device_codec **out, int device, const sp_device_codec_plan *plan, sp_error *err)
{
    *out = NULL;
    sp_device_codec *c = (sp_device_codec *)calloc(1, sizeof *c);
    if (!c) return SP_FAIL(err, SP_ENOMEM, "codec: no memory");
    c->device = device;
    c->n_layers = plan->n_layers;
    c->groups = plan->groups;
    c->eps = plan->eps;
    c->positions = plan->rows * plan->columns;
    c->code_dim = plan->code_dim;
    c->latents = plan->codes == NULL;
    c->latent_scale = plan->latent_scale;
    c->pixels = output_pixels(&plan->layers[plan->n_layers - 1]);
    c->token_bytes = c->positions * (c->latents ? c->code_dim * sizeof(float) : sizeof(int32_t));
    sp_status status = build(c, plan, err);
    if (status != SP_OK) {
        close_codec(c);
        return status;
    }
    *out = c;
    return SP_OK;
}

static sp_status decode(sp_device_codec *c, const void *tokens, uint8_t *rgb, sp_device_colour *wrong, sp_error *err)
{
    unsigned long long index;
    SP_CUDA(cudaSetDevice(c->device), err);
    SP_CUDA(cudaMemcpyAsync(c->tokens, tokens, c->token_bytes, cudaMemcpyHostToDevice, c->stream), err);
    SP_CUDA(cudaGraphLaunch(c->graph, c->stream), err);
    SP_CUDA(cudaMemcpyAsync(rgb, c->rgb, 3 * c->pixels, cudaMemcpyDeviceToHost, c->stream), err);
    SP_CUDA(cudaMemcpyAsync(&index, c->wrong, sizeof index, cudaMemcpyDeviceToHost, c->stream), err);
    SP_CUDA(cudaStreamSynchronize(c->stream), err);
    *wrong = sp_device_colour{index == ~0ull ? -1 : (int64_t)index, 0.0f};
    if (wrong->index < 0) return SP_OK;
    const float *last = c->buffer[c->layers[c->n_layers - 1].plan.to] + index / 3 * 4 + index % 3;
    SP_CUDA(cudaMemcpy(&wrong->value, last, sizeof *last, cudaMemcpyDeviceToHost), err);
    return SP_OK;
}

static size_t bytes_of(const sp_device_codec *c) { return c->weight_bytes + c->work_bytes; }

cudaGraphExec_t sp_cuda_codec_graph(const sp_device_codec *c) { return c->graph; }

extern "C" const sp_device_codec_ops sp_cuda_codec;
const sp_device_codec_ops sp_cuda_codec = {open_codec, decode, bytes_of, close_codec};
