/* Trees over a model on a device: the host's loop draws them, the device checks them, the drafting model is the
 * processor's. It is given the device's features, has the laws it has beside a model on the processor, and where the
 * tokens are known in advance, they are those of ar. */
#include <unistd.h>

#include "decode/decode.h"
#include "model/eagle.h"
#include "unit/transformer_checkpoint.h"

enum { WINDOW = 12, DIM = 64, FFN = 96, ROWS = 3, COLUMNS = 8, TOKENS = ROWS * COLUMNS };

extern const sp_device_ops *sp_device_functions(void);

static const shape small = {DIM, 1, 2, FFN};
static char folder[] = "/tmp/specular-trees-XXXXXX";

static void put(const char *name, const void *data, size_t size)
{
    char path[128];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    FILE *file = fopen(path, "wb");
    assert_non_null(file);
    assert_int_equal(fwrite(data, 1, size, file), size);
    assert_int_equal(fclose(file), 0);
}

/* Weights of about 1/4: with those of fill the layers add too little to be seen in the tokens. */
static void strengthen(checkpoint *c)
{
    for (size_t i = 0; i < c->total; i++) c->data[i] = (uint16_t)(c->data[i] + 0x100u);
}

/* A drafter of random weights for the small model, in files. */
static void write_drafter(void)
{
    static const char config[] = "{\"hidden_size\":64,\"vocab_size\":48,\"num_attention_heads\":4,"
                                 "\"intermediate_size\":80}";
    static const char *const squares[] = {"q", "k", "v", "o"};
    checkpoint c = {0};
    add_tensor(&c, SP_SHAPE2(CODES, DIM), "embed_tokens.weight");
    add_tensor(&c, SP_SHAPE2(DIM, 2 * DIM), "fc.weight");
    for (size_t i = 0; i < 4; i++)
        add_tensor(&c, SP_SHAPE2(DIM, DIM), "layers.0.self_attn.%s_proj.weight", squares[i]);
    add_tensor(&c, SP_SHAPE1(DIM), "layers.0.post_attention_layernorm.weight");
    add_tensor(&c, SP_SHAPE2(80, DIM), "layers.0.mlp.gate_proj.weight");
    add_tensor(&c, SP_SHAPE2(80, DIM), "layers.0.mlp.up_proj.weight");
    add_tensor(&c, SP_SHAPE2(DIM, 80), "layers.0.mlp.down_proj.weight");
    open_checkpoint(&c, NULL);
    fill(c.data, c.total);
    strengthen(&c);
    put("config.json", config, strlen(config));
    put("model.safetensors", c.image, 8 + c.header + c.total * sizeof *c.data);
    free_checkpoint(&c);
}

/* A model with its drafter, and what draws pictures with them. */
typedef struct drawer {
    sp_transformer *target;
    sp_context *context;
    sp_eagle *eagle;
    sp_eagle_context *drafter;
    sp_tree *tree;
    sp_decoder *decoder;
} drawer;

static void open_drawer(drawer *d, const checkpoint *file, const sp_model_config *config, bool on_device)
{
    const sp_ops *ops = sp_ops_find("ref");
    SP_TEST_OK(sp_transformer_open(&d->target, config, file->tensors, on_device ? sp_device_pack_ops() : ops, true,
                                   err));
    if (on_device) SP_TEST_OK(sp_transformer_use_device(d->target, sp_device_functions()->models, 0, err));
    SP_TEST_OK(sp_context_open(&d->context, d->target, NULL, WINDOW, 1, err));
    SP_TEST_OK(sp_eagle_open(&d->eagle, folder, d->target, file->tensors, ops, "", err));
    SP_TEST_OK(sp_eagle_context_open(&d->drafter, d->eagle, NULL, WINDOW, err));
    sp_model model = sp_context_model(d->context);
    sp_draft_model draft = sp_eagle_model(d->drafter);
    SP_TEST_OK(sp_tree_open(&d->tree, &model, &draft, WINDOW, err));
    SP_TEST_OK(sp_decoder_open(&d->decoder, CODES, ROWS, COLUMNS, ops, WINDOW, err));
}

static void close_drawer(drawer *d)
{
    sp_decoder_close(d->decoder);
    sp_tree_close(d->tree);
    sp_eagle_context_close(d->drafter);
    sp_eagle_close(d->eagle);
    sp_context_close(d->context);
    sp_transformer_close(d->target);
}

static const int32_t prompt[] = {3, 1, 4};
static const sp_model_prompt words = {prompt, 3};

/* Distance as a part of the size: rows of another position or stream are about 1 apart, roundings to bf16 in a layer
 * 2^-6 or less. */
static void assert_near(const char *what, const float *x, const float *y, size_t count)
{
    double apart = 0, size = 0;
    for (size_t i = 0; i < count; i++) {
        apart += (double)(x[i] - y[i]) * (double)(x[i] - y[i]);
        size += (double)y[i] * (double)y[i];
    }
    if (!(apart <= size / 256)) fail_msg("%s are %.3g of their size apart", what, sqrt(apart / size));
}

/* Of the prefix and of a tree, both streams. */
static void features_are_alike(drawer *both)
{
    enum { PREFIX_FLOATS = 2 * (PREFIX - 1) * DIM, N = 5, FIRST = 2 };
    static const int32_t fed[FIRST] = {0, 30}, ids[N] = {7, 11, 13, 17, 19}, parents[N] = {0, 0, 0, 1, 2};
    float prefix[2][PREFIX_FLOATS], tree[2][2 * N * DIM], logits[2 * N * CODES];
    for (size_t i = 0; i < 2; i++) {
        sp_model model = sp_context_model(both[i].context);
        SP_TEST_OK(model.ops->begin(model.state, &words, true, prefix[i], err));
        SP_TEST_OK(model.ops->forward(model.state, &(sp_model_window){.n = FIRST, .ids = fed, .logits = logits}, err));
        sp_model_window window = {.first = FIRST, .n = N, .ids = ids, .parents = parents, .logits = logits,
                                  .features = tree[i]};
        SP_TEST_OK(model.ops->forward(model.state, &window, err));
    }
    assert_near("features of the prefix", prefix[1], prefix[0], PREFIX_FLOATS);
    assert_near("features of a tree", tree[1], tree[0], 2 * N * DIM);
}

/* The same features and tokens have the same laws, bit for bit, wherever the target is. */
static void drafts_are_the_same(drawer *both)
{
    enum { N = 3 };
    static const int32_t ids[N] = {5, 40, 11};
    float features[2 * N * DIM], logits[2][2 * CODES];
    for (size_t i = 0; i < sizeof features / sizeof *features; i++) features[i] = sp_test_value(1, i);
    for (size_t i = 0; i < 2; i++) {
        sp_draft_model draft = sp_eagle_model(both[i].drafter);
        SP_TEST_OK(draft.ops->begin(draft.state, features, true, err));
        SP_TEST_OK(draft.ops->extend(draft.state, 0, ids, features, N, logits[i], err));
    }
    assert_memory_equal(logits[0], logits[1], sizeof logits[0]);
    assert_memory_not_equal(logits[0], logits[0] + CODES, sizeof logits[0] / 2);
}

static sp_exactness draw(drawer *d, const char *rule, size_t branches, float cfg_scale, float temperature, int32_t *out)
{
    sp_model model = sp_context_model(d->context);
    sp_device_loop loop = sp_context_loop(d->context);
    float codes[CODES] = {0};
    sp_decode_plan plan = {.rule = sp_accept_find(rule), .drafter = sp_drafter_find("left"), .window = WINDOW,
                           .branches = branches, .sampling = {7, 1, cfg_scale, temperature, 0, 1}, .prompt = words,
                           .tree = d->tree, .loop = loop.ops ? &loop : NULL,
                           .relaxation = {.codes = codes, .code_dim = 1}};
    SP_TEST_OK(sp_decode(d->decoder, &model, &plan, err));
    memcpy(out, d->decoder->tokens, TOKENS * sizeof *out);
    return plan.rule->exactness;
}

static void pictures_are_known(drawer *d)
{
    int32_t plain[TOKENS], tokens[TOKENS], relaxed[TOKENS];
    static const struct { float cfg_scale, temperature; size_t branches; } cases[] = {{1.5f, 0, 8}, {1, 0.5f, 3}};
    for (size_t i = 0; i < 2; i++) {
        float cfg_scale = cases[i].cfg_scale, temperature = cases[i].temperature;
        size_t branches = cases[i].branches;
        draw(d, "ar", 1, cfg_scale, temperature, plain);
        assert_int_equal(draw(d, "pathwise", branches, cfg_scale, temperature, tokens), SP_IDENTICAL);
        assert_memory_equal(tokens, plain, sizeof plain);
        assert_int_equal(draw(d, "eagle", branches, cfg_scale, temperature, tokens), SP_EXACT);
        assert_true(d->decoder->passes < TOKENS);
        if (temperature <= 0) assert_memory_equal(tokens, plain, sizeof plain);
        /* A neighbourhood of no codes is that of the exact rule. */
        assert_int_equal(draw(d, "lantern", branches, cfg_scale, temperature, relaxed), SP_RELAXED);
        assert_memory_equal(relaxed, tokens, sizeof tokens);
    }
}

static void trees_on_a_device(void **state)
{
    (void)state;
    checkpoint file = make(small);
    sp_model_config config = config_of(small);
    drawer both[2] = {{0}};
    strengthen(&file);
    config.rows = ROWS;
    for (int i = 0; i < 2; i++) open_drawer(&both[i], &file, &config, i == 1);
    features_are_alike(both);
    drafts_are_the_same(both);
    pictures_are_known(&both[1]);
    for (int i = 0; i < 2; i++) close_drawer(&both[i]);
    free_checkpoint(&file);
}

static int make_folder(void **state)
{
    (void)state;
    if (!mkdtemp(folder)) return -1;
    write_drafter();
    return 0;
}

static int remove_folder(void **state)
{
    static const char *const names[] = {"config.json", "model.safetensors"};
    char path[128];
    (void)state;
    for (size_t i = 0; i < 2; i++) {
        snprintf(path, sizeof path, "%s/%s", folder, names[i]);
        unlink(path);
    }
    return rmdir(folder);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(trees_on_a_device)};
    return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
