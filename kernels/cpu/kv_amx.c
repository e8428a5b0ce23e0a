/* kv_write and kv_move for caches of bf16 tiles. */
#include "kernels/cpu/kv_tiles.h"
#include "kernels/cpu/tiles.h"

#include <string.h>

extern sp_op_kv_write SP_CPU(kv_write);
extern sp_op_kv_write sp_avx512_kv_write;
extern sp_op_kv_move SP_CPU(kv_move);
extern sp_op_kv_move sp_ref_kv_move;

typedef struct job {
    const sp_attention_rows *rows;
    const float *k, *v;
    size_t stride;
    const sp_kv_view *kv;
} job;

static void write_key(const float *key, size_t width, uint16_t *to)
{
    for (size_t d = 0; d < width; d += 16, to += 8 * SP_TILE_PAIRS) {
        uint32_t pairs[8];
        _mm256_storeu_si256((__m256i *)pairs, (__m256i)_mm512_cvtneps_pbh(sp_vec_load(key + d)));
        for (size_t i = 0; i < 8; i++) memcpy(to + i * SP_TILE_PAIRS, &pairs[i], sizeof pairs[i]);
    }
}

/* Positions 2 i and 2 i + 1 share a line: every second number of it is written. */
static void write_value(const float *value, size_t width, bool odd, uint16_t *line)
{
    for (size_t d = 0; d < width; d += 16, line += SP_TILE_NUMBERS) {
        __m512i wide = _mm512_cvtepu16_epi32((__m256i)_mm512_cvtneps_pbh(sp_vec_load(value + d)));
        if (odd) _mm512_mask_storeu_epi16(line, 0xAAAAAAAAu, _mm512_slli_epi32(wide, 16));
        else _mm512_mask_storeu_epi16(line, 0x55555555u, wide);
    }
}

static void work(void *arguments, int thread, int n_threads)
{
    const job *j = arguments;
    const sp_attention_rows *rows = j->rows;
    size_t width = rows->head_dim, first, last;
    sp_pool_share(rows->kv_heads, 1, thread, n_threads, &first, &last);
    for (size_t head = first; head < last; head++) {
        for (size_t row = 0; row < rows->n_rows; row++) {
            const sp_kv_view *view = &j->kv[rows->stream[row]];
            size_t p = sp_attention_slot(rows, row), offset = head * view->capacity * width;
            uint16_t *keys = (uint16_t *)view->keys + offset, *values = (uint16_t *)view->values + offset;
            write_key(j->k + row * j->stride + head * width, width, keys + sp_key_at(p, width));
            write_value(j->v + row * j->stride + head * width, width, p % 2,
                        values + sp_value_at(p & ~(size_t)1, width));
        }
    }
}

void SP_CPU(kv_write)(sp_pool *pool, const sp_attention_rows *rows, const float *k, const float *v, size_t stride,
                      const sp_kv_view *kv)
{
    if (!sp_kv_in_tiles(&kv[rows->stream[0]], rows->head_dim)) {
        sp_avx512_kv_write(pool, rows, k, v, stride, kv);
        return;
    }
    job j = {rows, k, v, stride, kv};
    /* A few rows are written sooner than a thread wakes. */
    if (rows->n_rows < 8) work(&j, 0, 1);
    else sp_pool_run(pool, work, &j);
}

void SP_CPU(kv_move)(const sp_kv_view *kv, size_t kv_heads, size_t head_dim, const int32_t *from, size_t first,
                     size_t n)
{
    if (!sp_kv_in_tiles(kv, head_dim)) {
        sp_ref_kv_move(kv, kv_heads, head_dim, from, first, n);
        return;
    }
    for (size_t head = 0; head < kv_heads; head++) {
        uint16_t *keys = (uint16_t *)kv->keys + head * kv->capacity * head_dim;
        uint16_t *values = (uint16_t *)kv->values + head * kv->capacity * head_dim;
        for (size_t i = 0; i < n; i++) {
            sp_key_copy(keys, (size_t)from[i], keys, first + i, head_dim);
            sp_value_copy(values, (size_t)from[i], values, first + i, head_dim);
        }
    }
}
