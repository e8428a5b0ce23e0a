/* The forward pass on a device, over the seam a program uses, against kernels/ref in bf16: windows, prefix, both
 * streams, trees and what is kept of them; rows have the same bits in every window; faults end in one line. */
#include "decode/decode.h"
#include "tests/cuda/apart.h"
#include "tests/cuda/faults.h"
#include "unit/transformer_checkpoint.h"

enum { WINDOW = 24, COUNT = 2 * POSITIONS * CODES };

extern const sp_device_ops *sp_device_functions(void);

typedef struct pair {
    checkpoint file;
    sp_model_config config;
    sp_transformer *here, *there;
} pair;

/* Gains of 1 to 2 and weights of 1/8 to 1/4: with those of make, attention adds too little for any test to see. */
static void strengthen(checkpoint *c)
{
    enum { EXPONENT = 7 };
    for (size_t i = 0; i < c->n; i++) {
        uint16_t *data = c->data + c->entries[i].offset;
        int more = c->entries[i].shape.rank == 1 ? 6 : 3;
        for (size_t j = 0; j < c->entries[i].count; j++) data[j] = (uint16_t)(data[j] + (more << EXPONENT));
    }
}

static void open_pair(pair *p, shape s)
{
    p->file = make(s);
    strengthen(&p->file);
    p->config = config_of(s);
    SP_TEST_OK(sp_transformer_open(&p->here, &p->config, p->file.tensors, sp_ops_find("ref"), true, err));
    SP_TEST_OK(sp_transformer_open(&p->there, &p->config, p->file.tensors, sp_device_pack_ops(), true, err));
    SP_TEST_OK(sp_transformer_use_device(p->there, sp_device_functions()->models, 0, err));
    assert_true(sp_transformer_device_bytes(p->there) > p->file.total);
}

static void close_pair(pair *p)
{
    sp_transformer_close(p->here);
    sp_transformer_close(p->there);
    free_checkpoint(&p->file);
}

static int32_t token_at(size_t position) { return (int32_t)(position * 31 % CODES); }

/* Logits [2, POSITIONS, CODES] and features [2, POSITIONS, dim] of fixed tokens, by windows of n rows. */
static void run(const sp_transformer *t, size_t n, float *logits, float *features, size_t dim)
{
    sp_context *context;
    SP_TEST_OK(sp_context_open(&context, t, NULL, WINDOW, 1, err));
    sp_model model = sp_context_model(context);
    static const int32_t prompt[] = {3, 1, 4};
    SP_TEST_OK(model.ops->begin(model.state, &(sp_model_prompt){prompt, 3}, true, NULL, err));
    int32_t ids[WINDOW];
    float *window = malloc(2 * WINDOW * CODES * sizeof *window), *states = malloc(2 * WINDOW * dim * sizeof *states);
    assert_true(window && states);
    for (size_t first = 0; first < POSITIONS; first += n) {
        size_t rows = n < POSITIONS - first ? n : POSITIONS - first;
        for (size_t j = 0; j < rows; j++) ids[j] = first + j ? token_at(first + j - 1) : 0;
        sp_model_window w = {.first = first, .n = rows, .ids = ids, .logits = window, .features = states};
        SP_TEST_OK(model.ops->forward(model.state, &w, err));
        for (size_t s = 0; s < 2; s++) {
            memcpy(logits + (s * POSITIONS + first) * CODES, window + s * rows * CODES, rows * CODES * sizeof *logits);
            memcpy(features + (s * POSITIONS + first) * dim, states + s * rows * dim, rows * dim * sizeof *features);
        }
    }
    free(window);
    free(states);
    sp_context_close(context);
}

static void matches_reference(void **state)
{
    (void)state;
    static const shape shapes[] = {{64, 3, 4, 176}, {96, 2, 3, 128}};
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++) {
        pair p;
        open_pair(&p, shapes[i]);
        sp_transformer *exact;
        SP_TEST_OK(sp_transformer_open(&exact, &p.config, p.file.tensors, sp_ops_find("ref"), false, err));
        size_t width[2] = {CODES, shapes[i].dim};
        const sp_transformer *of[3] = {exact, p.here, p.there};
        float *out[3][2];
        for (int t = 0; t < 3; t++) {
            for (int k = 0; k < 2; k++) out[t][k] = sp_test_alloc(2 * POSITIONS * width[k]);
            run(of[t], WINDOW, out[t][0], out[t][1], width[1]);
        }
        for (int k = 0; k < 2; k++)
            assert_as_near(k ? "features" : "logits", out[2][k], out[1][k], out[0][k], 2 * POSITIONS, width[k]);
        for (int t = 0; t < 6; t++) sp_test_free(out[t / 2][t % 2], 2 * POSITIONS * width[t % 2]);
        sp_transformer_close(exact);
        close_pair(&p);
    }
}

static void windows_have_the_same_bits(void **state)
{
    (void)state;
    enum { DIM = 64 };
    pair p;
    open_pair(&p, (shape){DIM, 2, 2, 96});
    float *plain = sp_test_alloc(COUNT), *windows = sp_test_alloc(COUNT), *states = sp_test_alloc(2 * POSITIONS * DIM);
    run(p.there, 1, plain, states, DIM);
    assert_memory_not_equal(plain, plain + CODES, CODES * sizeof *plain);
    assert_memory_not_equal(plain, plain + COUNT / 2, CODES * sizeof *plain);
    static const size_t sizes[] = {2, 7, WINDOW};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        run(p.there, sizes[i], windows, states, DIM);
        if (memcmp(plain, windows, COUNT * sizeof *plain) != 0)
            fail_msg("windows of %zu have other bits than single rows", sizes[i]);
    }
    sp_test_free(plain, COUNT);
    sp_test_free(windows, COUNT);
    sp_test_free(states, 2 * POSITIONS * DIM);
    close_pair(&p);
}

/* Two branches below the first row; the second, of three tokens, stays. Its rows, and a row after them, have the bits
 * of a chain of the same tokens. */
static void trees_and_what_is_kept(void **state)
{
    (void)state;
    enum { FIRST = 5, NODES = 6, DEPTH = 4 };
    static const int32_t parents[NODES] = {0, 0, 0, 1, 2, 4}, path[DEPTH] = {0, 2, 4, 5};
    static const int32_t ids[NODES] = {7, 11, 13, 17, 19, 23}, chain[DEPTH + 1] = {7, 13, 19, 23, 29};
    static const int32_t prompt[] = {3, 1, 4};
    pair p;
    open_pair(&p, (shape){64, 2, 2, 96});
    float of_tree[2 * NODES * CODES], of_chain[2 * (DEPTH + 1) * CODES], after[2 * CODES];
    for (int tree = 0; tree < 2; tree++) {
        sp_context *context;
        SP_TEST_OK(sp_context_open(&context, p.there, NULL, WINDOW, 1, err));
        sp_model model = sp_context_model(context);
        SP_TEST_OK(model.ops->begin(model.state, &(sp_model_prompt){prompt, 3}, true, NULL, err));
        float before[2 * FIRST * CODES];
        int32_t fed[FIRST];
        for (size_t i = 0; i < FIRST; i++) fed[i] = token_at(i);
        SP_TEST_OK(model.ops->forward(model.state, &(sp_model_window){.n = FIRST, .ids = fed, .logits = before}, err));
        sp_model_window w = {.first = FIRST, .n = tree ? NODES : DEPTH + 1, .ids = tree ? ids : chain,
                             .parents = tree ? parents : NULL, .logits = tree ? of_tree : of_chain};
        SP_TEST_OK(model.ops->forward(model.state, &w, err));
        if (tree) {
            SP_TEST_OK(model.ops->keep(model.state, FIRST, path, DEPTH, err));
            w = (sp_model_window){.first = FIRST + DEPTH, .n = 1, .ids = chain + DEPTH, .logits = after};
            SP_TEST_OK(model.ops->forward(model.state, &w, err));
        }
        sp_context_close(context);
    }
    for (size_t s = 0; s < 2; s++) {
        for (size_t j = 0; j < DEPTH; j++)
            assert_memory_equal(of_tree + (s * NODES + (size_t)path[j]) * CODES,
                                of_chain + (s * (DEPTH + 1) + j) * CODES, CODES * sizeof *of_tree);
        assert_memory_equal(after + s * CODES, of_chain + (s * (DEPTH + 1) + DEPTH) * CODES, CODES * sizeof *after);
    }
    close_pair(&p);
}

static void draw(sp_decoder *d, sp_context *context, bool loop, const char *rule, size_t window, float cfg_scale)
{
    static const int32_t prompt[] = {3, 1, 4};
    sp_model model = sp_context_model(context);
    sp_device_loop of_device = sp_context_loop(context);
    sp_decode_plan plan = {.rule = sp_accept_find(rule), .drafter = sp_drafter_find("left"), .window = window,
                           .sampling = {7, 1, cfg_scale, 0.5f, 0, 1}, .prompt = {prompt, 3},
                           .loop = loop ? &of_device : NULL};
    SP_TEST_OK(sp_decode(d, &model, &plan, err));
}

/* The picture of pathwise is that of ar, and the loop of the device draws what the host's draws over the same passes,
 * in as many of them. */
static void pictures(void **state)
{
    (void)state;
    pair p;
    sp_context *context;
    sp_decoder *d[2];
    int32_t plain[POSITIONS];
    open_pair(&p, (shape){64, 2, 2, 96});
    SP_TEST_OK(sp_context_open(&context, p.there, NULL, WINDOW, 1, err));
    for (int i = 0; i < 2; i++) SP_TEST_OK(sp_decoder_open(&d[i], CODES, 8, 8, sp_ops_find("ref"), WINDOW, err));
    static const struct { size_t window; float cfg_scale; } cases[] = {{WINDOW, 1}, {7, 2}};
    for (size_t i = 0; i < 2; i++) {
        size_t window = cases[i].window;
        float cfg_scale = cases[i].cfg_scale;
        draw(d[0], context, false, "ar", 1, cfg_scale);
        memcpy(plain, d[0]->tokens, sizeof plain);
        draw(d[0], context, false, "pathwise", window, cfg_scale);
        draw(d[1], context, true, "pathwise", window, cfg_scale);
        assert_memory_equal(d[0]->tokens, plain, sizeof plain);
        assert_memory_equal(d[1]->tokens, plain, sizeof plain);
        assert_int_equal(d[0]->passes, d[1]->passes);
        assert_true(d[0]->passes < POSITIONS);
    }
    for (int i = 0; i < 2; i++) sp_decoder_close(d[i]);
    sp_context_close(context);
    close_pair(&p);
}

/* Wherever the device fails, opening and running end in SP_EDEVICE, and everything is given back. */
static void faults(void **state)
{
    (void)state;
    pair p;
    if (!sp_fault_possible()) skip();
    open_pair(&p, (shape){64, 1, 2, 64});
    size_t held = sp_fault_allocations();
    int failures = 0;
    for (long calls = 0; calls < 40; calls++) {
        sp_error error = {0};
        sp_context *context = NULL;
        sp_fault_lose(calls);
        sp_status status = sp_context_open(&context, p.there, NULL, WINDOW, 1, &error);
        if (status == SP_OK) {
            sp_model model = sp_context_model(context);
            static const int32_t prompt[] = {1};
            status = model.ops->begin(model.state, &(sp_model_prompt){prompt, 1}, true, NULL, &error);
        }
        sp_fault_lose(-1);
        sp_context_close(context);
        if (status != SP_OK) {
            assert_int_equal(status, SP_EDEVICE);
            assert_non_null(strstr(error.message, "--device cpu"));
            failures++;
        }
        assert_int_equal(sp_fault_allocations(), held);
    }
    assert_true(failures > 10);
    sp_fault_memory(1 << 10);
    sp_error error = {0};
    sp_context *context = NULL;
    assert_int_equal(sp_context_open(&context, p.there, NULL, WINDOW, 1, &error), SP_EDEVICE);
    assert_non_null(strstr(error.message, "out of memory"));
    sp_fault_memory(0);
    close_pair(&p);
    assert_int_equal(sp_fault_allocations(), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(matches_reference), cmocka_unit_test(windows_have_the_same_bits),
        cmocka_unit_test(trees_and_what_is_kept), cmocka_unit_test(pictures), cmocka_unit_test(faults)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
