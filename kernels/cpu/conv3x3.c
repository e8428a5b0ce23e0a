/* y = conv3x3(x, W) + bias: an implicit matrix product of pixels by 9 k inputs and n outputs, one chain of fused
 * multiply-adds an output over (ky, kx, channel).
 *
 * Work: 18 h w n k flops, bounded by the multiply-add ports. A tile is up to MAX_PIXELS neighbouring pixels by two
 * vectors of outputs in registers; a step loads two vectors of weights and broadcasts one value a pixel. The input
 * comes from a zero-padded copy (band.h), so nothing inside looks at the border. Threads share pairs of (band, panel
 * of outputs): rows of a large picture, outputs of a small one. */
#include "kernels/cpu/band.h"

#include "base/arena.h"
#include "kernels/ref/ref.h"

extern sp_op_pack_conv3x3 SP_CPU(pack_conv3x3);
extern sp_op_conv3x3 SP_CPU(conv3x3);
extern sp_op_conv3x3_scratch SP_CPU(conv3x3_scratch);

enum { PANEL = 2 * SP_LANES, MAX_PIXELS = SP_LANES == 16 ? 14 : 6 };

typedef struct job {
    sp_band_plan plan;
    const sp_weight *w;
    const float *bias, *x, *residual;
    float *y;
    unsigned char *scratch; /* [threads, plan.bytes] */
} job;

/* Layout: panels of PANEL outputs, each floats [3, 3, k, PANEL]; the last is filled with zeros. */
bool SP_CPU(pack_conv3x3)(sp_weight *out, const void *weights, sp_dtype dtype, size_t n, size_t k, bool round_rows)
{
    size_t panels = (n + PANEL - 1) / PANEL, count;
    *out = (sp_weight){.n = n, .k = k, .dtype = SP_F32, .round_rows = round_rows};
    if (!sp_size_mul(panels, 9 * PANEL, &count) || !sp_size_mul(count, k, &count)) return false;
    float *data = sp_alloc(count, sizeof *data);
    if (!data) return false;
    /* Channels outside outputs: the nine lines written stay in the first-level cache. */
    for (size_t first = 0; first < n; first += PANEL) {
        float *panel = data + first * 9 * k;
        size_t live = n - first < PANEL ? n - first : PANEL;
        for (size_t channel = 0; channel < k; channel++)
            for (size_t i = 0; i < live; i++)
                for (size_t tap = 0; tap < 9; tap++)
                    panel[(tap * k + channel) * PANEL + i] =
                        sp_load_float(weights, dtype, ((first + i) * k + channel) * 9 + tap);
    }
    out->data = data;
    out->bytes = count * sizeof *data;
    return true;
}

static void copy_pixel(const float *from, size_t n, size_t pixel_bytes, void *to)
{
    if (from) memcpy(to, from, n * sizeof *from);
    else memset(to, 0, pixel_bytes);
}

static void round_pixel(const float *from, size_t n, size_t pixel_bytes, void *to)
{
    copy_pixel(from, n, pixel_bytes, to);
    float *out = to;
    for (size_t i = 0; i < n; i++) out[i] = sp_bf16_to_f32(sp_f32_to_bf16(out[i]));
}

/* A run of pixels of one row under one panel. */
typedef struct run {
    const float *input; /* padded pixel under the first tap */
    size_t pixel, row;  /* floats from one output pixel, and from one padded row, to the next */
    const float *panel;
    size_t k;
    const float *bias, *residual; /* of the panel's first output; residual may be NULL */
    float *y;
    size_t n, live; /* outputs of a pixel, and those of this panel */
} run;

/* pixels and vectors are constants where this is inlined, so that the accumulators live in registers. */
static inline __attribute__((always_inline)) void tile(const run *t, const size_t pixels, const size_t vectors)
{
    sp_vec sum[MAX_PIXELS][2];
    for (size_t v = 0; v < vectors; v++) {
        size_t live = t->live - v * SP_LANES < SP_LANES ? t->live - v * SP_LANES : SP_LANES;
        sp_vec bias = sp_vec_load_n(t->bias + v * SP_LANES, live);
        for (size_t p = 0; p < pixels; p++) sum[p][v] = bias;
    }
    const float *weights = t->panel;
    for (size_t ky = 0; ky < 3; ky++) {
        /* The three taps of a row are one run of 3 k values. */
        const float *input = t->input + ky * t->row;
        for (size_t i = 0; i < 3 * t->k; i++, weights += PANEL) {
            sp_vec w[2];
            for (size_t v = 0; v < vectors; v++) w[v] = sp_vec_load(weights + v * SP_LANES);
            for (size_t p = 0; p < pixels; p++) {
                sp_vec value = sp_vec_set(input[p * t->pixel + i]);
                for (size_t v = 0; v < vectors; v++) sum[p][v] = sp_vec_fma(value, w[v], sum[p][v]);
            }
        }
    }
    for (size_t p = 0; p < pixels; p++) {
        for (size_t v = 0; v < vectors; v++) {
            size_t at = p * t->n + v * SP_LANES;
            size_t live = t->live - v * SP_LANES < SP_LANES ? t->live - v * SP_LANES : SP_LANES;
            if (t->residual) sum[p][v] = sp_vec_add(sum[p][v], sp_vec_load_n(t->residual + at, live));
            sp_vec_store_n(t->y + at, sum[p][v], live);
        }
    }
}

#define TILE(count)                               \
    static void tile_##count(const run *t)        \
    {                                             \
        if (t->live > SP_LANES) tile(t, count, 2); \
        else tile(t, count, 1);                   \
    }
TILE(1) TILE(2) TILE(3) TILE(4) TILE(5) TILE(6)
#if SP_LANES == 16
TILE(7) TILE(8) TILE(9) TILE(10) TILE(11) TILE(12) TILE(13) TILE(14)
#endif

static void (*const tiles[MAX_PIXELS + 1])(const run *t) = {
    NULL, tile_1, tile_2, tile_3, tile_4, tile_5, tile_6,
#if SP_LANES == 16
    tile_7, tile_8, tile_9, tile_10, tile_11, tile_12, tile_13, tile_14,
#endif
};

/* Output rows first .. last - 1 of one panel, in tiles of nearly one size. */
static void run_panel(const job *j, const float *band, size_t first, size_t last, size_t panel)
{
    const sp_band_plan *p = &j->plan;
    size_t k = p->in.channels, n = p->out.channels, column = panel * PANEL, width = p->out.width;
    size_t n_tiles = (width + MAX_PIXELS - 1) / MAX_PIXELS;
    run t = {.pixel = p->stride * k, .row = p->width * k, .k = k, .n = n, .bias = j->bias + column};
    t.panel = (const float *)j->w->data + column * 9 * k;
    t.live = n - column < PANEL ? n - column : PANEL;
    for (size_t row = first; row < last; row++) {
        for (size_t i = 0; i < n_tiles; i++) {
            size_t begin = width * i / n_tiles, end = width * (i + 1) / n_tiles;
            size_t at = (row * width + begin) * n + column;
            t.input = band + (row - first) * p->stride * t.row + begin * t.pixel;
            t.residual = j->residual ? j->residual + at : NULL;
            t.y = j->y + at;
            tiles[end - begin](&t);
        }
    }
}

static void work(void *arguments, int thread, int n_threads)
{
    const job *j = arguments;
    const sp_band_plan *p = &j->plan;
    size_t panels = (p->out.channels + PANEL - 1) / PANEL, begin, end, copied = SIZE_MAX;
    unsigned char *copy = j->scratch + (size_t)thread * p->bytes;
    sp_pool_share(p->n_bands * panels, 1, thread, n_threads, &begin, &end);
    for (size_t unit = begin; unit < end; unit++) {
        size_t band = unit / panels;
        size_t first = p->out.height * band / p->n_bands, last = p->out.height * (band + 1) / p->n_bands;
        if (band != copied) {
            if (j->w->round_rows) sp_band_copy(p, j->x, first, last - first, copy, round_pixel);
            else sp_band_copy(p, j->x, first, last - first, copy, copy_pixel);
            copied = band;
        }
        run_panel(j, (const float *)(const void *)copy, first, last, unit % panels);
    }
}

size_t SP_CPU(conv3x3_scratch)(const sp_weight *w, sp_plane plane, sp_conv_mode mode, int n_threads)
{
    return (size_t)n_threads * sp_band_cut(plane, mode, w->n, w->k * sizeof(float), n_threads).bytes;
}

void SP_CPU(conv3x3)(sp_pool *pool, const sp_weight *w, const float *bias, const float *x, sp_plane plane,
                     sp_conv_mode mode, const float *residual, float *y, void *scratch)
{
    sp_band_plan plan = sp_band_cut(plane, mode, w->n, w->k * sizeof(float), sp_pool_threads(pool));
    job j = {plan, w, bias, x, residual, y, scratch};
    sp_pool_run(pool, work, &j);
}
