/* y = x W^T with rows rounded to bf16 and sums in float, on AMX tiles. Row-invariant: an output is accumulated tile by
 * tile over the inputs in one order, whatever the row's place in its tile, and rows of a tile do not mix.
 *
 * Up to 16 rows: one tile of as many rows against four of weights, so the weights' bandwidth bounds it. More rows: two
 * by two.
 * TDPBF16PS makes 8192 products in 16 cycles, so 64 rows cost little more than one. */
#include "kernels/cpu/tiles.h"

#include "base/size.h"

extern sp_op_gemm SP_CPU(gemm);
extern sp_op_gemm_scratch SP_CPU(gemm_scratch);
extern sp_op_gemm sp_avx512_gemm;
extern sp_op_gemm_scratch sp_avx512_gemm_scratch;

typedef struct job {
    const sp_weight *w;
    const uint16_t *x; /* [n_rows, above 16 to 16, k to 32] */
    size_t padded, n_rows;
    float *y;
    size_t y_stride;
    sp_gemm_mode mode;
} job;

/* Above 16 x 16 rows nothing is gained; larger calls go in slices. */
enum { SLICE = 256 };

size_t SP_CPU(gemm_scratch)(size_t n_rows, size_t k)
{
    size_t rows = n_rows < SLICE ? sp_round_up(n_rows, 16) : SLICE;
    size_t own = rows * sp_round_up(k, 32) * sizeof(uint16_t), other = sp_avx512_gemm_scratch(n_rows, k);
    return own > other ? own : other;
}

static void finish(const job *j, const float sums[256], size_t row, size_t column)
{
    size_t rows = j->n_rows - row < 16 ? j->n_rows - row : 16;
    size_t live = j->w->n - column < 16 ? j->w->n - column : 16;
    if (j->mode == SP_GEMM_ADD && live == 16) {
        for (size_t r = 0; r < rows; r++) {
            float *y = j->y + (row + r) * j->y_stride + column;
            sp_vec_store(y, sp_vec_add(sp_vec_load(y), sp_vec_load(sums + 16 * r)));
        }
        return;
    }
    for (size_t r = 0; r < rows; r++) {
        float *y = j->y + (row + r) * j->y_stride + column;
        sp_vec sum = sp_vec_load(sums + 16 * r);
        if (j->mode == SP_GEMM_ADD) sum = sp_vec_add(sp_vec_load_n(y, live), sum);
        sp_vec_store_n(y, sum, live);
    }
}

/* Sums start at the bias, the same in every row: a stride of 0. */
#define START(tile, block)                                                     \
    do {                                                                       \
        if (j->w->bias) _tile_loadd(tile, j->w->bias + (block) * 16, 0);       \
        else _tile_zero(tile);                                                 \
    } while (0)

/* A whole tile of y is stored at once, others by way of sums; up to 16 rows are what a tile has. A tile's number must
 * be a constant. */
#define FINISH(tile, row, column)                                                        \
    do {                                                                                 \
        bool whole = (row) + 16 <= j->n_rows || j->n_rows <= 16;                         \
        if (j->mode == SP_GEMM_SET && whole && (column) + 16 <= j->w->n) {               \
            _tile_stored(tile, j->y + (row) * j->y_stride + (column), j->y_stride * 4);  \
        } else {                                                                         \
            _tile_stored(tile, sums, 64);                                                \
            finish(j, sums, row, column);                                                \
        }                                                                                \
    } while (0)

/* 16 rows by up to 64 outputs. */
static void one_by_four(const job *j, size_t row, size_t block, size_t blocks)
{
    _Alignas(64) float sums[256];
    size_t steps = j->padded / 32, stride = j->padded * 2;
    const uint16_t *x = j->x + row * j->padded;
    const unsigned char *w = (const unsigned char *)j->w->data + block * steps * SP_TILE_BYTES;
    size_t block_bytes = steps * SP_TILE_BYTES;
    size_t second = blocks > 1 ? block_bytes : 0, third = blocks > 2 ? 2 * block_bytes : 0;
    size_t fourth = blocks > 3 ? 3 * block_bytes : 0;
    START(0, block);
    if (second) START(1, block + 1);
    if (third) START(2, block + 2);
    if (fourth) START(3, block + 3);
    for (size_t step = 0; step < steps; step++, w += SP_TILE_BYTES) {
        _tile_loadd(4, x + step * 32, stride);
        _tile_loadd(5, w, 64);
        _tile_dpbf16ps(0, 4, 5);
        if (second) {
            _tile_loadd(6, w + second, 64);
            _tile_dpbf16ps(1, 4, 6);
        }
        if (third) {
            _tile_loadd(7, w + third, 64);
            _tile_dpbf16ps(2, 4, 7);
        }
        if (fourth) {
            _tile_loadd(5, w + fourth, 64);
            _tile_dpbf16ps(3, 4, 5);
        }
    }
    FINISH(0, row, block * 16);
    if (second) FINISH(1, row, (block + 1) * 16);
    if (third) FINISH(2, row, (block + 2) * 16);
    if (fourth) FINISH(3, row, (block + 3) * 16);
}

/* 32 rows by up to 32 outputs. */
static void two_by_two(const job *j, size_t row, size_t block, size_t blocks)
{
    _Alignas(64) float sums[256];
    size_t steps = j->padded / 32, stride = j->padded * 2;
    const uint16_t *x = j->x + row * j->padded;
    const unsigned char *w = (const unsigned char *)j->w->data + block * steps * SP_TILE_BYTES;
    size_t second = blocks > 1 ? steps * SP_TILE_BYTES : 0;
    START(0, block);
    START(1, block);
    if (second) {
        START(2, block + 1);
        START(3, block + 1);
    }
    for (size_t step = 0; step < steps; step++, w += SP_TILE_BYTES) {
        _tile_loadd(4, x + step * 32, stride);
        _tile_loadd(5, x + 16 * j->padded + step * 32, stride);
        _tile_loadd(6, w, 64);
        _tile_dpbf16ps(0, 4, 6);
        _tile_dpbf16ps(1, 5, 6);
        if (second) {
            _tile_loadd(7, w + second, 64);
            _tile_dpbf16ps(2, 4, 7);
            _tile_dpbf16ps(3, 5, 7);
        }
    }
    FINISH(0, row, block * 16);
    FINISH(1, row + 16, block * 16);
    if (second) {
        FINISH(2, row, (block + 1) * 16);
        FINISH(3, row + 16, (block + 1) * 16);
    }
}

static void work(void *arguments, int thread, int n_threads)
{
    const job *j = arguments;
    size_t first, last, wide = j->n_rows > 16 ? 2 : 4;
    sp_pool_share((j->w->n + 15) / 16, wide, thread, n_threads, &first, &last);
    sp_tiles_begin_rows(j->n_rows < 16 ? j->n_rows : 16);
    for (size_t block = first; block < last; block += wide) {
        size_t blocks = last - block < wide ? last - block : wide, row = 0;
        if (wide == 2)
            for (; row + 16 < j->n_rows; row += 32) two_by_two(j, row, block, blocks);
        if (row < j->n_rows) one_by_four(j, row, block, blocks);
    }
    sp_tiles_end();
}

void SP_CPU(gemm)(sp_pool *pool, const sp_weight *w, const float *x, size_t x_stride, size_t n_rows, float *y,
                  size_t y_stride, sp_gemm_mode mode, void *scratch)
{
    if (!w->round_rows || w->dtype != SP_BF16) {
        sp_avx512_gemm(pool, w, x, x_stride, n_rows, y, y_stride, mode, scratch);
        return;
    }
    size_t padded = sp_round_up(w->k, 32);
    uint16_t *rounded = scratch;
    for (size_t start = 0; start < n_rows; start += SLICE) {
        size_t rows = n_rows - start < SLICE ? n_rows - start : SLICE;
        for (size_t row = 0; row < rows; row++)
            sp_round_row(x + (start + row) * x_stride, w->k, padded, rounded + row * padded);
        for (size_t row = rows; rows > 16 && row < sp_round_up(rows, 16); row++)
            sp_round_row(x, 0, padded, rounded + row * padded);
        job j = {w, rounded, padded, rows, y + start * y_stride, y_stride, mode};
        sp_pool_run(pool, work, &j);
    }
}
