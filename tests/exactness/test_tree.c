/* Rows of a tree through the whole transformer: logits and features of a row have the bits of the same tokens fed as a
 * chain, also after a branch was kept. On the sample model, guided, on every back end, in both arithmetics. */
#include "support.h"

#include "kernels/kernels.h"
#include "model/transformer.h"

enum { WINDOW = 24, KEPT = 4 };

static const int32_t parents[WINDOW] = {0, 0, 1, 0, 0, 2, 2, 2, 3, 3, 4, 5, 5, 6, 8, 8, 11, 11, 13, 14, 16, 17, 20, 22};

typedef struct fixture {
    sp_model_config config;
    sp_tensors *tensors;
    sp_transformer *transformer;
    sp_context *tree, *chain;
    float *logits, *features, *chain_logits, *chain_features; /* of a window */
    size_t n_logits, n_features;
} fixture;

static void open_model(fixture *f, const char *kernels, bool bf16)
{
    const char *folder = SP_SOURCE_DIR "/samples/emoji";
    SP_TEST_OK(sp_model_config_load(folder, &f->config, err));
    SP_TEST_OK(sp_tensors_open(&f->tensors, folder, err));
    SP_TEST_OK(sp_transformer_open(&f->transformer, &f->config, f->tensors, sp_ops_find(kernels), bf16, err));
    SP_TEST_OK(sp_context_open(&f->tree, f->transformer, NULL, WINDOW, 1, err));
    SP_TEST_OK(sp_context_open(&f->chain, f->transformer, NULL, WINDOW, 1, err));
    f->n_logits = 2 * WINDOW * f->config.n_codes;
    f->n_features = 2 * WINDOW * f->config.dim;
    f->logits = sp_test_alloc(f->n_logits);
    f->chain_logits = sp_test_alloc(f->n_logits);
    f->features = sp_test_alloc(f->n_features);
    f->chain_features = sp_test_alloc(f->n_features);
}

static void close_model(fixture *f)
{
    sp_test_free(f->logits, f->n_logits);
    sp_test_free(f->chain_logits, f->n_logits);
    sp_test_free(f->features, f->n_features);
    sp_test_free(f->chain_features, f->n_features);
    sp_context_close(f->tree);
    sp_context_close(f->chain);
    sp_transformer_close(f->transformer);
    sp_tensors_close(f->tensors);
}

static int32_t token_of(const fixture *f, uint32_t stream, size_t i)
{
    return (int32_t)((sp_test_value(stream, i) + 1) / 2 * (float)f->config.n_codes);
}

static void feed(sp_context *context, size_t first, const int32_t *ids, const int32_t *tree, size_t n, float *logits,
                 float *features)
{
    sp_model model = sp_context_model(context);
    sp_model_window window = {first, n, ids, tree, logits, features};
    SP_TEST_OK(model.ops->forward(model.state, &window, err));
}

/* Row j of the tree against the last row of its branch, which the chain was just fed. */
static void same_row(const fixture *f, size_t j, size_t depth)
{
    for (size_t stream = 0; stream < 2; stream++) {
        size_t row = stream * WINDOW + j, last = stream * (depth + 1) + depth;
        assert_memory_equal(f->logits + row * f->config.n_codes, f->chain_logits + last * f->config.n_codes,
                            f->config.n_codes * sizeof(float));
        assert_memory_equal(f->features + row * f->config.dim, f->chain_features + last * f->config.dim,
                            f->config.dim * sizeof(float));
    }
}

/* A tree from position first on; every row checked, a branch of four kept, and a window after it compared. */
static void tree_from(fixture *f, size_t first, uint32_t seed)
{
    int32_t ids[WINDOW], branch[WINDOW];
    for (size_t j = 0; j < WINDOW; j++) ids[j] = token_of(f, seed, j);
    feed(f->tree, first, ids, parents, WINDOW, f->logits, f->features);
    for (size_t j = 0; j < WINDOW; j++) {
        size_t depth = 0;
        for (size_t at = j; at > 0; at = (size_t)parents[at]) depth++;
        for (size_t at = j, d = depth + 1; d-- > 0; at = (size_t)parents[at]) branch[d] = ids[at];
        feed(f->chain, first, branch, NULL, depth + 1, f->chain_logits, f->chain_features);
        same_row(f, j, depth);
    }
    static const int32_t kept[KEPT] = {0, 3, 8, 14};
    sp_model model = sp_context_model(f->tree);
    SP_TEST_OK(model.ops->keep(model.state, first, kept, KEPT, err));
    for (size_t i = 0; i < KEPT; i++) branch[i] = ids[kept[i]];
    feed(f->chain, first, branch, NULL, KEPT, f->chain_logits, NULL);
    feed(f->chain, first + KEPT, ids, NULL, 6, f->chain_logits, NULL);
    feed(f->tree, first + KEPT, ids, NULL, 6, f->logits, NULL);
    assert_memory_equal(f->logits, f->chain_logits, 12 * f->config.n_codes * sizeof(float));
}

static void trees_are_chains(void **state)
{
    (void)state;
    for (const char *const *kernels = sp_ops_names(); *kernels; kernels++)
        for (int bf16 = 0; bf16 < 2; bf16++) {
            fixture f = {0};
            bool slow = strcmp(*kernels, "ref") == 0;
            if (slow && bf16) continue;
            open_model(&f, *kernels, bf16);
            sp_model_prompt prompt = {(int32_t[]){5, 17, 300}, 3};
            sp_context *both[] = {f.tree, f.chain};
            int32_t ids[40];
            for (size_t i = 0; i < 40; i++) ids[i] = token_of(&f, 70, i);
            for (size_t c = 0; c < 2; c++) {
                sp_model model = sp_context_model(both[c]);
                SP_TEST_OK(model.ops->begin(model.state, &prompt, true, NULL, err));
                if (slow) continue;
                feed(both[c], 0, ids, NULL, 20, f.logits, NULL);
                feed(both[c], 20, ids + 20, NULL, 20, f.logits, NULL);
            }
            if (!slow) tree_from(&f, 40, 71);
            tree_from(&f, 0, 72);
            close_model(&f);
        }
}

/* Features of the prefix do not depend on who asks, and the last rows of the picture have room for a tree. */
static void ends(void **state)
{
    (void)state;
    fixture f = {0};
    open_model(&f, "auto", true);
    size_t prefix = f.config.prefix_length - 1, last = f.config.rows * f.config.columns - 1;
    float *features = sp_test_alloc(2 * prefix * f.config.dim);
    sp_model model = sp_context_model(f.tree);
    SP_TEST_OK(model.ops->begin(model.state, &(sp_model_prompt){(int32_t[]){5, 17}, 2}, true, features, err));
    for (size_t i = 0; i < 2 * prefix * f.config.dim; i++) assert_true(isfinite(features[i]));
    sp_test_free(features, 2 * prefix * f.config.dim);
    int32_t ids[WINDOW] = {0}, star[WINDOW] = {0};
    for (size_t p = 0; p < last; p += 5) feed(f.tree, p, ids, NULL, 5, f.logits, NULL);
    feed(f.tree, last - 1, ids, star, WINDOW, f.logits, f.features);
    sp_error err = {0};
    star[WINDOW - 1] = 1;
    sp_model_window beyond = {last - 1, WINDOW, ids, star, f.logits, NULL};
    assert_int_equal(model.ops->forward(model.state, &beyond, &err), SP_EBUG);
    close_model(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(trees_are_chains), cmocka_unit_test(ends)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
