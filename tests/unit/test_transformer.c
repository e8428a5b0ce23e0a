/* The forward pass: a row has the same bits alone and in a window, whatever the number of threads, whether they work as
 * one team or as two, and whether the weights fit a shared cache or the teams go layer by layer. Random weights. */
#include "base/arena.h"
#include "checkpoint.h"
#include "model/transformer.h"

enum { POSITIONS = 64, WINDOW = 40, CODES = 48, PREFIX = 4 };

typedef struct shape {
    size_t dim, layers, heads, ffn;
} shape;

/* bf16 values of about 1/8, fast and the same everywhere. */
static void fill(uint16_t *out, size_t count)
{
    uint32_t stream = 1;
    for (size_t i = 0; i < count; i++) {
        stream = stream * 1664525u + 1013904223u;
        out[i] = (uint16_t)(0x3C80u + (stream >> 25 & 0x7Fu) + (stream >> 24 & 1u) * 0x8000u);
    }
}

/* A specular checkpoint of this shape with random weights. */
static checkpoint make(shape s)
{
    static const char *const squares[] = {"q", "k", "v", "o"};
    checkpoint c = {0};
    add_tensor(&c, SP_SHAPE2(32, s.dim), "text.embedding.weight");
    add_tensor(&c, SP_SHAPE2(CODES, s.dim), "codes.embedding.weight");
    for (size_t l = 0; l < s.layers; l++) {
        for (size_t i = 0; i < 4; i++)
            add_tensor(&c, SP_SHAPE2(s.dim, s.dim), "layers.%zu.attention.%s.weight", l, squares[i]);
        add_tensor(&c, SP_SHAPE1(s.dim), "layers.%zu.attention_norm.weight", l);
        add_tensor(&c, SP_SHAPE1(s.dim), "layers.%zu.ffn_norm.weight", l);
        add_tensor(&c, SP_SHAPE2(s.ffn, s.dim), "layers.%zu.ffn.gate.weight", l);
        add_tensor(&c, SP_SHAPE2(s.ffn, s.dim), "layers.%zu.ffn.up.weight", l);
        add_tensor(&c, SP_SHAPE2(s.dim, s.ffn), "layers.%zu.ffn.down.weight", l);
    }
    add_tensor(&c, SP_SHAPE1(s.dim), "norm.weight");
    add_tensor(&c, SP_SHAPE2(CODES, s.dim), "head.weight");
    open_checkpoint(&c, NULL);
    fill(c.data, c.total);
    return c;
}

static sp_model_config config_of(shape s)
{
    char text[1024];
    snprintf(text, sizeof text,
             "{\"model_type\":\"specular\",\"transformer\":{\"dim\":%zu,\"layers\":%zu,\"heads\":%zu,\"ffn_dim\":%zu,"
             "\"rope\":\"2d\",\"rope_pairs\":\"adjacent\"},\"text\":{\"vocab\":32,\"length\":%d,\"pad_id\":0,"
             "\"learned_positions\":false},\"codes\":{\"count\":%d,\"grid\":[8,8]},\"vq\":{\"channels\":32,"
             "\"channel_mult\":[1],\"blocks_per_level\":1,\"attention\":\"middle\",\"z_channels\":8,"
             "\"codebook\":[%d,8],\"group_norm_groups\":8,\"image_size\":[8,8]}}",
             s.dim, s.layers, s.heads, s.ffn, PREFIX, CODES, CODES);
    sp_model_config config;
    SP_TEST_OK(sp_model_config_parse("test", text, strlen(text), &config, err));
    return config;
}

/* Logits [2, POSITIONS, CODES] of fixed tokens, by windows of n rows on this many threads. */
static void logits_of(const sp_transformer *t, int threads, size_t n, float *out)
{
    sp_pool *pool;
    sp_context *context;
    SP_TEST_OK(sp_pool_open(&pool, threads, err));
    SP_TEST_OK(sp_context_open(&context, t, pool, WINDOW, err));
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

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(small_weights), cmocka_unit_test(large_weights)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
