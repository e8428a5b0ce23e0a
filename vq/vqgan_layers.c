#include "vq/vqgan_layers.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/size.h"

/* Rows of a matrix product done at a time by a thread: enough to reuse the weights, few enough for its cache. */
enum { SLICE = 256 };

typedef struct planner {
    const sp_codec_config *config;
    const char *side;
    sp_vq_layer *layers;
    size_t n;
    sp_plane plane; /* what the next layer gets */
} planner;

static void add(planner *p, sp_vq_kind kind, sp_conv_mode mode, size_t channels, const char *name)
{
    sp_plane out = sp_conv_output(p->plane, mode, channels);
    if (p->layers) {
        sp_vq_layer *layer = &p->layers[p->n];
        *layer = (sp_vq_layer){.kind = kind, .mode = mode, .in = p->plane, .out = out};
        snprintf(layer->name, sizeof layer->name, "%s%s%s", p->side, *name ? "." : "", name);
    }
    p->plane = out;
    p->n++;
}

static bool by_level(const planner *p) { return p->config->names == SP_VQ_NAMES_LEVELS; }

static void add_middle(planner *p)
{
    size_t width = p->plane.channels;
    add(p, SP_VQ_RES, SP_CONV_SAME, width, by_level(p) ? "mid.block_1" : "mid.0");
    add(p, SP_VQ_ATTENTION, SP_CONV_SAME, width, by_level(p) ? "mid.attn_1" : "mid.1");
    add(p, SP_VQ_RES, SP_CONV_SAME, width, by_level(p) ? "mid.block_2" : "mid.2");
}

/* The folder of a level in the names: numbered as it runs, or by how coarse it is. */
static void name_level(const planner *p, size_t index, size_t level, bool decoder, char *name, size_t size)
{
    if (by_level(p)) snprintf(name, size, "%s.%zu", decoder ? "up" : "down", level);
    else snprintf(name, size, "conv_blocks.%zu", index);
}

static void add_level(planner *p, const char *prefix, size_t width, size_t blocks, bool attention)
{
    char name[64];
    for (size_t block = 0; block < blocks; block++) {
        snprintf(name, sizeof name, "%s.%s.%zu", prefix, by_level(p) ? "block" : "res", block);
        add(p, SP_VQ_RES, SP_CONV_SAME, width, name);
        snprintf(name, sizeof name, "%s.attn.%zu", prefix, block);
        if (attention) add(p, SP_VQ_ATTENTION, SP_CONV_SAME, width, name);
    }
}

size_t sp_vq_plan(const sp_codec_config *c, sp_vq_side side, sp_vq_layer *layers)
{
    size_t last = c->n_levels - 1, factor = (size_t)1 << last, deepest = c->channels * c->channel_mult[last];
    bool decoder = side == SP_VQ_DECODER;
    bool attends = c->attention == SP_VQ_ATTENTION_LOWEST || (c->attention == SP_VQ_ATTENTION_ENCODER && !decoder);
    planner p = {.config = c, .side = decoder ? "decoder" : "encoder", .layers = layers};
    char prefix[32], name[64];
    if (decoder) {
        p.plane = (sp_plane){c->rows, c->columns, c->z_channels};
        add(&p, SP_VQ_CONV, SP_CONV_SAME, deepest, "conv_in");
        add_middle(&p);
    } else {
        p.plane = (sp_plane){c->rows * factor, c->columns * factor, 3};
        add(&p, SP_VQ_CONV, SP_CONV_SAME, c->channels, "conv_in");
    }
    for (size_t i = 0; i <= last; i++) {
        size_t level = decoder ? last - i : i, width = c->channels * c->channel_mult[level];
        name_level(&p, i, level, decoder, prefix, sizeof prefix);
        add_level(&p, prefix, width, c->blocks_per_level + (decoder ? 1 : 0), attends && level == last);
        if (i == last) break;
        snprintf(name, sizeof name, "%s.%s.conv", prefix, decoder ? "upsample" : "downsample");
        add(&p, SP_VQ_CONV, decoder ? SP_CONV_UPSAMPLE : SP_CONV_STRIDE2, width, name);
    }
    if (!decoder) add_middle(&p);
    add(&p, SP_VQ_OUT, SP_CONV_SAME, decoder ? 3 : c->z_channels, "");
    return p.n;
}

static void take_norm(sp_vq_norm *norm, size_t channels, sp_arena *arena)
{
    norm->gain = sp_arena_take(arena, channels, sizeof(float));
    norm->bias = sp_arena_take(arena, channels, sizeof(float));
}

static bool has_shortcut(const sp_vq_layer *layer) { return layer->in.channels != layer->out.channels; }

void sp_vq_layer_take(sp_vq_layer *layer, sp_arena *arena)
{
    size_t maps = layer->kind == SP_VQ_ATTENTION ? 4 : layer->kind == SP_VQ_RES ? 2 + has_shortcut(layer) : 1;
    if (layer->kind != SP_VQ_CONV) take_norm(&layer->norm[0], layer->in.channels, arena);
    if (layer->kind == SP_VQ_RES) take_norm(&layer->norm[1], layer->out.channels, arena);
    for (size_t i = 0; i < maps; i++) layer->map[i].bias = sp_arena_take(arena, layer->out.channels, sizeof(float));
}

/* <prefix>.<part>.<suffix>, where part may be empty. */
typedef struct tensor_name {
    char text[128];
} tensor_name;

static tensor_name name_of(const char *prefix, const char *part, const char *suffix)
{
    tensor_name name;
    snprintf(name.text, sizeof name.text, "%s%s%s.%s", prefix, *part ? "." : "", part, suffix);
    return name;
}

static sp_status load_vector(const sp_vq_loader *l, tensor_name name, size_t count, float *out, sp_error *err)
{
    const sp_tensor *tensor;
    SP_TRY(sp_tensors_get(l->tensors, name.text, SP_SHAPE1(count), &tensor, err));
    return sp_tensor_floats(tensor, out, err);
}

static sp_status load_norm(const sp_vq_loader *l, const sp_vq_layer *layer, const char *part, size_t channels,
                           const sp_vq_norm *norm, sp_error *err)
{
    SP_TRY(load_vector(l, name_of(layer->name, part, "weight"), channels, norm->gain, err));
    return load_vector(l, name_of(layer->name, part, "bias"), channels, norm->bias, err);
}

/* size 1 or 3 by as many. */
static sp_status load_map(sp_vq_loader *l, const char *prefix, const char *part, size_t n, size_t k, size_t size,
                          sp_vq_map *map, sp_error *err)
{
    const sp_tensor *t;
    SP_TRY(sp_tensors_get(l->tensors, name_of(prefix, part, "weight").text, SP_SHAPE4(n, k, size, size), &t, err));
    SP_TRY(sp_tensor_finite(t, err));
    SP_TRY(load_vector(l, name_of(prefix, part, "bias"), n, map->bias, err));
    sp_op_pack *pack = size == 3 ? l->ops->pack_conv3x3 : l->ops->pack;
    if (!pack(&map->weight, t->data, t->dtype, n, k, l->bf16 && t->dtype == SP_BF16))
        return SP_FAIL(err, SP_ENOMEM, "%s: no memory for its %zu weights; close other programs", t->name, t->count);
    l->bytes += map->weight.bytes;
    return SP_OK;
}

sp_status sp_vq_matrix_load(sp_vq_loader *l, const char *prefix, size_t n, size_t k, sp_vq_map *map, sp_error *err)
{
    return load_map(l, prefix, "", n, k, 1, map, err);
}

sp_status sp_vq_layer_load(sp_vq_loader *l, sp_vq_layer *layer, sp_error *err)
{
    size_t k = layer->in.channels, n = layer->out.channels;
    const char *name = layer->name;
    sp_tensors_drop(l->tensors); /* of the layers before: at its peak loading holds one layer twice, not all */
    switch (layer->kind) {
    case SP_VQ_CONV:
        return load_map(l, name, "", n, k, 3, &layer->map[0], err);
    case SP_VQ_RES:
        SP_TRY(load_norm(l, layer, "norm1", k, &layer->norm[0], err));
        SP_TRY(load_map(l, name, "conv1", n, k, 3, &layer->map[0], err));
        SP_TRY(load_norm(l, layer, "norm2", n, &layer->norm[1], err));
        SP_TRY(load_map(l, name, "conv2", n, n, 3, &layer->map[1], err));
        if (!has_shortcut(layer)) return SP_OK;
        return load_map(l, name, "nin_shortcut", n, k, 1, &layer->map[2], err);
    case SP_VQ_ATTENTION:
        SP_TRY(load_norm(l, layer, "norm", k, &layer->norm[0], err));
        SP_TRY(load_map(l, name, "q", n, k, 1, &layer->map[0], err));
        SP_TRY(load_map(l, name, "k", n, k, 1, &layer->map[1], err));
        SP_TRY(load_map(l, name, "v", n, k, 1, &layer->map[2], err));
        return load_map(l, name, "proj_out", n, k, 1, &layer->map[3], err);
    case SP_VQ_OUT:
        SP_TRY(load_norm(l, layer, "norm_out", k, &layer->norm[0], err));
        return load_map(l, name, "conv_out", n, k, 3, &layer->map[0], err);
    }
    return SP_FAIL(err, SP_EBUG, "%s: no such layer", name);
}

void sp_vq_layer_free(sp_vq_layer *layer)
{
    for (size_t i = 0; i < 4; i++) sp_release(layer->map[i].weight.data);
}

sp_status sp_vq_layer_floats(const sp_vq_layer *layer, size_t *floats, sp_error *err)
{
    size_t in = 0, out = 0;
    /* Attention keeps q, k and v in one buffer. */
    size_t copies = layer->kind == SP_VQ_ATTENTION ? 3 : 1;
    SP_TRY(sp_size_product(&in, err, layer->name, layer->in.height, layer->in.width, layer->in.channels, copies));
    SP_TRY(sp_size_product(&out, err, layer->name, layer->out.height, layer->out.width, layer->out.channels, copies));
    *floats = in > out ? in : out;
    return SP_OK;
}

static size_t larger(size_t a, size_t b) { return a > b ? a : b; }

size_t sp_vq_matrix_scratch(const sp_vq_run *run, size_t k)
{
    return (size_t)sp_pool_threads(run->pool) * sp_round_up(run->ops->gemm_scratch(SLICE, k), 64);
}

size_t sp_vq_layer_scratch(const sp_vq_run *run, const sp_vq_layer *layer)
{
    const sp_ops *ops = run->ops;
    int threads = sp_pool_threads(run->pool);
    size_t bytes = sp_vq_matrix_scratch(run, layer->in.channels);
    size_t positions = layer->in.height * layer->in.width;
    if (layer->kind == SP_VQ_ATTENTION)
        bytes = larger(bytes, ops->self_attention_scratch(positions, layer->in.channels, threads));
    else
        bytes = larger(bytes, ops->conv3x3_scratch(&layer->map[0].weight, layer->in, layer->mode, threads));
    if (layer->kind == SP_VQ_RES)
        bytes = larger(bytes, ops->conv3x3_scratch(&layer->map[1].weight, layer->out, SP_CONV_SAME, threads));
    if (layer->kind != SP_VQ_CONV) {
        bytes = larger(bytes, ops->group_norm_scratch(layer->in, run->groups, threads));
        bytes = larger(bytes, ops->group_norm_scratch(layer->out, run->groups, threads));
    }
    return bytes;
}

typedef struct matrix_job {
    const sp_vq_run *run;
    const sp_vq_map *map;
    const float *x;
    size_t n_rows;
    float *y;
    sp_gemm_mode mode;
} matrix_job;

static void matrix_work(void *arguments, int thread, int n_threads)
{
    const matrix_job *j = arguments;
    const sp_weight *w = &j->map->weight;
    const sp_ops *ops = j->run->ops;
    size_t first, last, bytes = sp_round_up(ops->gemm_scratch(SLICE, w->k), 64);
    unsigned char *scratch = (unsigned char *)j->run->scratch + (size_t)thread * bytes;
    sp_pool_share(j->n_rows, 16, thread, n_threads, &first, &last);
    for (size_t row = first; row < last; row += SLICE) {
        size_t rows = last - row < SLICE ? last - row : SLICE;
        for (size_t r = row; r < row + rows; r++) {
            float *y = j->y + r * w->n;
            if (j->mode == SP_GEMM_SET) memcpy(y, j->map->bias, w->n * sizeof *y);
            else for (size_t i = 0; i < w->n; i++) y[i] += j->map->bias[i];
        }
        ops->gemm(NULL, w, j->x + row * w->k, w->k, rows, j->y + row * w->n, w->n, SP_GEMM_ADD, scratch);
    }
}

/* Threads share rows here, not outputs as in gemm: a codec has many rows and few outputs. gemm is row-invariant, so
 * that does not show. */
void sp_vq_matrix_run(const sp_vq_run *run, const sp_vq_map *map, const float *x, size_t n_rows, float *y,
                      sp_gemm_mode mode)
{
    matrix_job j = {run, map, x, n_rows, y, mode};
    sp_pool_run(run->pool, matrix_work, &j);
}

static void swap(sp_vq_run *run, size_t other)
{
    float *kept = run->buffer[0];
    run->buffer[0] = run->buffer[other];
    run->buffer[other] = kept;
}

static void normalise(const sp_vq_run *run, const sp_vq_norm *norm, sp_plane plane, bool swish, const float *x,
                      float *y)
{
    run->ops->group_norm(run->pool, x, plane, run->groups, run->eps, norm->gain, norm->bias, swish, y, run->scratch);
}

static void convolve(const sp_vq_run *run, const sp_vq_map *map, sp_plane plane, sp_conv_mode mode, const float *x,
                     const float *residual, float *y)
{
    run->ops->conv3x3(run->pool, &map->weight, map->bias, x, plane, mode, residual, y, run->scratch);
}

static void run_res(sp_vq_run *run, const sp_vq_layer *layer)
{
    float *x = run->buffer[0], *a = run->buffer[1], *b = run->buffer[2];
    normalise(run, &layer->norm[0], layer->in, true, x, a);
    convolve(run, &layer->map[0], layer->in, SP_CONV_SAME, a, NULL, b);
    normalise(run, &layer->norm[1], layer->out, true, b, b);
    if (has_shortcut(layer)) {
        sp_vq_matrix_run(run, &layer->map[2], x, layer->in.height * layer->in.width, a, SP_GEMM_SET);
        swap(run, 1);
    }
    convolve(run, &layer->map[1], layer->out, SP_CONV_SAME, b, run->buffer[0], run->buffer[0]);
}

static void run_attention(sp_vq_run *run, const sp_vq_layer *layer)
{
    size_t n = layer->in.height * layer->in.width, width = layer->in.channels;
    float *x = run->buffer[0], *a = run->buffer[1], *q = run->buffer[2], *k = q + n * width, *v = k + n * width;
    normalise(run, &layer->norm[0], layer->in, false, x, a);
    sp_vq_matrix_run(run, &layer->map[0], a, n, q, SP_GEMM_SET);
    sp_vq_matrix_run(run, &layer->map[1], a, n, k, SP_GEMM_SET);
    sp_vq_matrix_run(run, &layer->map[2], a, n, v, SP_GEMM_SET);
    float scale = (float)(1.0 / sqrt((double)width));
    run->ops->self_attention(run->pool, q, k, v, n, width, scale, a, run->scratch);
    sp_vq_matrix_run(run, &layer->map[3], a, n, x, SP_GEMM_ADD);
}

void sp_vq_layer_run(sp_vq_run *run, const sp_vq_layer *layer)
{
    switch (layer->kind) {
    case SP_VQ_CONV:
        convolve(run, &layer->map[0], layer->in, layer->mode, run->buffer[0], NULL, run->buffer[1]);
        swap(run, 1);
        break;
    case SP_VQ_RES:
        run_res(run, layer);
        break;
    case SP_VQ_ATTENTION:
        run_attention(run, layer);
        break;
    case SP_VQ_OUT:
        normalise(run, &layer->norm[0], layer->in, true, run->buffer[0], run->buffer[0]);
        convolve(run, &layer->map[0], layer->in, SP_CONV_SAME, run->buffer[0], NULL, run->buffer[1]);
        swap(run, 1);
        break;
    }
}
