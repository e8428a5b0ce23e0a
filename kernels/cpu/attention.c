/* softmax(scale q K^T) V for a window of queries over a cache, one task a head and up to four rows of one stream.
 *
 * Keys lie transposed, so scores come out a vector of SP_LANES positions at a time with no horizontal sums; blocks of
 * positions start at multiples of their length in absolute position. Row-invariant: a score sums over d = 0 ..
 * head_dim-1,
 * the weights sum by lane and block, the values by position, and none of it looks at the other rows of the task. */
#include "kernels/cpu/simd.h"

#include <math.h>

#include "base/dtype.h"
#include "base/size.h"

extern sp_op_attention SP_CPU(attention);
extern sp_op_attention_scratch SP_CPU(attention_scratch);

/* Two vectors of positions at a time: eight independent sums hide the latency of a multiply-add. */
enum { GROUP = 4, BLOCK = 2 * SP_LANES, VECTORS = 2 };

typedef struct job {
    const sp_attention_rows *rows;
    const float *q;
    size_t q_stride;
    const sp_kv_view *kv;
    float *out;
    float *scores; /* [threads, GROUP, capacity], then as many slots of branches */
    int32_t *slots;
    float *queries; /* [threads, GROUP, head_dim] rounded ones */
    size_t capacity; /* largest of the streams */
} job;

typedef struct task {
    const float *query[GROUP];
    float *scores[GROUP];
    float *out[GROUP];
    size_t first[GROUP], last[GROUP]; /* visible positions in the cache */
    int32_t *branch[GROUP];           /* slots of those after last, in the branch of the row */
    size_t n_branch[GROUP];
    const float *keys, *values;       /* of the head */
    size_t capacity, width, n;
    float scale;
} task;

size_t SP_CPU(attention_scratch)(size_t capacity, size_t head_dim, int n_threads)
{
    size_t row = sp_round_up(capacity, BLOCK) * (sizeof(float) + sizeof(int32_t)) + head_dim * sizeof(float);
    return (size_t)n_threads * GROUP * row;
}

static inline __attribute__((always_inline)) void score_block(const task *t, size_t block, const size_t n)
{
    sp_vec sum[GROUP][VECTORS], scale = sp_vec_set(t->scale);
    for (size_t r = 0; r < n; r++)
        for (size_t v = 0; v < VECTORS; v++) sum[r][v] = sp_vec_set(0);
    const float *key = t->keys + block;
    for (size_t d = 0; d < t->width; d++, key += t->capacity) {
        sp_vec k[VECTORS];
        for (size_t v = 0; v < VECTORS; v++) k[v] = sp_vec_load(key + v * SP_LANES);
        for (size_t r = 0; r < n; r++) {
            sp_vec q = sp_vec_set(t->query[r][d]);
            for (size_t v = 0; v < VECTORS; v++) sum[r][v] = sp_vec_fma(q, k[v], sum[r][v]);
        }
    }
    for (size_t r = 0; r < n; r++)
        for (size_t v = 0; v < VECTORS; v++)
            sp_vec_store(t->scores[r] + block + v * SP_LANES, sp_vec_mul(sum[r][v], scale));
}

/* Scores of the branch: each in the order of a lane of score_block, whose bits it has. */
static void score_branch(const task *t, size_t r)
{
    float *score = t->scores[r] + t->last[r] + 1;
    const float *key = t->keys;
    for (size_t i = 0; i < t->n_branch[r]; i++) score[i] = 0;
    for (size_t d = 0; d < t->width; d++, key += t->capacity)
        for (size_t i = 0; i < t->n_branch[r]; i++)
            score[i] = fmaf(t->query[r][d], key[t->branch[r][i]], score[i]);
    for (size_t i = 0; i < t->n_branch[r]; i++) score[i] *= t->scale;
}

/* Scores of positions first .. last become weights e^(score - max); the rest of their blocks 0. Returns 1 / sum. */
static float normalise(float *scores, size_t first, size_t last)
{
    size_t begin = first & ~(size_t)(BLOCK - 1), end = sp_round_up(last + 1, BLOCK);
    for (size_t p = begin; p < first; p++) scores[p] = -INFINITY;
    for (size_t p = last + 1; p < end; p++) scores[p] = -INFINITY;
    sp_vec top = sp_vec_set(-INFINITY), sum = sp_vec_set(0);
    for (size_t p = begin; p < end; p += SP_LANES) top = sp_vec_max(top, sp_vec_load(scores + p));
    sp_vec shift = sp_vec_set(sp_vec_top(top));
    for (size_t p = begin; p < end; p += SP_LANES) {
        sp_vec weight = sp_vec_exp(sp_vec_sub(sp_vec_load(scores + p), shift));
        sp_vec_store(scores + p, weight);
        sum = sp_vec_add(sum, weight);
    }
    return 1.0f / sp_vec_sum(sum);
}

/* Adds weight times value of position p, which lies at slot, for n rows and two vectors of the head from column. */
static inline __attribute__((always_inline)) void weigh_one(const task *t, size_t row, const size_t n, size_t column,
                                                            size_t live, size_t p, size_t slot, sp_vec sum[GROUP][2])
{
    const float *value = t->values + slot * t->width + column;
    sp_vec low, high;
    sp_vec_load_two(value, live, &low, &high);
    for (size_t r = row; r < row + n; r++) {
        sp_vec weight = sp_vec_set(t->scores[r][p]);
        sum[r][0] = sp_vec_fma(weight, low, sum[r][0]);
        sum[r][1] = sp_vec_fma(weight, high, sum[r][1]);
    }
}

/* Positions from .. to - 1 of the cache. */
static inline __attribute__((always_inline)) void weigh(const task *t, size_t row, const size_t n, size_t column,
                                                        size_t live, size_t from, size_t to, sp_vec sum[GROUP][2])
{
    for (size_t p = from; p < to; p++) weigh_one(t, row, n, column, live, p, p, sum);
}

static inline __attribute__((always_inline)) void values(const task *t, const size_t n, const float inverse[GROUP])
{
    size_t from = t->first[0], shared = t->last[0] + 1;
    for (size_t r = 1; r < n; r++) {
        if (t->last[r] + 1 < shared) shared = t->last[r] + 1;
        if (t->first[r] > from) from = t->first[r];
    }
    for (size_t column = 0; column < t->width; column += 2 * SP_LANES) {
        size_t live = t->width - column;
        sp_vec sum[GROUP][2];
        for (size_t r = 0; r < n; r++) sum[r][0] = sum[r][1] = sp_vec_set(0);
        /* Rows of a task see almost the same positions: what only some see is done row by row, so that an unseen
         * value, which may be NaN, is never touched. */
        if (from >= shared) {
            for (size_t r = 0; r < n; r++) weigh(t, r, 1, column, live, t->first[r], t->last[r] + 1, sum);
        } else {
            for (size_t r = 0; r < n; r++) weigh(t, r, 1, column, live, t->first[r], from, sum);
            weigh(t, 0, n, column, live, from, shared, sum);
            for (size_t r = 0; r < n; r++) weigh(t, r, 1, column, live, shared, t->last[r] + 1, sum);
        }
        for (size_t r = 0; r < n; r++)
            for (size_t i = 0; i < t->n_branch[r]; i++)
                weigh_one(t, r, 1, column, live, t->last[r] + 1 + i, (size_t)t->branch[r][i], sum);
        for (size_t r = 0; r < n; r++) {
            sp_vec scale = sp_vec_set(inverse[r]);
            sp_vec_store_two(t->out[r] + column, sp_vec_mul(sum[r][0], scale), sp_vec_mul(sum[r][1], scale), live);
        }
    }
}

static inline __attribute__((always_inline)) void attend(const task *t, const size_t n)
{
    float inverse[GROUP];
    size_t first = t->first[0], last = t->last[0];
    for (size_t r = 1; r < n; r++) {
        if (t->first[r] < first) first = t->first[r];
        if (t->last[r] > last) last = t->last[r];
    }
    for (size_t block = first & ~(size_t)(BLOCK - 1); block <= last; block += BLOCK) score_block(t, block, n);
    for (size_t r = 0; r < n; r++) {
        if (t->n_branch[r]) score_branch(t, r);
        inverse[r] = normalise(t->scores[r], t->first[r], t->last[r] + t->n_branch[r]);
    }
    values(t, n, inverse);
}

/* Splits what a row sees into cache and branch. */
static void follow(const sp_attention_rows *rows, size_t row, const int32_t *before, task *t, size_t r)
{
    size_t position = (size_t)rows->position[row], n = 0;
    int32_t slot = (int32_t)sp_attention_slot(rows, row);
    for (; (size_t)slot != position - n; slot = before[slot]) n++;
    t->last[r] = position - n;
    t->n_branch[r] = n;
    slot = (int32_t)sp_attention_slot(rows, row);
    for (; n > 0; slot = before[slot]) t->branch[r][--n] = slot;
}

/* Rows row .. row + n - 1, all of one stream, under one head. */
static void run_task(const job *j, size_t row, size_t n, size_t head, float *scores, int32_t *slots, float *queries)
{
    const sp_attention_rows *rows = j->rows;
    const sp_kv_view *kv = &j->kv[rows->stream[row]];
    size_t offset = head / (rows->heads / rows->kv_heads) * rows->head_dim * kv->capacity;
    task t = {.keys = kv->keys + offset, .values = kv->values + offset, .capacity = kv->capacity,
              .width = rows->head_dim, .n = n, .scale = rows->scale};
    for (size_t r = 0; r < n; r++) {
        t.query[r] = j->q + (row + r) * j->q_stride + head * rows->head_dim;
        if (kv->round) {
            float *rounded = queries + r * rows->head_dim;
            for (size_t d = 0; d < rows->head_dim; d++) rounded[d] = sp_bf16_to_f32(sp_f32_to_bf16(t.query[r][d]));
            t.query[r] = rounded;
        }
        t.scores[r] = scores + r * j->capacity;
        t.out[r] = j->out + ((row + r) * rows->heads + head) * rows->head_dim;
        t.first[r] = (size_t)rows->first_key[row + r];
        t.branch[r] = slots + r * j->capacity;
        follow(rows, row + r, kv->before, &t, r);
    }
    switch (n) {
    case 1: attend(&t, 1); break;
    case 2: attend(&t, 2); break;
    case 3: attend(&t, 3); break;
    default: attend(&t, 4); break;
    }
}

static size_t group_length(const sp_attention_rows *rows, size_t row)
{
    size_t n = 1;
    while (n < GROUP && row + n < rows->n_rows && rows->stream[row + n] == rows->stream[row]) n++;
    return n;
}

static void work(void *arguments, int thread, int n_threads)
{
    const job *j = arguments;
    const sp_attention_rows *rows = j->rows;
    float *scores = j->scores + (size_t)thread * GROUP * j->capacity;
    int32_t *slots = j->slots + (size_t)thread * GROUP * j->capacity;
    float *queries = j->queries + (size_t)thread * GROUP * rows->head_dim;
    size_t groups = 0, first, last, index = 0;
    for (size_t row = 0; row < rows->n_rows; row += group_length(rows, row)) groups++;
    sp_pool_share(groups * rows->heads, 1, thread, n_threads, &first, &last);
    for (size_t row = 0, n; row < rows->n_rows; row += n) {
        n = group_length(rows, row);
        for (size_t head = 0; head < rows->heads; head++, index++)
            if (index >= first && index < last) run_task(j, row, n, head, scores, slots, queries);
    }
}

void SP_CPU(attention)(sp_pool *pool, const sp_attention_rows *rows, const float *q, size_t q_stride,
                       const sp_kv_view *kv, float *out, void *scratch)
{
    job j = {rows, q, q_stride, kv, out, scratch, NULL, NULL, 0};
    for (size_t row = 0; row < rows->n_rows; row++) {
        size_t capacity = kv[rows->stream[row]].capacity;
        if (capacity > j.capacity) j.capacity = capacity;
    }
    size_t n_scores = (size_t)sp_pool_threads(pool) * GROUP * j.capacity;
    j.slots = (int32_t *)(j.scores + n_scores);
    j.queries = j.scores + 2 * n_scores;
    sp_pool_run(pool, work, &j);
}
