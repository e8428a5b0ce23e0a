/* attention, attention_scratch, kv_write: every back end against ref with NaN in unwritten slots, and row invariance.
 * */
#include "ops.h"

enum { STREAMS = 2 };

typedef struct fixture {
    size_t heads, kv_heads, width, capacity, n_rows;
    int32_t *stream, *position, *first_key;
    float *q, *k, *v;
    sp_kv_view kv[STREAMS];
    size_t cache;
} fixture;

static sp_attention_rows rows_of(const fixture *f, size_t from, size_t n)
{
    return (sp_attention_rows){n, f->stream + from, f->position + from, f->first_key + from, f->heads, f->kv_heads,
                               f->width,
                               0.3f};
}

/* n_rows rows of two streams at positions from start[stream] on, over caches filled below with values and NaN after. */
static void make(fixture *f, size_t heads, size_t kv_heads, size_t width, const size_t start[STREAMS], size_t each)
{
    *f = (fixture){.heads = heads, .kv_heads = kv_heads, .width = width, .capacity = 320, .n_rows = STREAMS * each};
    f->cache = kv_heads * width * f->capacity;
    f->stream = malloc(f->n_rows * sizeof(int32_t));
    f->position = malloc(f->n_rows * sizeof(int32_t));
    f->first_key = calloc(f->n_rows, sizeof(int32_t));
    f->q = sp_test_random(f->n_rows * heads * width, 11);
    f->k = sp_test_random(f->n_rows * kv_heads * width, 12);
    f->v = sp_test_random(f->n_rows * kv_heads * width, 13);
    for (size_t s = 0; s < STREAMS; s++) {
        f->kv[s] = (sp_kv_view){sp_test_alloc(f->cache), sp_test_alloc(f->cache), f->capacity};
        for (size_t h = 0; h < kv_heads; h++)
            for (size_t d = 0; d < width; d++)
                for (size_t p = 0; p < start[s]; p++) {
                    f->kv[s].keys[(h * width + d) * f->capacity + p] = sp_test_value(14, (h * width + d) * 997 + p + s);
                    f->kv[s].values[(h * f->capacity + p) * width + d] = sp_test_value(15,
                                                                                       (h * width + d) * 997 + p + s);
                }
        for (size_t r = 0; r < each; r++) {
            f->stream[s * each + r] = (int32_t)s;
            f->position[s * each + r] = (int32_t)(start[s] + r);
            f->first_key[s * each + r] = s == 1 && start[s] > 3 ? 3 : 0;
        }
    }
}

static void drop(fixture *f)
{
    sp_test_free(f->q, f->n_rows * f->heads * f->width);
    sp_test_free(f->k, f->n_rows * f->kv_heads * f->width);
    sp_test_free(f->v, f->n_rows * f->kv_heads * f->width);
    for (size_t s = 0; s < STREAMS; s++) {
        sp_test_free(f->kv[s].keys, f->cache);
        sp_test_free(f->kv[s].values, f->cache);
    }
    free(f->stream);
    free(f->position);
    free(f->first_key);
}

static void attend(const sp_ops *ops, const fixture *f, size_t from, size_t n, int threads, float *out)
{
    sp_pool *pool = NULL;
    SP_TEST_OK(sp_pool_open(&pool, threads, err));
    void *scratch = sp_test_scratch(ops->attention_scratch(f->capacity, f->width, threads));
    sp_attention_rows rows = rows_of(f, from, n);
    ops->attention(pool, &rows, f->q + from * f->heads * f->width, f->heads * f->width, f->kv, out, scratch);
    free(scratch);
    sp_pool_close(pool);
}

static void write(const sp_ops *ops, const fixture *f)
{
    sp_attention_rows rows = rows_of(f, 0, f->n_rows);
    ops->kv_write(NULL, &rows, f->k, f->v, f->kv_heads * f->width, f->kv);
}

/* |out - exact| <= 4 (width + positions) eps: scores of width products of size <= 1 are off by width eps times their
 * absolute sum (< width / 3), which moves a weight by that relative amount; values are in [-1, 1) and their weighted
 * mean adds positions eps. eps = 2^-24. */
static void matches_reference(void **state)
{
    (void)state;
    static const struct { size_t heads, kv_heads, width, start[STREAMS], each; } cases[] = {
        {8, 8, 32, {15, 15}, 1}, {8, 8, 32, {0, 0}, 33}, {4, 2, 64, {37, 120}, 5}, {2, 1, 100, {64, 3}, 7},
        {3, 3, 16, {250, 16}, 16}, {2, 2, 32, {300, 288}, 20}, {1, 1, 128, {31, 200}, 2}, {2, 2, 6, {5, 0}, 64}};
    SP_TEST_EACH_BACKEND(ops)
        for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
            fixture f;
            make(&f, cases[i].heads, cases[i].kv_heads, cases[i].width, cases[i].start, cases[i].each);
            size_t count = f.n_rows * f.heads * f.width;
            float *out = sp_test_alloc(count), *expected = sp_test_alloc(count);
            write(ops, &f);
            attend(ops, &f, 0, f.n_rows, 1 + (int)(i % 3), out);
            attend(sp_ops_find("ref"), &f, 0, f.n_rows, 1, expected);
            float width = (float)f.width;
            sp_test_close(ops->name, out, expected, count, NULL, 4 * (width * width / 3 + 320) / 16777216.0f);
            sp_test_free(out, count);
            sp_test_free(expected, count);
            drop(&f);
        }
}

/* A window of any length, cut anywhere, gives each row the bits it has alone. */
static void row_invariant(void **state)
{
    (void)state;
    static const size_t lengths[] = {1, 2, 3, 4, 5, 16, 31, 64};
    SP_TEST_EACH_BACKEND(ops) {
        fixture f;
        make(&f, 4, 2, 32, (size_t[]){21, 150}, 64);
        write(ops, &f);
        size_t width = f.heads * f.width, count = f.n_rows * width;
        float *alone = sp_test_alloc(count), *together = sp_test_alloc(count);
        for (size_t r = 0; r < f.n_rows; r++) attend(ops, &f, r, 1, 1, alone + r * width);
        for (size_t i = 0; i < sizeof lengths / sizeof *lengths; i++)
            for (size_t from = 0; from < f.n_rows; from += lengths[i]) {
                size_t n = f.n_rows - from < lengths[i] ? f.n_rows - from : lengths[i];
                attend(ops, &f, from, n, 1 + (int)(i % 3), together + from * width);
                if (from + n == f.n_rows) sp_test_equal(ops->name, together, alone, count);
            }
        sp_test_free(alone, count);
        sp_test_free(together, count);
        drop(&f);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(matches_reference), cmocka_unit_test(row_invariant)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
