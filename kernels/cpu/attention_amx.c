/* softmax(scale q K^T) V on AMX tiles, over caches of bf16 tiles: up to 16 rows of one stream and head a task. Queries
 * and the weights e^(score - max) are rounded to bf16, sums are float; the weights that are summed are the rounded.
 *
 * Row-invariant: rows of a tile do not mix. A score adds its channels 32 at a time, an output its positions in blocks
 * of 32 that start at multiples of 32; positions a row does not see have weight 0, and adding 0 changes no bits. Their
 * values are read, though, so the block where what is seen ends is copied and the rest of it cleared.
 *
 * Rows of branches share the blocks below the first fork. What comes after is copied together once a path, and the sums
 * of its rows go on from there, in the same order as those of a row on the trunk. */
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

/* Rows of a task that follow one another on a path: they see the same keys and values, the last row all of them. */
typedef struct stretch {
    size_t first, n; /* of the rows of the task */
    size_t fork;     /* the last position they see that lies on the trunk */
    size_t end;      /* blocks of positions that any of them sees, a multiple of BLOCK */
} stretch;

typedef struct task {
    const sp_attention_rows *rows;
    const int32_t *before;
    size_t row, n, width, capacity;
    size_t first, first_key, last[GROUP]; /* first: where blocks begin, a multiple of BLOCK */
    stretch stretches[GROUP];
    size_t n_stretches;
    size_t tail; /* blocks from here on are copied for each stretch, those below are as in the cache */
    const uint16_t *keys, *values;     /* of the head */
    uint16_t *tail_keys, *tail_values; /* positions from tail on, at their offsets from it */
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

/* Positions of the tail that are copied from the trunk. */
static size_t from_trunk(const task *t, const stretch *s) { return sp_round_up(s->fork + 1, BLOCK) - t->tail; }

/* The keys of a stretch from tail on: the trunk's and then those of its branch. */
static void copy_keys(task *t, const stretch *s)
{
    size_t row = t->row + s->first + s->n - 1, position = (size_t)t->rows->position[row];
    size_t slot = sp_attention_slot(t->rows, row);
    memcpy(t->tail_keys, t->keys + t->tail * t->width, from_trunk(t, s) * t->width * sizeof(uint16_t));
    for (; position > s->fork; position--, slot = (size_t)t->before[slot])
        sp_key_copy(t->keys, slot, t->tail_keys, position - t->tail, t->width);
}

/* The values likewise, without what lies outside first_key .. fork on the trunk, then zeros. */
static void copy_values(task *t, const stretch *s)
{
    size_t width = t->width, n = from_trunk(t, s), pairs = (s->fork % BLOCK + 2) / 2;
    memcpy(t->tail_values, t->values + t->tail * width, n * width * sizeof(uint16_t));
    memset(t->tail_values + n * width, 0, (s->end - t->tail - n) * width * sizeof(uint16_t));
    uint16_t *block = t->tail_values + (n - BLOCK) * width;
    for (size_t column = 0; column < width / 16; column++, block += SP_TILE_NUMBERS)
        memset(block + pairs * SP_TILE_PAIRS, 0, (SP_TILE_NUMBERS - pairs * SP_TILE_PAIRS) * sizeof(uint16_t));
    if (s->fork % 2 == 0) clear_values(t, s->fork + 1, s->fork + 2);
    if (t->tail < t->first_key) clear_values(t, t->tail, t->first_key);
    size_t row = t->row + s->first + s->n - 1, position = (size_t)t->rows->position[row];
    size_t slot = sp_attention_slot(t->rows, row);
    for (; position > s->fork; position--, slot = (size_t)t->before[slot])
        sp_value_copy(t->values, slot, t->tail_values, position - t->tail, width);
}

/* Scores of all rows against blocks p .. end - 1, whose keys begin at key; to rows stride floats apart. */
static void score(const task *t, const uint16_t *key, size_t p, size_t end, float *to, size_t stride)
{
    for (; p < end; p += BLOCK, key += BLOCK * t->width, to += BLOCK) {
        const uint16_t *low = key, *high = key + SP_KEY_BLOCK * t->width;
        _tile_zero(0);
        _tile_zero(1);
        for (size_t d = 0; d < t->width; d += 32, low += SP_TILE_NUMBERS, high += SP_TILE_NUMBERS) {
            _tile_loadd(4, t->queries + d, t->width * 2);
            _tile_loadd(5, low, 64);
            _tile_dpbf16ps(0, 4, 5);
            _tile_loadd(6, high, 64);
            _tile_dpbf16ps(1, 4, 6);
        }
        _tile_stored(0, to, stride * sizeof(float));
        _tile_stored(1, to + SP_KEY_BLOCK, stride * sizeof(float));
    }
}

/* The rows of other stretches have other keys there. */
static void score_stretch(const task *t, const stretch *s)
{
    _Alignas(64) float scores[GROUP * BLOCK];
    for (size_t p = t->tail; p < s->end; p += BLOCK) {
        score(t, t->tail_keys + (p - t->tail) * t->width, p, p + BLOCK, scores, BLOCK);
        for (size_t r = s->first; r < s->first + s->n; r++)
            memcpy(t->scores + r * t->capacity + p, scores + r * BLOCK, BLOCK * sizeof(float));
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

/* Weights of row r up to end, 0 where it sees nothing. */
static void normalise(task *t, size_t r, size_t end)
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
    if (p < end) memset(weights + p, 0, (end - p) * sizeof *weights);
    t->inverse[r] = 1.0f / _mm512_reduce_add_ps(sum);
}

/* Adds blocks p .. end - 1, whose values begin at value, to channels d .. d + 31 in tiles 0 and 1. */
static void add_values(const task *t, const uint16_t *value, size_t p, size_t end, size_t d)
{
    value += d / 16 * SP_TILE_NUMBERS;
    for (; p < end; p += BLOCK, value += BLOCK * t->width) {
        _tile_loadd(4, t->weights + p, t->capacity * 2);
        _tile_loadd(5, value, 64);
        _tile_dpbf16ps(0, 4, 5);
        _tile_loadd(6, value + SP_TILE_NUMBERS, 64);
        _tile_dpbf16ps(1, 4, 6);
    }
}

/* Tiles 0 and 1 to channels d .. d + 31 of rows first .. first + n - 1, times their factors. */
static void store_rows(size_t first, size_t n, size_t d, const float *factor, float *out, size_t out_stride)
{
    _Alignas(64) float sums[2][256];
    _tile_stored(0, sums[0], 64);
    _tile_stored(1, sums[1], 64);
    for (size_t r = first; r < first + n; r++)
        for (size_t half = 0; half < 2; half++)
            _mm512_storeu_ps(out + r * out_stride + d + 16 * half,
                             _mm512_mul_ps(_mm512_load_ps(sums[half] + 16 * r), _mm512_set1_ps(factor[r])));
}

static void load_rows(const stretch *s, size_t d, const float *out, size_t out_stride)
{
    _Alignas(64) float sums[2][256] = {{0}};
    for (size_t r = s->first; r < s->first + s->n; r++)
        for (size_t half = 0; half < 2; half++)
            _mm512_store_ps(sums[half] + 16 * r, _mm512_loadu_ps(out + r * out_stride + d + 16 * half));
    _tile_loadd(0, sums[0], 64);
    _tile_loadd(1, sums[1], 64);
}

/* What all rows share; of a single stretch all that there is. out rows out_stride floats apart. */
static void weigh_shared(task *t, float *out, size_t out_stride)
{
    static const float ones[GROUP] = {1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1};
    bool whole = t->n_stretches == 1;
    if (whole && t->tail < t->stretches[0].end) copy_values(t, &t->stretches[0]);
    for (size_t d = 0; d < t->width; d += 32) {
        _tile_zero(0);
        _tile_zero(1);
        add_values(t, t->values + t->first * t->width, t->first, t->tail, d);
        if (whole) add_values(t, t->tail_values, t->tail, t->stretches[0].end, d);
        store_rows(0, t->n, d, whole ? t->inverse : ones, out, out_stride);
    }
}

/* The sums of a stretch go on from those in out. */
static void weigh_stretch(task *t, const stretch *s, float *out, size_t out_stride)
{
    copy_values(t, s);
    for (size_t d = 0; d < t->width; d += 32) {
        load_rows(s, d, out, out_stride);
        add_values(t, t->tail_values, t->tail, s->end, d);
        store_rows(s->first, s->n, d, t->inverse, out, out_stride);
    }
}

static bool on_trunk(const sp_attention_rows *rows, size_t row)
{
    return sp_attention_slot(rows, row) == (size_t)rows->position[row];
}

/* Rows that one task takes: of one stream, all on the trunk or none. */
static size_t group_length(const sp_attention_rows *rows, size_t row)
{
    size_t n = 1;
    while (n < GROUP && row + n < rows->n_rows && rows->stream[row + n] == rows->stream[row] &&
           rows->first_key[row + n] == rows->first_key[row] && on_trunk(rows, row + n) == on_trunk(rows, row))
        n++;
    return n;
}

static size_t fork_of(const task *t, size_t row)
{
    size_t position = (size_t)t->rows->position[row], slot = sp_attention_slot(t->rows, row);
    for (; slot != position; position--) slot = (size_t)t->before[slot];
    return position;
}

/* All rows on the trunk are one stretch, whatever their order. */
static void find_stretches(task *t)
{
    bool trunk = on_trunk(t->rows, t->row);
    t->n_stretches = 0;
    for (size_t r = 0; r < t->n; r++) {
        size_t row = t->row + r;
        bool follows = r > 0 && (trunk || (size_t)t->before[sp_attention_slot(t->rows, row)] ==
                                              sp_attention_slot(t->rows, row - 1));
        if (!follows) t->stretches[t->n_stretches++] = (stretch){.first = r, .fork = fork_of(t, row)};
        stretch *s = &t->stretches[t->n_stretches - 1];
        s->n++;
        if (trunk && t->last[r] > s->fork) s->fork = t->last[r];
        if (sp_round_up(t->last[r] + 1, BLOCK) > s->end) s->end = sp_round_up(t->last[r] + 1, BLOCK);
    }
    t->tail = t->stretches[0].end;
    for (size_t i = 0; i < t->n_stretches; i++) {
        const stretch *s = &t->stretches[i];
        size_t tail = s->fork + 1 < s->end ? s->fork & ~(size_t)(BLOCK - 1) : s->end;
        if (tail < t->tail) t->tail = tail;
    }
    if (t->first_key > t->first) t->tail = t->first;
}

static void attend(task *t, float *out, size_t out_stride)
{
    bool whole = t->n_stretches == 1;
    score(t, t->keys + t->first * t->width, t->first, t->tail, t->scores + t->first, t->capacity);
    for (size_t i = 0; i < t->n_stretches; i++) {
        const stretch *s = &t->stretches[i];
        if (t->tail < s->end) copy_keys(t, s);
        if (whole) score(t, t->tail_keys, t->tail, s->end, t->scores + t->tail, t->capacity);
        else score_stretch(t, s);
        for (size_t r = s->first; r < s->first + s->n; r++) normalise(t, r, s->end);
    }
    weigh_shared(t, out, out_stride);
    for (size_t i = 0; i < t->n_stretches && !whole; i++) weigh_stretch(t, &t->stretches[i], out, out_stride);
}

/* Rows row .. row + n - 1, a group, under one head. */
static void run_task(const job *j, size_t row, size_t n, size_t head, unsigned char *scratch)
{
    const sp_attention_rows *rows = j->rows;
    const sp_kv_view *kv = &j->kv[rows->stream[row]];
    size_t width = rows->head_dim, offset = head / (rows->heads / rows->kv_heads) * width * kv->capacity;
    task t = {.rows = rows, .before = kv->before, .row = row, .n = n, .width = width, .capacity = j->capacity,
              .first_key = (size_t)rows->first_key[row], .keys = (const uint16_t *)kv->keys + offset,
              .values = (const uint16_t *)kv->values + offset, .scale = rows->scale};
    t.scores = (float *)scratch;
    t.weights = (uint16_t *)(t.scores + GROUP * t.capacity);
    t.queries = t.weights + GROUP * t.capacity;
    t.tail_keys = t.queries + GROUP * width;
    t.tail_values = t.tail_keys + (t.capacity + BLOCK) * width;
    for (size_t r = 0; r < n; r++) {
        t.last[r] = (size_t)rows->position[row + r];
        sp_round_row(j->q + (row + r) * j->q_stride + head * width, width, width, t.queries + r * width);
    }
    memset(t.queries + n * width, 0, (GROUP - n) * width * sizeof *t.queries);
    t.first = t.first_key & ~(size_t)(BLOCK - 1);
    find_stretches(&t);
    attend(&t, j->out + (row * rows->heads + head) * width, rows->heads * width);
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
