/* softmax(scale q K^T) V on AMX tiles, over caches of bf16 tiles: up to 16 rows of one stream and head a task. Queries
 * and the weights e^(score - max) are rounded to bf16, sums are float; the weights that are summed are the rounded.
 *
 * Row-invariant: rows of a tile do not mix. A score adds its channels 32 at a time, an output its positions in blocks
 * of 32 that start at multiples of 32; positions a row does not see have weight 0, and adding 0 changes no bits. Their
 * values are read, though, so the block where what is seen ends is copied and the rest of it cleared. */
#include "kernels/cpu/kv_tiles.h"
#include "kernels/cpu/tiles.h"

#include <math.h>
#include <string.h>

#include "base/size.h"

extern sp_op_attention SP_CPU(attention);
extern sp_op_attention sp_avx512_attention;
extern sp_op_attention_scratch SP_CPU(attention_scratch);
extern sp_op_attention_scratch sp_avx512_attention_scratch;

enum { GROUP = 16, BLOCK = SP_VALUE_BLOCK };

typedef struct job {
    const sp_attention_rows *rows;
    const float *q;
    size_t q_stride;
    const sp_kv_view *kv;
    float *out;
    unsigned char *scratch; /* [threads, bytes] */
    size_t bytes, capacity; /* capacity: largest of the streams */
} job;

typedef struct task {
    size_t n, width, capacity;
    size_t first, end;          /* blocks of positions that any row sees, multiples of BLOCK */
    size_t first_key, last[GROUP];
    const uint16_t *keys, *values;     /* of the head, positions below tail */
    uint16_t *tail_keys, *tail_values; /* positions from tail on, at their offsets from it */
    size_t tail;
    float scale;
    float *scores;              /* [GROUP, capacity] */
    uint16_t *queries;          /* [GROUP, width] */
    uint16_t *weights;          /* [GROUP, capacity] */
    float inverse[GROUP];
} task;

/* queries, scores, weights, tail */
static size_t thread_bytes(size_t capacity, size_t width)
{
    return GROUP * (width * 2 + capacity * 4 + capacity * 2) + 2 * (capacity + BLOCK) * width * 2;
}

size_t SP_CPU(attention_scratch)(size_t capacity, size_t head_dim, int n_threads)
{
    size_t rounded = sp_round_up(capacity, BLOCK), other = sp_avx512_attention_scratch(capacity, head_dim, n_threads);
    size_t own = (size_t)n_threads * sp_round_up(thread_bytes(rounded, head_dim), 64);
    return own > other ? own : other;
}

static void clear_values(const task *t, size_t from, size_t to)
{
    for (size_t p = from; p < to; p++) {
        uint16_t *value = t->tail_values + sp_value_at(p - t->tail, t->width);
        for (size_t column = 0; column < t->width / 16; column++, value += SP_TILE_NUMBERS)
            for (size_t d = 0; d < 16; d++) value[2 * d] = 0;
    }
}

/* The tail becomes the blocks from first to that of last, without what lies outside first_key .. last, then zeros. */
static void copy_tail(task *t, size_t first, size_t last)
{
    size_t width = t->width, n = sp_round_up(last + 1, BLOCK) - first, pairs = (last % BLOCK + 2) / 2;
    t->tail = first;
    memcpy(t->tail_keys, t->keys + first * width, n * width * sizeof(uint16_t));
    memcpy(t->tail_values, t->values + first * width, n * width * sizeof(uint16_t));
    memset(t->tail_values + n * width, 0, (t->end - first - n) * width * sizeof(uint16_t));
    uint16_t *block = t->tail_values + (n - BLOCK) * width;
    for (size_t column = 0; column < width / 16; column++, block += SP_TILE_NUMBERS)
        memset(block + pairs * SP_TILE_PAIRS, 0, (SP_TILE_NUMBERS - pairs * SP_TILE_PAIRS) * sizeof(uint16_t));
    if (last % 2 == 0) clear_values(t, last + 1, last + 2);
    if (first < t->first_key) clear_values(t, first, t->first_key);
}

/* Puts the branch of a row behind the trunk it grows from. */
static void graft(task *t, const sp_attention_rows *rows, size_t row, const int32_t *before)
{
    size_t position = (size_t)rows->position[row], slot = sp_attention_slot(rows, row);
    for (; slot != position; position--, slot = (size_t)before[slot])
        sp_kv_copy(t->keys, t->values, slot, t->tail_keys, t->tail_values, position - t->tail, t->width);
}

static size_t fork_of(const sp_attention_rows *rows, size_t row, const int32_t *before)
{
    size_t position = (size_t)rows->position[row], slot = sp_attention_slot(rows, row);
    for (; slot != position; position--) slot = (size_t)before[slot];
    return position;
}

static void score(const task *t)
{
    size_t stride = t->width * 2;
    for (size_t p = t->first; p < t->end; p += BLOCK) {
        const uint16_t *key = p < t->tail ? t->keys + p * t->width : t->tail_keys + (p - t->tail) * t->width;
        const uint16_t *next = key + SP_KEY_BLOCK * t->width;
        _tile_zero(0);
        _tile_zero(1);
        for (size_t d = 0; d < t->width; d += 32, key += SP_TILE_NUMBERS, next += SP_TILE_NUMBERS) {
            _tile_loadd(4, t->queries + d, stride);
            _tile_loadd(5, key, 64);
            _tile_dpbf16ps(0, 4, 5);
            _tile_loadd(6, next, 64);
            _tile_dpbf16ps(1, 4, 6);
        }
        _tile_stored(0, t->scores + p, t->capacity * 4);
        _tile_stored(1, t->scores + p + SP_KEY_BLOCK, t->capacity * 4);
    }
}

static __m512 visible_scores(const task *t, const float *scores, size_t p, size_t last)
{
    __m512 v = _mm512_mul_ps(_mm512_loadu_ps(scores + p), _mm512_set1_ps(t->scale));
    if (p >= t->first_key && p + 15 <= last) return v;
    __mmask16 seen = p > last ? 0 : last - p >= 15 ? 0xFFFF : sp_vec_mask(last - p + 1);
    if (p < t->first_key) seen &= t->first_key - p >= 16 ? 0 : (__mmask16)(0xFFFFu << (t->first_key - p));
    return _mm512_mask_blend_ps(seen, _mm512_set1_ps(-INFINITY), v);
}

/* Weights of row r, 0 where it sees nothing. */
static void normalise(task *t, size_t r)
{
    const float *scores = t->scores + r * t->capacity;
    uint16_t *weights = t->weights + r * t->capacity;
    size_t last = t->last[r], p = t->first, own = sp_round_up(last + 1, BLOCK);
    __m512 top = _mm512_set1_ps(-INFINITY), sum = _mm512_setzero_ps();
    for (p = t->first; p < own; p += 16) top = _mm512_max_ps(top, visible_scores(t, scores, p, last));
    __m512 shift = _mm512_set1_ps(_mm512_reduce_max_ps(top));
    for (p = t->first; p < own; p += 16) {
        __m256i weight =
            (__m256i)_mm512_cvtneps_pbh(sp_vec_exp(_mm512_sub_ps(visible_scores(t, scores, p, last), shift)));
        _mm256_storeu_si256((__m256i *)(weights + p), weight);
        sum = _mm512_add_ps(sum, _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(weight), 16)));
    }
    if (p < t->end) memset(weights + p, 0, (t->end - p) * sizeof *weights);
    t->inverse[r] = 1.0f / _mm512_reduce_add_ps(sum);
}

/* out rows out_stride floats apart */
static void weigh(const task *t, float *out, size_t out_stride)
{
    _Alignas(64) float sums[2][256];
    for (size_t d = 0; d < t->width; d += 32) {
        _tile_zero(0);
        _tile_zero(1);
        for (size_t p = t->first; p < t->end; p += BLOCK) {
            const uint16_t *value = p < t->tail ? t->values + p * t->width : t->tail_values + (p - t->tail) * t->width;
            value += d / 16 * SP_TILE_NUMBERS;
            _tile_loadd(4, t->weights + p, t->capacity * 2);
            _tile_loadd(5, value, 64);
            _tile_dpbf16ps(0, 4, 5);
            _tile_loadd(6, value + SP_TILE_NUMBERS, 64);
            _tile_dpbf16ps(1, 4, 6);
        }
        _tile_stored(0, sums[0], 64);
        _tile_stored(1, sums[1], 64);
        for (size_t r = 0; r < t->n; r++) {
            __m512 inverse = _mm512_set1_ps(t->inverse[r]);
            for (size_t half = 0; half < 2; half++)
                _mm512_storeu_ps(out + r * out_stride + d + 16 * half,
                                 _mm512_mul_ps(_mm512_load_ps(sums[half] + 16 * r), inverse));
        }
    }
}

/* Rows row .. row + n - 1 of one stream, under one head: all on the trunk, or one of a branch. */
static void run_task(const job *j, size_t row, size_t n, size_t head, unsigned char *scratch)
{
    const sp_attention_rows *rows = j->rows;
    const sp_kv_view *kv = &j->kv[rows->stream[row]];
    size_t width = rows->head_dim, offset = head / (rows->heads / rows->kv_heads) * width * kv->capacity, last = 0;
    task t = {.n = n, .width = width, .capacity = j->capacity, .first_key = (size_t)rows->first_key[row],
              .keys = (const uint16_t *)kv->keys + offset, .values = (const uint16_t *)kv->values + offset,
              .scale = rows->scale};
    t.scores = (float *)scratch;
    t.weights = (uint16_t *)(t.scores + GROUP * t.capacity);
    t.queries = t.weights + GROUP * t.capacity;
    t.tail_keys = t.queries + GROUP * width;
    t.tail_values = t.tail_keys + (t.capacity + BLOCK) * width;
    for (size_t r = 0; r < n; r++) {
        t.last[r] = (size_t)rows->position[row + r];
        if (t.last[r] > last) last = t.last[r];
        sp_round_row(j->q + (row + r) * j->q_stride + head * width, width, width, t.queries + r * width);
    }
    memset(t.queries + n * width, 0, (GROUP - n) * width * sizeof *t.queries);
    t.first = t.first_key & ~(size_t)(BLOCK - 1);
    t.end = t.tail = sp_round_up(last + 1, BLOCK);
    size_t trunk = n == 1 ? fork_of(rows, row, kv->before) : last;
    if (t.first_key > t.first) copy_tail(&t, t.first, trunk);
    else if (trunk + 1 < t.end) copy_tail(&t, trunk & ~(size_t)(BLOCK - 1), trunk);
    if (n == 1) graft(&t, rows, row, kv->before);
    score(&t);
    for (size_t r = 0; r < n; r++) normalise(&t, r);
    weigh(&t, j->out + (row * rows->heads + head) * width, rows->heads * width);
}

static bool on_trunk(const sp_attention_rows *rows, size_t row)
{
    return sp_attention_slot(rows, row) == (size_t)rows->position[row];
}

static size_t group_length(const sp_attention_rows *rows, size_t row)
{
    size_t n = 1;
    if (!on_trunk(rows, row)) return 1;
    while (n < GROUP && row + n < rows->n_rows && rows->stream[row + n] == rows->stream[row] &&
           rows->first_key[row + n] == rows->first_key[row] && on_trunk(rows, row + n))
        n++;
    return n;
}

/* Heads are shared out, not rows: a head's keys and values stay with one thread. */
static void work(void *arguments, int thread, int n_threads)
{
    const job *j = arguments;
    size_t first, last;
    sp_pool_share(j->rows->heads, 1, thread, n_threads, &first, &last);
    sp_tiles_begin();
    for (size_t head = first; head < last; head++)
        for (size_t row = 0, n; row < j->rows->n_rows; row += n) {
            n = group_length(j->rows, row);
            run_task(j, row, n, head, j->scratch + (size_t)thread * j->bytes);
        }
    sp_tiles_end();
}

void SP_CPU(attention)(sp_pool *pool, const sp_attention_rows *rows, const float *q, size_t q_stride,
                       const sp_kv_view *kv, float *out, void *scratch)
{
    if (!sp_kv_in_tiles(&kv[rows->stream[0]], rows->head_dim)) {
        sp_avx512_attention(pool, rows, q, q_stride, kv, out, scratch);
        return;
    }
    job j = {rows, q, q_stride, kv, out, scratch, 0, 0};
    for (size_t row = 0; row < rows->n_rows; row++)
        if (kv[rows->stream[row]].capacity > j.capacity) j.capacity = kv[rows->stream[row]].capacity;
    j.bytes = sp_round_up(thread_bytes(j.capacity, rows->head_dim), 64);
    sp_pool_run(pool, work, &j);
}
