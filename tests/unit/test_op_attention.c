/* attention, attention_scratch, kv_write, kv_move: every back end against ref with NaN in unwritten slots, row
 * invariance, and trees against chains. */
#include "ops.h"

enum { STREAMS = 2 };

typedef struct fixture {
    size_t heads, kv_heads, width, capacity, n_rows;
    int32_t *stream, *position, *first_key, *slot;
    float *q, *k, *v;
    sp_kv_view kv[STREAMS];
    size_t cache;
} fixture;

static sp_attention_rows rows_of(const fixture *f, size_t from, size_t n)
{
    return (sp_attention_rows){n, f->stream + from, f->position + from, f->first_key + from,
                               f->slot ? f->slot + from : NULL, f->heads, f->kv_heads, f->width, 0.3f};
}

/* n_rows rows of two streams at positions from start[stream] on; caches full of NaN. */
static void make(fixture *f, size_t heads, size_t kv_heads, size_t width, const size_t start[STREAMS], size_t each,
                 bool round)
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
        f->kv[s] = (sp_kv_view){sp_test_alloc(f->cache), sp_test_alloc(f->cache), f->capacity, round, NULL};
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

/* Keys and values of the positions before the first row of each stream, but for those before its first key. */
static void fill(const sp_ops *ops, const fixture *f)
{
    size_t each = f->n_rows / STREAMS, width = f->kv_heads * f->width;
    for (int32_t s = 0; s < STREAMS; s++)
        for (int32_t p = f->first_key[(size_t)s * each]; p < f->position[(size_t)s * each]; p++) {
            float *k = sp_test_random(width, 100 + (uint32_t)(2 * p + s));
            float *v = sp_test_random(width, 1000 + (uint32_t)(2 * p + s));
            sp_attention_rows row = {1, &s, &p, NULL, NULL, f->heads, f->kv_heads, f->width, 0};
            ops->kv_write(NULL, &row, k, v, width, f->kv);
            sp_test_free(k, width);
            sp_test_free(v, width);
        }
}

static void write(const sp_ops *ops, const fixture *f)
{
    fill(ops, f);
    sp_attention_rows rows = rows_of(f, 0, f->n_rows);
    ops->kv_write(NULL, &rows, f->k, f->v, f->kv_heads * f->width, f->kv);
}

static const struct shape {
    size_t heads, kv_heads, width, start[STREAMS], each;
} shapes[] = {{8, 8, 32, {15, 15}, 1},   {8, 8, 32, {0, 0}, 33},    {4, 2, 64, {37, 120}, 5},
              {2, 1, 100, {64, 3}, 7},   {3, 3, 16, {250, 16}, 16}, {2, 2, 32, {300, 288}, 20},
              {1, 1, 128, {31, 200}, 2}, {2, 2, 6, {5, 0}, 64}};

/* The fixture's rows by ops and by ref: out and expected are [n_rows, heads, width]. With hot, values are 1 in one
 * channel, which goes round with the row, and 0 in the others. */
static void by_both(const sp_ops *ops, const struct shape *c, bool round, int threads, bool hot, float *out,
                    float *expected)
{
    for (int reference = 0; reference < 2; reference++) {
        fixture f;
        make(&f, c->heads, c->kv_heads, c->width, c->start, c->each, round);
        for (size_t i = 0; hot && i < f.n_rows * f.kv_heads * f.width; i++)
            f.v[i] = i % f.width == i / (f.kv_heads * f.width) % f.width;
        const sp_ops *own = reference ? sp_ops_find("ref") : ops;
        write(own, &f);
        attend(own, &f, 0, f.n_rows, reference ? 1 : threads, reference ? expected : out);
        drop(&f);
    }
}

/* |out - exact| <= 4 (width + positions) eps: scores of width products of size <= 1 are off by width eps times their
 * absolute sum (< width / 3), which moves a weight by that relative amount; values are in [-1, 1) and their weighted
 * mean adds positions eps. eps = 2^-24. Rounded weights are each off by 2^-8, so a mean of values and the sum it is
 * divided by by as much again: 2^-7. */
static void matches_reference(void **state)
{
    (void)state;
    SP_TEST_EACH_BACKEND(ops)
        for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++)
            for (int round = 0; round < 2; round++) {
                const struct shape *c = &shapes[i];
                size_t count = STREAMS * c->each * c->heads * c->width;
                float *out = sp_test_alloc(count), *expected = sp_test_alloc(count), width = (float)c->width;
                by_both(ops, c, round, 1 + (int)(i % 3), false, out, expected);
                float bound = 4 * (width * width / 3 + 320) / 16777216.0f;
                sp_test_close(ops->name, out, expected, count, NULL, bound + (round ? 1.0f / 128 : 0));
                sp_test_free(out, count);
                sp_test_free(expected, count);
            }
}

/* From position 0 on, with values that are 1 in one channel, an output is the sum of a few weights: rounding moves it
 * by 2^-7 of itself, a weight of the wrong position by much more. */
static void rounded_weights_are_in_place(void **state)
{
    (void)state;
    static const struct shape cases[] = {{2, 2, 32, {0, 0}, 30}, {4, 2, 64, {0, 0}, 61}, {1, 1, 128, {0, 0}, 97}};
    SP_TEST_EACH_BACKEND(ops)
        for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
            size_t count = STREAMS * cases[i].each * cases[i].heads * cases[i].width;
            float *out = sp_test_alloc(count), *expected = sp_test_alloc(count), *bound = sp_test_alloc(count);
            by_both(ops, &cases[i], true, 2, true, out, expected);
            for (size_t at = 0; at < count; at++) bound[at] = expected[at] * (1.0f / 128 + 1.0f / 1024);
            sp_test_close(ops->name, out, expected, count, bound, 0);
            sp_test_free(out, count);
            sp_test_free(expected, count);
            sp_test_free(bound, count);
        }
}

/* A window of any length, cut anywhere, gives each row the bits it has alone. */
static void row_invariant(void **state)
{
    (void)state;
    static const size_t lengths[] = {1, 2, 3, 4, 5, 16, 31, 64};
    SP_TEST_EACH_BACKEND(ops) for (int round = 0; round < 2; round++) {
        fixture f;
        make(&f, 4, 2, 32, (size_t[]){21, 150}, 64, round);
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

enum { NODES = 24 };

/* Trees over positions from start on: a trunk of three, then branches from it and from each other, level by level; a
 * trunk of eight, then long branches from its front, row by row. */
static const struct shape_of_tree {
    size_t width; /* of a head */
    int parents[NODES];
} trees[] = {
    {32, {-1, 0, 1, 0, 0, 2, 2, 2, 3, 3, 4, 5, 5, 6, 8, 8, 11, 11, 13, 14, 16, 17, 20, 22}},
    {64, {-1, 0, 1, 2, 3, 4, 5, 6, 0, 8, 9, 10, 11, 12, 13, 14, 0, 16, 17, 18, 1, 20, 21, 3}},
};

typedef struct tree {
    fixture f;
    const int *parents;
    int32_t slots[STREAMS * NODES], before[STREAMS][320];
} tree;

/* The rows of fixture f become the tree, the same in each stream. */
static void plant(tree *t, const struct shape_of_tree *shape, const size_t start[STREAMS], bool round)
{
    const int *parents = shape->parents;
    make(&t->f, 4, 2, shape->width, start, NODES, round);
    t->parents = parents;
    t->f.slot = t->slots;
    for (size_t r = 0; r < t->f.n_rows; r++) {
        size_t s = r / NODES, j = r % NODES, top = s * NODES;
        t->slots[r] = (int32_t)(start[s] + j);
        if (j) t->before[s][t->slots[r]] = t->slots[top + (size_t)parents[j]];
        if (j) t->f.position[r] = t->f.position[top + (size_t)parents[j]] + 1;
        t->f.kv[s].before = t->before[s];
    }
}

/* Row r alone over caches that hold its own branch at its positions and NaN elsewhere: what its bits must be. */
static void as_a_chain(const sp_ops *ops, tree *t, size_t r, float *out)
{
    fixture *f = &t->f;
    size_t top = r / NODES * NODES, width = f->kv_heads * f->width;
    f->slot = NULL;
    fill(ops, f);
    for (size_t j = r % NODES;; j = (size_t)t->parents[j]) {
        sp_attention_rows row = rows_of(f, top + j, 1);
        ops->kv_write(NULL, &row, f->k + (top + j) * width, f->v + (top + j) * width, width, f->kv);
        if (j == 0) break;
    }
    attend(ops, f, r, 1, 1, out);
    f->slot = t->slots;
}

/* The rows of a tree, together, in pieces and one by one, have the bits of chains. Rows that no other needs are NaN
 * when a row is alone. */
static void branches_of(const struct shape_of_tree *shape)
{
    static const size_t lengths[] = {1, 3, NODES, STREAMS * NODES};
    static const size_t starts[][STREAMS] = {{21, 150}, {15, 30}, {3, 63}, {62, 94}};
    SP_TEST_EACH_BACKEND(ops)
        for (size_t i = 0; i < 2 * sizeof starts / sizeof *starts; i++) {
            const size_t *start = starts[i / 2];
            bool round = i % 2;
            tree t = {0};
            plant(&t, shape, start, round);
            size_t width = t.f.heads * t.f.width, kv = t.f.kv_heads * t.f.width, count = t.f.n_rows * width;
            float *chain = sp_test_alloc(count), *together = sp_test_alloc(count);
            for (size_t r = 0; r < t.f.n_rows; r++) {
                tree own = {0};
                plant(&own, shape, start, round);
                as_a_chain(ops, &own, r, chain + r * width);
                drop(&own.f);
                plant(&own, shape, start, round);
                fill(ops, &own.f);
                for (size_t j = r % NODES;; j = (size_t)shape->parents[j]) {
                    size_t at = r / NODES * NODES + j;
                    sp_attention_rows row = rows_of(&own.f, at, 1);
                    ops->kv_write(NULL, &row, own.f.k + at * kv, own.f.v + at * kv, kv, own.f.kv);
                    if (j == 0) break;
                }
                attend(ops, &own.f, r, 1, 1, together + r * width);
                drop(&own.f);
            }
            sp_test_equal(ops->name, together, chain, count);
            write(ops, &t.f);
            for (size_t l = 0; l < sizeof lengths / sizeof *lengths; l++) {
                for (size_t from = 0; from < t.f.n_rows; from += lengths[l])
                    attend(ops, &t.f, from, lengths[l], 1 + (int)(l % 3), together + from * width);
                sp_test_equal(ops->name, together, chain, count);
            }
            sp_test_free(chain, count);
            sp_test_free(together, count);
            drop(&t.f);
        }
}

static void branches(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof trees / sizeof *trees; i++) branches_of(&trees[i]);
}

/* kv_move: a branch moved to its positions reads as what was written there; nothing else changes. */
static void moved(void **state)
{
    (void)state;
    static const int32_t path[] = {3, 8, 14, 19};
    SP_TEST_EACH_BACKEND(ops) {
        fixture f, other;
        make(&f, 4, 2, 6, (size_t[]){7, 30}, NODES, false);
        make(&other, 4, 2, 6, (size_t[]){7, 30}, NODES, false);
        write(ops, &f);
        write(ops, &other);
        int32_t from[4];
        for (size_t i = 0; i < 4; i++) from[i] = 7 + path[i];
        ops->kv_move(&f.kv[0], f.kv_heads, f.width, from, 8, 4);
        for (size_t h = 0; h < f.kv_heads * f.width; h++)
            for (size_t i = 0; i < 4; i++)
                other.kv[0].keys[h * f.capacity + 8 + i] = other.kv[0].keys[h * f.capacity + (size_t)from[i]];
        for (size_t h = 0; h < f.kv_heads; h++)
            for (size_t i = 0; i < 4 * f.width; i++)
                other.kv[0].values[(h * f.capacity + 8) * f.width + i] =
                    f.v[(size_t)path[i / f.width] * f.kv_heads * f.width + h * f.width + i % f.width];
        for (size_t s = 0; s < STREAMS; s++) {
            assert_memory_equal(f.kv[s].keys, other.kv[s].keys, f.cache * sizeof(float));
            assert_memory_equal(f.kv[s].values, other.kv[s].values, f.cache * sizeof(float));
        }
        drop(&f);
        drop(&other);
    }
}

/* The same for caches in a back end's own layout: the row after a moved branch sees what it would see had the branch
 * been written there. */
static void moved_in_own_layout(void **state)
{
    (void)state;
    static const int32_t path[] = {3, 8, 14, 19};
    SP_TEST_EACH_BACKEND(ops) {
        fixture f, other;
        make(&f, 4, 2, 32, (size_t[]){29, 60}, NODES, true);
        make(&other, 4, 2, 32, (size_t[]){29, 60}, NODES, true);
        write(ops, &f);
        fill(ops, &other);
        size_t width = f.kv_heads * f.width, count = f.heads * f.width;
        int32_t from[4];
        for (size_t i = 0; i < 4; i++) from[i] = 29 + path[i];
        ops->kv_move(&f.kv[0], f.kv_heads, f.width, from, 30, 4);
        sp_attention_rows row = rows_of(&other, 0, 1);
        ops->kv_write(NULL, &row, f.k, f.v, width, other.kv);
        for (size_t i = 0; i < 4; i++) {
            row = rows_of(&other, 1 + i, 1);
            ops->kv_write(NULL, &row, f.k + (size_t)path[i] * width, f.v + (size_t)path[i] * width, width, other.kv);
        }
        float *out = sp_test_alloc(count), *expected = sp_test_alloc(count);
        attend(ops, &f, 4, 1, 1, out);
        attend(ops, &other, 4, 1, 1, expected);
        sp_test_equal(ops->name, out, expected, count);
        sp_test_free(out, count);
        sp_test_free(expected, count);
        drop(&f);
        drop(&other);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(matches_reference), cmocka_unit_test(row_invariant),
                                       cmocka_unit_test(branches), cmocka_unit_test(moved),
                                       cmocka_unit_test(moved_in_own_layout),
                                       cmocka_unit_test(rounded_weights_are_in_place)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
