/* Keys go in transposed, 16 rows by 16 channels at a time through a tile: each line of the rows is read once, and the
 * writes of a channel fall into one or two lines, because a window's positions are neighbours. Tried and lost: row by
 * row, and channel by channel without the tile (rows a multiple of 1 KiB apart share too few cache sets); both took
 * 7 % of a pass over 32 positions. */
#include "kernels/cpu/simd.h"

#include <string.h>

#include "base/dtype.h"

extern sp_op_kv_write SP_CPU(kv_write);

typedef struct job {
    const sp_attention_rows *rows;
    const float *k, *v;
    size_t stride;
    const sp_kv_view *kv;
} job;

enum { TILE = 16 };

static inline float stored(const sp_kv_view *view, float x)
{
    return view->round ? sp_bf16_to_f32(sp_f32_to_bf16(x)) : x;
}

/* Rows row .. row + n_rows - 1 are of one stream at neighbouring slots. */
static void write_tile(const job *j, size_t row, size_t n_rows, size_t channel, size_t end)
{
    const sp_kv_view *view = &j->kv[j->rows->stream[row]];
    size_t n_channels = end - channel < TILE ? end - channel : TILE;
    float tile[TILE][TILE];
    for (size_t r = 0; r < n_rows; r++) {
        const float *key = j->k + (row + r) * j->stride + channel;
        for (size_t c = 0; c < n_channels; c++) tile[c][r] = stored(view, key[c]);
    }
    float *to = view->keys + channel * view->capacity + sp_attention_slot(j->rows, row);
    for (size_t c = 0; c < n_channels; c++, to += view->capacity) {
        if (n_rows == TILE) memcpy(to, tile[c], TILE * sizeof(float));
        else memcpy(to, tile[c], n_rows * sizeof(float));
    }
}

static size_t run_length(const sp_attention_rows *rows, size_t row)
{
    size_t n = 1;
    while (n < TILE && row + n < rows->n_rows && rows->stream[row + n] == rows->stream[row] &&
           sp_attention_slot(rows, row + n) == sp_attention_slot(rows, row) + n)
        n++;
    return n;
}

static void work(void *arguments, int thread, int n_threads)
{
    const job *j = arguments;
    const sp_attention_rows *rows = j->rows;
    size_t width = rows->head_dim, first, last;
    sp_pool_share(rows->kv_heads, 1, thread, n_threads, &first, &last);
    for (size_t row = 0, n; row < rows->n_rows; row += n) {
        n = run_length(rows, row);
        for (size_t channel = first * width; channel < last * width; channel += TILE)
            write_tile(j, row, n, channel, last * width);
    }
    for (size_t row = 0; row < rows->n_rows; row++) {
        const sp_kv_view *view = &j->kv[rows->stream[row]];
        const float *v = j->v + row * j->stride;
        for (size_t head = first; head < last; head++) {
            float *to = view->values + (head * view->capacity + sp_attention_slot(rows, row)) * width;
            for (size_t d = 0; d < width; d++) to[d] = stored(view, v[head * width + d]);
        }
    }
}

void SP_CPU(kv_write)(sp_pool *pool, const sp_attention_rows *rows, const float *k, const float *v, size_t stride,
                      const sp_kv_view *kv)
{
    job j = {rows, k, v, stride, kv};
    /* One or two rows are written sooner than a thread wakes. */
    if (rows->n_rows < 8) work(&j, 0, 1);
    else sp_pool_run(pool, work, &j);
}
