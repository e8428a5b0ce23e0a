/* The forward pass: a row has the same bits alone and in a window, whatever the number of threads, whether they work as
 * one team or as two, and whether the weights fit a shared cache or the teams go layer by layer. Random weights. */
#include "unit/transformer_checkpoint.h"

enum { WINDOW = 40 };

/* Logits [2, POSITIONS, CODES] of fixed tokens, by windows of n rows on this many threads. */
static void logits_of(const sp_transformer *t, int threads, size_t n, float *out)
{
    sp_pool *pool;
    sp_context *context;
    SP_TEST_OK(sp_pool_open(&pool, threads, err));
    SP_TEST_OK(sp_context_open(&context, t, pool, WINDOW, 1, err));
    sp_model model = sp_context_model(context);
    static const int32_t prompt[] = {3, 1, 4};
    sp_model_prompt words = {prompt, 3};
    SP_TEST_OK(model.ops->begin(model.state, &words, true, NULL, err));
    int32_t ids[WINDOW];
    float *window = malloc(2 * WINDOW * CODES * sizeof *window);
    assert_non_null(window);
    for (size_t first = 0; first < POSITIONS; first += n) {
        size_t rows = n < POSITIONS - first ? n : POSITIONS - first;
        for (size_t j = 0; j < rows; j++) ids[j] = (int32_t)((first + j) * 31 % CODES);
        sp_model_window w = {.first = first, .n = rows, .ids = ids, .logits = window};
        SP_TEST_OK(model.ops->forward(model.state, &w, err));
        for (size_t s = 0; s < 2; s++)
            memcpy(out + (s * POSITIONS + first) * CODES, window + s * rows * CODES, rows * CODES * sizeof *out);
    }
    free(window);
    sp_context_close(context);
    sp_pool_close(pool);
}

static void bits_do_not_depend_on_windows_and_threads(shape s, const char *kernels, bool bf16)
{
    const sp_ops *ops = sp_ops_find(kernels);
    checkpoint c = make(s);
    sp_model_config config = config_of(s);
    sp_transformer *t;
    SP_TEST_OK(sp_transformer_open(&t, &config, c.tensors, ops, bf16, err));
    size_t count = 2 * POSITIONS * CODES;
    float *plain = sp_test_alloc(count), *windows = sp_test_alloc(count);
    logits_of(t, 1, 1, plain);
    assert_memory_not_equal(plain, plain + CODES, CODES * sizeof *plain);
    assert_memory_not_equal(plain, plain + count / 2, CODES * sizeof *plain);
    for (size_t i = 0; i < count; i++) assert_true(isfinite(plain[i]));
    static const struct { int threads; size_t n; } cases[] = {{1, 40}, {2, 1}, {2, 9}, {2, 10}, {2, 40}, {3, 40},
                                                             {4, 1}, {4, 24}, {6, 33}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        logits_of(t, cases[i].threads, cases[i].n, windows);
        if (memcmp(plain, windows, count * sizeof *plain) != 0)
            fail_msg("%s %s, dim %zu: windows of %zu on %d threads have other bits than single rows", kernels,
                     bf16 ? "bf16" : "f32", s.dim, cases[i].n, cases[i].threads);
    }
    sp_test_free(plain, count);
    sp_test_free(windows, count);
    sp_transformer_close(t);
    free_checkpoint(&c);
}

static void small_weights(void **state)
{
    (void)state;
    for (const char *const *name = sp_ops_names(); *name; name++)
        for (int bf16 = 0; bf16 < 2; bf16++)
            bits_do_not_depend_on_windows_and_threads((shape){64, 3, 4, 176}, *name, bf16);
}

/* More than a shared cache holds, so that two teams go layer by layer. */
static void large_weights(void **state)
{
    (void)state;
    bits_do_not_depend_on_windows_and_threads((shape){512, 9, 8, 2048}, sp_ops_names()[0], true);
}

/* Windows of several pictures in one pass, of lengths that leave no even halves for two teams of threads, give the bits
 * that each gives alone. */
static void windows_of_several_pictures(void **state)
{
    (void)state;
    enum { PICTURES = 4, ROUNDS = 40 };
    static const size_t lengths[][PICTURES] = {{16, 16, 3, 0}, {16, 3, 16, 2}, {1, 16, 16, 1}, {9, 10, 11, 12}};
    shape s = {64, 3, 4, 176};
    checkpoint c = make(s);
    sp_model_config config = config_of(s);
    sp_transformer *t;
    sp_pool *pool;
    sp_context *alone, *together;
    static float expected[2 * WINDOW * CODES], out[PICTURES * 2 * WINDOW * CODES];
    int32_t ids[WINDOW];
    for (size_t j = 0; j < WINDOW; j++) ids[j] = (int32_t)(j * 29 % CODES);
    SP_TEST_OK(sp_transformer_open(&t, &config, c.tensors, sp_ops_find(sp_ops_names()[0]), true, err));
    SP_TEST_OK(sp_pool_open(&pool, 2, err));
    SP_TEST_OK(sp_context_open(&alone, t, NULL, WINDOW, 1, err));
    SP_TEST_OK(sp_context_open(&together, t, pool, WINDOW, PICTURES, err));
    sp_model one = sp_context_model(alone), many = sp_context_model(together);
    for (size_t round = 0; round < ROUNDS; round++) {
        const size_t *n = lengths[round % 4];
        size_t n_streams = 1 + round / 4 % 2, n_windows = 0, rows = 0, pictures[PICTURES];
        sp_model_window windows[PICTURES];
        for (size_t i = 0; i < PICTURES && n[i]; i++) {
            int32_t prompt = (int32_t)((i + round) % 32);
            sp_context_select(together, i);
            SP_TEST_OK(many.ops->begin(many.state, &(sp_model_prompt){&prompt, 1}, n_streams > 1, NULL, err));
            pictures[i] = i;
            windows[n_windows++] = (sp_model_window){.n = n[i], .ids = ids, .logits = out + rows * CODES};
            rows += n_streams * n[i];
        }
        SP_TEST_OK(many.ops->forward_batch(many.state, pictures, windows, n_windows, err));
        for (size_t i = 0; i < n_windows; i++) {
            int32_t prompt = (int32_t)((i + round) % 32);
            sp_model_window w = windows[i];
            w.logits = expected;
            SP_TEST_OK(one.ops->begin(one.state, &(sp_model_prompt){&prompt, 1}, n_streams > 1, NULL, err));
            SP_TEST_OK(one.ops->forward(one.state, &w, err));
            assert_memory_equal(windows[i].logits, expected, n_streams * w.n * CODES * sizeof *expected);
        }
    }
    sp_context_close(alone);
    sp_context_close(together);
    sp_pool_close(pool);
    sp_transformer_close(t);
    free_checkpoint(&c);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(small_weights), cmocka_unit_test(large_weights),
                                       cmocka_unit_test(windows_of_several_pictures)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
