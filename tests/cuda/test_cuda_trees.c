/* Trees over a model on a device: the host's loop draws them, the drafting model and the model that checks them are on
 * the device. Features and laws of drafts are as near to float arithmetic as those of ref in bf16, and have the same
 * bits however many rows share a pass; where tokens are known in advance, they are those of ar; faults end in one
 * line. */
#include <unistd.h>

#include "decode/decode.h"
#include "model/eagle.h"
#include "tests/cuda/apart.h"
#include "tests/cuda/faults.h"
#include "unit/transformer_checkpoint.h"

/* A prefix longer than the window comes in two parts. */
enum { WINDOW = 12, LEAD = 16, DIM = 64, FFN = 96, ROWS = 3, COLUMNS = 8, TOKENS = ROWS * COLUMNS };

/* Float arithmetic, bf16 arithmetic, bf16 on the device. */
enum { EXACT, HERE, THERE, N_PLACES };

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
    add_tensor(&c, SP_SHAPE1(DIM), "fc.bias");
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

static void open_drawer(drawer *d, const checkpoint *file, const sp_model_config *config, int where)
{
    const sp_ops *ops = sp_ops_find("ref");
    SP_TEST_OK(sp_transformer_open(&d->target, config, file->tensors, where == THERE ? sp_device_pack_ops() : ops,
                                   where != EXACT, err));
    if (where == THERE) SP_TEST_OK(sp_transformer_use_device(d->target, sp_device_functions()->models, 0, err));
    SP_TEST_OK(sp_context_open(&d->context, d->target, NULL, WINDOW, 1, err));
    SP_TEST_OK(sp_eagle_open(&d->eagle, folder, d->target, "", err));
    SP_TEST_OK(sp_eagle_context_open(&d->drafter, d->eagle, NULL, WINDOW, err));
    sp_model model = sp_context_model(d->context);
    sp_draft_model draft = sp_eagle_model(d->drafter, d->context);
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

/* Of the prefix and of a tree, both streams. */
static void features_are_alike(drawer *drawers)
{
    enum { PREFIX_ROWS = 2 * (LEAD - 1), N = 5, FIRST = 2 };
    static const int32_t fed[FIRST] = {0, 30}, ids[N] = {7, 11, 13, 17, 19}, parents[N] = {0, 0, 0, 1, 2};
    float prefix[N_PLACES][PREFIX_ROWS * DIM], tree[N_PLACES][2 * N * DIM], logits[2 * N * CODES];
    for (int i = 0; i < N_PLACES; i++) {
        sp_model model = sp_context_model(drawers[i].context);
        SP_TEST_OK(model.ops->begin(model.state, &words, true, prefix[i], err));
        SP_TEST_OK(model.ops->forward(model.state, &(sp_model_window){.n = FIRST, .ids = fed, .logits = logits}, err));
        sp_model_window window = {.first = FIRST, .n = N, .ids = ids, .parents = parents, .logits = logits,
                                  .features = tree[i]};
        SP_TEST_OK(model.ops->forward(model.state, &window, err));
    }
    assert_as_near("features of the prefix", prefix[THERE], prefix[HERE], prefix[EXACT], PREFIX_ROWS, DIM);
    assert_as_near("features of a tree", tree[THERE], tree[HERE], tree[EXACT], 2 * N, DIM);
}

/* Laws [n, stream] out of [stream, n]. */
static void put_laws(const float *logits, size_t n, float **out)
{
    for (size_t j = 0; j < n; j++)
        for (size_t s = 0; s < 2; s++, *out += CODES)
            memcpy(*out, logits + (s * n + j) * CODES, CODES * sizeof **out);
}

enum { LONGEST = 6, LEVELS = 3, NODES = 8, LAWS = 2 * (1 + NODES + 1 + NODES) };

/* Tokens first .. first + n - 1 become final, step of them at a time. */
static void extend_by(const sp_draft_model *draft, size_t first, size_t n, size_t step, float **out)
{
    float values[2][LONGEST][DIM], logits[2 * CODES];
    const float *features[2 * LONGEST];
    int32_t ids[LONGEST];
    for (size_t at = first; at < first + n; at += step) {
        for (size_t j = 0; j < step; j++) ids[j] = (int32_t)((at + j) * 31 % CODES);
        for (size_t s = 0; s < 2; s++)
            for (size_t j = 0; j < step; j++) {
                float *feature = values[s][j ^ 1]; /* in another order than the tokens */
                for (size_t i = 0; i < DIM; i++) feature[i] = sp_test_value((uint32_t)s, (at + j) * DIM + i);
                features[s * step + j] = feature;
            }
        SP_TEST_OK(draft->ops->extend(draft->state, at, ids, features, step, logits, err));
    }
    put_laws(logits, 1, out);
}

/* One tree under two numberings, level by level. */
static const sp_draft_node numbered[2][NODES] = {
    {{1, 0, 7}, {2, 0, 11}, {3, 0, 13}, {4, 1, 17}, {5, 2, 19}, {6, 2, 23}, {7, 3, 29}, {8, 6, 31}},
    {{3, 0, 7}, {1, 0, 11}, {2, 0, 13}, {7, 3, 17}, {4, 1, 19}, {5, 1, 23}, {6, 2, 29}, {8, 5, 31}}};

/* A level in a pass, or a node. */
static void grow_by(const sp_draft_model *draft, bool pieces, float **out)
{
    static const size_t levels[LEVELS] = {3, 4, 1};
    float logits[2 * NODES * CODES];
    const sp_draft_node *nodes = numbered[pieces];
    for (size_t level = 0, at = 0, end = 0; level < LEVELS; level++) {
        end += levels[level];
        for (size_t step = pieces ? 1 : levels[level]; at < end; at += step) {
            SP_TEST_OK(draft->ops->grow(draft->state, nodes + at, step, logits, err));
            put_laws(logits, step, out);
        }
    }
}

/* Laws of a history with two trees. */
static void laws_of(const drawer *d, size_t window, bool pieces, float *out)
{
    float prefix[2 * (LEAD - 1) * DIM], *at = out;
    sp_eagle_context *context;
    SP_TEST_OK(sp_eagle_context_open(&context, d->eagle, NULL, window, err));
    sp_draft_model draft = sp_eagle_model(context, d->context);
    for (size_t i = 0; i < sizeof prefix / sizeof *prefix; i++) prefix[i] = sp_test_value(2, i);
    SP_TEST_OK(draft.ops->begin(draft.state, prefix, true, err));
    extend_by(&draft, 0, LONGEST, pieces ? 1 : LONGEST, &at);
    grow_by(&draft, pieces, &at);
    extend_by(&draft, LONGEST, 2, pieces ? 1 : 2, &at);
    grow_by(&draft, pieces, &at);
    assert_int_equal(at - out, LAWS * CODES);
    sp_eagle_context_close(context);
}

static void laws_are_alike(const drawer *drawers)
{
    float laws[N_PLACES][LAWS * CODES], pieces[LAWS * CODES];
    for (int i = 0; i < N_PLACES; i++) laws_of(&drawers[i], WINDOW, false, laws[i]);
    assert_as_near("laws of drafts", laws[THERE], laws[HERE], laws[EXACT], LAWS, CODES);
    laws_of(&drawers[THERE], LEAD, true, pieces);
    assert_memory_equal(laws[THERE], pieces, sizeof pieces);
    assert_true(sp_eagle_bytes(drawers[THERE].eagle) < sp_eagle_bytes(drawers[HERE].eagle));
    assert_true(sp_eagle_device_bytes(drawers[THERE].eagle) > 0);
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

/* Features that stay on the device give the laws of those that come back, each stream's for itself. */
static void features_stay(const drawer *d)
{
    enum { N = 5, PATH = 4 };
    static const int32_t ids[N] = {7, 11, 13, 17, 19}, parents[N] = {0, 0, 1, 1, 3}, path[PATH] = {0, 1, 3, 4};
    static float prefix[2 * (LEAD - 1) * DIM];
    float features[2 * N * DIM], logits[2 * N * CODES], laws[3][2 * CODES];
    const float *row[2 * PATH];
    sp_model model = sp_context_model(d->context);
    sp_draft_model draft = sp_eagle_model(d->drafter, d->context);
    assert_non_null(draft.features);
    SP_TEST_OK(model.ops->begin(model.state, &words, true, prefix, err));
    SP_TEST_OK(draft.ops->begin(draft.state, prefix, true, err));
    for (int there = 1; there >= 0; there--) {
        sp_model_window window = {.n = N, .ids = ids, .parents = parents, .logits = logits,
                                  .features = there ? NULL : features};
        SP_TEST_OK(model.ops->forward(model.state, &window, err));
        for (size_t i = 0; i < 2 * PATH; i++)
            row[i] = (there ? draft.features : features) + (i / PATH * N + (size_t)path[i % PATH]) * DIM;
        SP_TEST_OK(draft.ops->extend(draft.state, 0, ids, row, PATH, laws[there], err));
    }
    assert_memory_equal(laws[0], laws[1], sizeof laws[0]);
    memcpy(row + PATH, row, PATH * sizeof *row);
    SP_TEST_OK(draft.ops->extend(draft.state, 0, ids, row, PATH, laws[2], err));
    assert_memory_equal(laws[0], laws[2], CODES * sizeof *laws[0]);
    assert_memory_not_equal(laws[0] + CODES, laws[2] + CODES, CODES * sizeof *laws[0]);
}

static void trees_on_a_device(void **state)
{
    (void)state;
    checkpoint file = make(small);
    sp_model_config config = config_of(small);
    drawer drawers[N_PLACES] = {{0}};
    strengthen(&file);
    config.rows = ROWS;
    config.prefix_length = LEAD;
    for (int i = 0; i < N_PLACES; i++) open_drawer(&drawers[i], &file, &config, i);
    features_are_alike(drawers);
    laws_are_alike(drawers);
    features_stay(&drawers[THERE]);
    pictures_are_known(&drawers[THERE]);
    for (int i = 0; i < N_PLACES; i++) close_drawer(&drawers[i]);
    free_checkpoint(&file);
}

static sp_status draft_once(const sp_context *of_target, const sp_transformer *target, sp_error *error)
{
    static const int32_t id = 1;
    float prefix[2 * (PREFIX - 1) * DIM] = {0}, feature[DIM] = {0}, logits[2 * CODES];
    const float *const features[2] = {feature, feature};
    sp_eagle_context *context = NULL;
    sp_eagle *eagle = NULL;
    sp_status status = sp_eagle_open(&eagle, folder, target, "", error);
    if (status == SP_OK) status = sp_eagle_context_open(&context, eagle, NULL, WINDOW, error);
    sp_draft_model draft = sp_eagle_model(context, of_target);
    if (status == SP_OK) status = draft.ops->begin(draft.state, prefix, true, error);
    if (status == SP_OK) status = draft.ops->extend(draft.state, 0, &id, features, 1, logits, error);
    sp_eagle_context_close(context);
    sp_eagle_close(eagle);
    return status;
}

/* Without memory for the weights or for the context, and wherever the device is lost: it is said in a line, and
 * everything is given back. */
static void faults(void **state)
{
    (void)state;
    if (!sp_fault_possible()) skip();
    checkpoint file = make(small);
    sp_model_config config = config_of(small);
    sp_transformer *target;
    sp_context *of_target;
    SP_TEST_OK(sp_transformer_open(&target, &config, file.tensors, sp_device_pack_ops(), true, err));
    SP_TEST_OK(sp_transformer_use_device(target, sp_device_functions()->models, 0, err));
    SP_TEST_OK(sp_context_open(&of_target, target, NULL, WINDOW, 1, err));
    size_t held = sp_fault_allocations(), failures[2] = {0};
    for (int lost = 0; lost < 2; lost++) {
        sp_status status = SP_EDEVICE;
        for (size_t limit = 1; status != SP_OK; limit += lost ? 1 : limit / 4 + 1) {
            sp_error error = {0};
            sp_fault_memory(lost ? 0 : limit);
            sp_fault_lose(lost ? (long)limit : -1);
            status = draft_once(of_target, target, &error);
            sp_fault_memory(0);
            sp_fault_lose(-1);
            assert_int_equal(sp_fault_allocations(), held);
            if (status == SP_OK) continue;
            assert_int_equal(status, SP_EDEVICE);
            assert_non_null(strstr(error.message, lost ? "--device cpu" : "out of memory"));
            failures[lost]++;
        }
    }
    assert_true(failures[0] > 10 && failures[1] > 30);
    sp_context_close(of_target);
    sp_transformer_close(target);
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
    const struct CMUnitTest tests[] = {cmocka_unit_test(trees_on_a_device), cmocka_unit_test(faults)};
    return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
