/* y = conv3x3(x, W) + bias with rows and weights in bf16 and sums in float, on AMX tiles: for each tap a matrix
 * product of 16 neighbouring pixels by 32 channels, read in place from the band's copy (band.h) with the pixel's size
 * as stride, so no patch is ever gathered.
 *
 * Work: 18 h w n k flops, 16 384 a TDPBF16PS of 16 cycles. Two tiles of pixels by two of outputs make four products
 * for four loads. Threads share pairs of (band, 32 outputs). */
#include "kernels/cpu/band.h"

#include "base/arena.h"
#include "kernels/cpu/tiles.h"

extern sp_op_pack_conv3x3 SP_CPU(pack_conv3x3);
extern sp_op_conv3x3 SP_CPU(conv3x3);
extern sp_op_conv3x3_scratch SP_CPU(conv3x3_scratch);
extern sp_op_pack_conv3x3 sp_avx512_pack_conv3x3;
extern sp_op_conv3x3 sp_avx512_conv3x3;
extern sp_op_conv3x3_scratch sp_avx512_conv3x3_scratch;

typedef struct job {
    sp_band_plan plan;
    const sp_weight *w;
    const float *bias, *x, *residual;
    float *y;
    unsigned char *scratch; /* [threads, plan.bytes] */
} job;

static size_t steps_of(size_t k) { return (k + 31) / 32; }

/* Full precision is for the avx512 kernel. */
static bool tiled(const sp_weight *w) { return w->round_rows && w->dtype == SP_BF16; }

/* Layout: for each block of 16 outputs, each tap and each 32 inputs one tile of 1 KiB: 16 rows of input pairs, each row
 * 16 outputs by 2 inputs, as TDPBF16PS reads it. Padding is zero. */
bool SP_CPU(pack_conv3x3)(sp_weight *out, const void *weights, sp_dtype dtype, size_t n, size_t k, bool round_rows)
{
    if (!round_rows || dtype != SP_BF16) return sp_avx512_pack_conv3x3(out, weights, dtype, n, k, round_rows);
    size_t blocks = (n + 15) / 16, steps = steps_of(k), total;
    *out = (sp_weight){.n = n, .k = k, .dtype = SP_BF16, .round_rows = true};
    if (!sp_size_mul(blocks, 9 * SP_TILE_BYTES, &total) || !sp_size_mul(total, steps, &total)) return false;
    uint16_t *data = sp_alloc(total, 1);
    if (!data) return false;
    const unsigned char *source = weights;
    for (size_t output = 0; output < n; output++) {
        for (size_t channel = 0; channel < k; channel++) {
            size_t tile = output / 16 * 9 * steps + channel / 32;
            uint16_t *to = data + tile * 512 + channel % 32 / 2 * 32 + output % 16 * 2 + channel % 2;
            for (size_t tap = 0; tap < 9; tap++, source += 2) memcpy(to + tap * steps * 512, source, 2);
        }
    }
    out->data = data;
    out->bytes = total;
    return true;
}

static void copy_pixel(const float *from, size_t n, size_t pixel_bytes, void *to)
{
    if (from) sp_round_row(from, n, pixel_bytes / 2, to);
    else memset(to, 0, pixel_bytes);
}

/* Up to 16 neighbouring pixels of a row. */
typedef struct run {
    const unsigned char *input; /* padded pixel under the first tap */
    size_t pixel, n_pixels;     /* index of the first output pixel */
} run;

static run find_run(const sp_band_plan *p, const unsigned char *band, size_t first, size_t index)
{
    size_t runs = (p->out.width + 15) / 16, row = index / runs, column = index % runs * 16;
    run r = {.pixel = (first + row) * p->out.width + column};
    r.input = band + (row * p->width + column) * p->stride * p->pixel_bytes;
    r.n_pixels = p->out.width - column < 16 ? p->out.width - column : 16;
    return r;
}

static void finish(const job *j, const float sums[256], const run *r, size_t output)
{
    size_t n = j->w->n, live = n - output < 16 ? n - output : 16;
    sp_vec bias = sp_vec_load_n(j->bias + output, live);
    for (size_t p = 0; p < r->n_pixels; p++) {
        size_t at = (r->pixel + p) * n + output;
        sp_vec sum = sp_vec_add(sp_vec_load(sums + 16 * p), bias);
        if (j->residual) sum = sp_vec_add(sum, sp_vec_load_n(j->residual + at, live));
        sp_vec_store_n(j->y + at, sum, live);
    }
}

/* Runs a and b by the 16 outputs of a block and, if second is not 0, those `second` bytes of weights further. */
static void multiply(const job *j, const run *a, const run *b, const unsigned char *w, size_t second)
{
    const sp_band_plan *p = &j->plan;
    size_t stride = p->stride * p->pixel_bytes;
    _tile_zero(0);
    _tile_zero(1);
    _tile_zero(2);
    _tile_zero(3);
    for (size_t ky = 0; ky < 3; ky++) {
        /* The three taps of a row are one run of 3 k values. */
        const unsigned char *from_a = a->input + ky * p->width * p->pixel_bytes;
        const unsigned char *from_b = b->input + ky * p->width * p->pixel_bytes;
        for (size_t i = 0; i < 3 * p->pixel_bytes; i += 64, w += SP_TILE_BYTES) {
            _tile_loadd(4, from_a + i, stride);
            _tile_loadd(5, from_b + i, stride);
            _tile_loadd(6, w, 64);
            _tile_dpbf16ps(0, 4, 6);
            _tile_dpbf16ps(1, 5, 6);
            if (second) {
                _tile_loadd(7, w + second, 64);
                _tile_dpbf16ps(2, 4, 7);
                _tile_dpbf16ps(3, 5, 7);
            }
        }
    }
}

static void run_outputs(const job *j, const unsigned char *band, size_t first, size_t last, size_t output)
{
    _Alignas(64) float sums[256];
    const sp_band_plan *p = &j->plan;
    size_t block_bytes = 9 * steps_of(j->w->k) * SP_TILE_BYTES, n_runs = (last - first) * ((p->out.width + 15) / 16);
    const unsigned char *w = (const unsigned char *)j->w->data + output / 16 * block_bytes;
    bool wide = output + 16 < j->w->n;
    for (size_t i = 0; i < n_runs; i += 2) {
        bool pair = i + 1 < n_runs;
        run a = find_run(p, band, first, i), b = pair ? find_run(p, band, first, i + 1) : a;
        multiply(j, &a, &b, w, wide ? block_bytes : 0);
        _tile_stored(0, sums, 64);
        finish(j, sums, &a, output);
        _tile_stored(1, sums, 64);
        if (pair) finish(j, sums, &b, output);
        if (!wide) continue;
        _tile_stored(2, sums, 64);
        finish(j, sums, &a, output + 16);
        _tile_stored(3, sums, 64);
        if (pair) finish(j, sums, &b, output + 16);
    }
}

static void work(void *arguments, int thread, int n_threads)
{
    const job *j = arguments;
    const sp_band_plan *p = &j->plan;
    size_t panels = (p->out.channels + 31) / 32, begin, end, copied = SIZE_MAX;
    unsigned char *copy = j->scratch + (size_t)thread * p->bytes;
    sp_pool_share(p->n_bands * panels, 1, thread, n_threads, &begin, &end);
    sp_tiles_begin();
    for (size_t unit = begin; unit < end; unit++) {
        size_t band = unit / panels;
        size_t first = p->out.height * band / p->n_bands, last = p->out.height * (band + 1) / p->n_bands;
        if (band != copied) {
            sp_band_copy(p, j->x, first, last - first, copy, copy_pixel);
            __asm__ volatile("" ::: "memory"); /* compilers do not see that tiles are loaded from it */
            copied = band;
        }
        run_outputs(j, copy, first, last, unit % panels * 32);
    }
    sp_tiles_end();
}

size_t SP_CPU(conv3x3_scratch)(const sp_weight *w, sp_plane plane, sp_conv_mode mode, int n_threads)
{
    if (!tiled(w)) return sp_avx512_conv3x3_scratch(w, plane, mode, n_threads);
    return (size_t)n_threads * sp_band_cut(plane, mode, w->n, steps_of(w->k) * 64, n_threads).bytes;
}

void SP_CPU(conv3x3)(sp_pool *pool, const sp_weight *w, const float *bias, const float *x, sp_plane plane,
                     sp_conv_mode mode, const float *residual, float *y, void *scratch)
{
    if (!tiled(w)) {
        sp_avx512_conv3x3(pool, w, bias, x, plane, mode, residual, y, scratch);
        return;
    }
    sp_band_plan plan = sp_band_cut(plane, mode, w->n, steps_of(w->k) * 64, sp_pool_threads(pool));
    job j = {plan, w, bias, x, residual, y, scratch};
    sp_pool_run(pool, work, &j);
}
