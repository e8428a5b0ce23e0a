/* Models with continuous tokens on a device, over the seam a program uses: features of the transformer and laws of the
 * head under them against kernels/ref, bits of rows in any window, whole pictures, and faults. */
#include "acceptance/chain.h"
#include "decode/chain.h"
#include "model/latent.h"
#include "tests/cuda/faults.h"
#include "tests/cuda/nearness.h"

enum { MOST_DIM = 48, MOST_LATENT = 5, MOST_POSITIONS = 16, WINDOW = MOST_POSITIONS };

extern const sp_device_ops *sp_device_functions(void);

typedef struct model {
    const char *name;
    sp_model_config config;
    const sp_tensors *tensors;
    sp_model_prompt prompt;
} model;

/* SphereAR of tests/golden, a class number its prompt; and a small one of the sample's family with grouped keys,
 * learned positions of the prefix and norms of heads, but without a bias of the latents. */
static struct {
    sp_tensors *classes;
    checkpoint text;
    model of[2];
} models;
enum { N_MODELS = sizeof models.of / sizeof *models.of };

static const char text_config[] =
    "{\"model_type\":\"specular\",\"transformer\":{\"dim\":48,\"layers\":2,\"heads\":4,\"kv_heads\":2,\"head_dim\":12,"
    "\"ffn_dim\":72,\"qk_norm\":\"layer\",\"rope\":\"2d\",\"rope_pairs\":\"adjacent\"},\"text\":{\"vocab\":32,"
    "\"length\":4,\"pad_id\":0,\"learned_positions\":true},\"latents\":{\"dim\":5,\"grid\":[2,4]},\"head\":{"
    "\"width\":24,\"blocks\":1,\"time_width\":16,\"sampler\":\"velocity\",\"steps\":2,\"stop\":0.96,"
    "\"terminal_noise\":0.1},\"sampling\":{\"cfg_scale\":2}}";

static checkpoint make_text(const sp_model_config *m)
{
    const sp_head_config *h = &m->diffusion;
    size_t q = m->heads * m->head_dim, kv = m->kv_heads * m->head_dim;
    checkpoint c = {0};
    add_tensor(&c, SP_SHAPE2(m->prefix_vocab, m->dim), "text.embedding.weight");
    add_tensor(&c, SP_SHAPE2(m->prefix_length, m->dim), "text.position");
    add_tensor(&c, SP_SHAPE2(m->dim, m->latent_dim), "latents.input.weight");
    for (size_t l = 0; l < m->layers; l++) {
        add_tensor(&c, SP_SHAPE2(q, m->dim), "layers.%zu.attention.q.weight", l);
        add_tensor(&c, SP_SHAPE2(kv, m->dim), "layers.%zu.attention.k.weight", l);
        add_tensor(&c, SP_SHAPE2(kv, m->dim), "layers.%zu.attention.v.weight", l);
        add_tensor(&c, SP_SHAPE2(m->dim, q), "layers.%zu.attention.o.weight", l);
        add_tensor(&c, SP_SHAPE1(m->head_dim), "layers.%zu.attention.q_norm.weight", l);
        add_tensor(&c, SP_SHAPE1(m->head_dim), "layers.%zu.attention.k_norm.weight", l);
        add_tensor(&c, SP_SHAPE1(m->dim), "layers.%zu.attention_norm.weight", l);
        add_tensor(&c, SP_SHAPE1(m->dim), "layers.%zu.ffn_norm.weight", l);
        add_tensor(&c, SP_SHAPE2(m->ffn_dim, m->dim), "layers.%zu.ffn.gate.weight", l);
        add_tensor(&c, SP_SHAPE2(m->ffn_dim, m->dim), "layers.%zu.ffn.up.weight", l);
        add_tensor(&c, SP_SHAPE2(m->dim, m->ffn_dim), "layers.%zu.ffn.down.weight", l);
    }
    add_tensor(&c, SP_SHAPE1(m->dim), "norm.weight");
    add_linear(&c, "head.time.0", h->width, h->time_width);
    add_linear(&c, "head.time.2", h->width, h->width);
    add_linear(&c, "head.condition", h->width, m->dim);
    add_linear(&c, "head.input", h->width, m->latent_dim);
    add_linear(&c, "head.modulation.0", 3 * h->width, h->width);
    add_linear(&c, "head.blocks.0.norm", h->width, 1);
    add_linear(&c, "head.blocks.0.up", 2 * h->hidden, h->width);
    add_linear(&c, "head.blocks.0.down", h->width, h->hidden);
    add_linear(&c, "head.final.modulation", 2 * h->width, h->width);
    add_linear(&c, "head.final.output", m->latent_dim, h->width);
    for (size_t i = 0; i < c.n; i++)
        if (strcmp(c.entries[i].name, "head.blocks.0.norm.weight") == 0) c.entries[i].shape = SP_SHAPE1(h->width);
    open_checkpoint(&c, NULL);
    /* Matrices that keep the size of what they multiply; gains about 1. */
    for (size_t i = 0; i < c.n; i++) {
        const entry *e = &c.entries[i];
        float scale = e->shape.rank == 2 ? 1.7f / sqrtf((float)e->shape.size[1]) : 0.3f;
        float offset = strstr(e->name, "norm.weight") ? 1 : 0;
        fill_entry(&c, i, offset, scale);
    }
    return c;
}

static int open_models(void **state)
{
    (void)state;
    static const char folder[] = SP_SOURCE_DIR "/tests/golden/spherear-tiny";
    static const int32_t class[] = {3}, words[] = {7, 1, 20};
    model *a = &models.of[0], *b = &models.of[1];
    *a = (model){.name = "spherear", .prompt = {class, 1}};
    SP_TEST_OK(sp_model_config_load(folder, &a->config, err));
    SP_TEST_OK(sp_tensors_open(&models.classes, folder, err));
    a->config.diffusion.blocks = 2; /* each its own group, as before; the last two are left out */
    a->config.diffusion.groups = 1;
    a->config.diffusion.chain.steps = 2;
    a->config.diffusion.chain.terminal_noise = 0.1f;
    a->tensors = models.classes;
    *b = (model){.name = "specular", .prompt = {words, 3}};
    SP_TEST_OK(sp_model_config_parse("test", text_config, strlen(text_config), &b->config, err));
    models.text = make_text(&b->config);
    b->tensors = models.text.tensors;
    return 0;
}

static int close_models(void **state)
{
    (void)state;
    sp_tensors_close(models.classes);
    free_checkpoint(&models.text);
    return 0;
}

typedef struct opened {
    sp_latent *latent;
    sp_latent_context *context;
    sp_latent_model model;
    sp_pool *pool;
} opened;

/* Where a model runs. */
typedef enum { EXACT, HERE, THERE } place;

static opened open_at(const model *m, place at)
{
    opened o = {0};
    SP_TEST_OK(sp_pool_open(&o.pool, 1, err));
    if (at == THERE) SP_TEST_OK(sp_latent_open_on(&o.latent, &m->config, m->tensors, sp_device_functions(), 0, err));
    else SP_TEST_OK(sp_latent_open(&o.latent, &m->config, m->tensors, sp_ops_find("ref"), at == HERE, err));
    SP_TEST_OK(sp_latent_context_open(&o.context, o.latent, o.pool, WINDOW, err));
    o.model = sp_latent_context_model(o.context);
    assert_int_equal(sp_latent_device_bytes(o.latent) > 0, at == THERE);
    assert_int_equal(sp_latent_context_device_bytes(o.context) > 0, at == THERE);
    return o;
}

static void close_opened(opened o)
{
    sp_latent_context_close(o.context);
    sp_latent_close(o.latent);
    sp_pool_close(o.pool);
}

static sp_transformer *open_transformer(const model *m, place at)
{
    sp_transformer *t;
    const sp_ops *ops = at == THERE ? sp_device_pack_ops() : sp_ops_find("ref");
    SP_TEST_OK(sp_transformer_open(&t, &m->config, m->tensors, ops, at != EXACT, err));
    if (at == THERE) SP_TEST_OK(sp_transformer_use_device(t, sp_device_functions()->models, 0, err));
    return t;
}

static size_t positions(const model *m) { return m->config.rows * m->config.columns; }

/* Tokens, the one before position 0 in front: NaN, as is what a window does not read. */
static void tokens_of(const model *m, size_t n, float *out)
{
    size_t dim = m->config.latent_dim;
    for (size_t i = 0; i < (MOST_POSITIONS + 1) * dim; i++)
        out[i] = i < dim || i >= n * dim ? NAN : 1.5f * sp_test_value(77, i);
}

/* Features [2, positions, dim] by windows of n rows. */
static void run(const model *m, const sp_transformer *t, size_t n, float *features)
{
    size_t dim = m->config.dim, all = positions(m);
    float tokens[(MOST_POSITIONS + 1) * MOST_LATENT], window[2 * WINDOW * MOST_DIM];
    sp_context *context;
    SP_TEST_OK(sp_context_open(&context, t, NULL, WINDOW, 1, err));
    sp_model by = sp_context_model(context);
    assert_null(sp_context_loop(context).ops);
    SP_TEST_OK(by.ops->begin(by.state, &m->prompt, true, NULL, err));
    for (size_t first = 0; first < all; first += n) {
        size_t rows = n < all - first ? n : all - first;
        tokens_of(m, first + rows, tokens);
        sp_model_window w = {.first = first, .n = rows, .latents = tokens + first * m->config.latent_dim,
                             .features = window};
        SP_TEST_OK(by.ops->forward(by.state, &w, err));
        for (size_t s = 0; s < 2; s++)
            memcpy(features + (s * all + first) * dim, window + s * rows * dim, rows * dim * sizeof *features);
    }
    sp_context_close(context);
}

/* The device and ref in bf16 round the same numbers and differ in the order of sums; so neither may be further from
 * float arithmetic than twice what the other is. */
static void features_match(void **state)
{
    (void)state;
    enum { COUNT = 2 * MOST_POSITIONS * MOST_DIM };
    for (const model *m = models.of; m < models.of + N_MODELS; m++) {
        float out[3][COUNT], windows[COUNT];
        size_t dim = m->config.dim, rows = 2 * positions(m), bytes = rows * dim * sizeof **out;
        for (place at = EXACT; at <= THERE; at++) {
            sp_transformer *t = open_transformer(m, at);
            run(m, t, WINDOW, out[at]);
            static const size_t sizes[] = {1, 3, 7};
            for (size_t i = 0; at == THERE && i < 3; i++) {
                run(m, t, sizes[i], windows);
                if (memcmp(out[at], windows, bytes) != 0)
                    fail_msg("%s: windows of %zu have other bits than one of %d", m->name, sizes[i], WINDOW);
            }
            sp_transformer_close(t);
        }
        double here = apart(out[HERE], out[EXACT], rows, dim);
        double there = apart(out[THERE], out[EXACT], rows, dim);
        print_message("%s: features are %.2g from float, those of ref in bf16 %.2g\n", m->name, there, here);
        if (!(here > 1e-4 && here < 0.05 && there <= 2 * here && here <= 2 * there))
            fail_msg("%s: features are %g from float, those of ref in bf16 %g", m->name, there, here);
        assert_memory_not_equal(out[THERE], out[THERE] + rows / 2 * dim, dim * sizeof **out);
    }
}

/* Chains of positions first .. first + n - 1, whose conditions stand from row 0 on, under their own noise. */
static void run_chains(const sp_latent_model *by, size_t first, size_t n, float *state, float *mean, float *deviation)
{
    int32_t row[WINDOW];
    uint32_t position[WINDOW];
    for (size_t j = 0; j < n; j++) {
        row[j] = (int32_t)j;
        position[j] = (uint32_t)(first + j);
    }
    sp_device_chains chains = {.n = n, .row = row, .position = position, .seed = 5, .image = 1,
                               .purpose = SP_DRAW_CHAIN, .state = state, .mean = mean, .deviation = deviation};
    SP_TEST_OK(by->ops->chains(by->state, &chains, err));
}

/* The same law by the head of the processor: chains of one step. */
static void step_chains(const sp_latent_model *by, size_t first, size_t n, float *mean, float *deviation)
{
    int32_t row[WINDOW];
    float state[WINDOW * MOST_LATENT];
    for (size_t j = 0; j < n; j++) {
        row[j] = (int32_t)j;
        sp_chain_noise(&(sp_chain_draw){5, 1, (uint32_t)(first + j), 0}, SP_DRAW_CHAIN, 0, by->dim,
                       state + j * by->dim);
    }
    sp_chain_rows rows = {.n = n, .row = row, .state = state, .mean = mean, .deviation = deviation};
    SP_TEST_OK(by->ops->step(by->state, &rows, err));
}

/* What the transformer left on the device is what the head is under: laws of the first step of every position, in
 * windows of 5, with guidance and, of the smaller model, without. As in nearness.h bf16 moves a number by up to D
 * from float, and another order of sums by as much again. */
static void laws_under_conditions(void **state)
{
    (void)state;
    enum { N = 5, COUNT = MOST_POSITIONS * MOST_LATENT };
    for (const model *m = models.of; m < models.of + N_MODELS; m++) {
        model one = *m;
        one.config.diffusion.chain.steps = 1;
        for (int guided = m == models.of; guided < 2; guided++) {
            float mean[3][COUNT], deviation[3][COUNT], ends[COUNT], tokens[COUNT + MOST_LATENT], moved = 0;
            size_t dim = m->config.latent_dim, all = positions(m);
            sp_latent_guidance guidance = {guided ? 3.0f : 1.0f, 0.9f};
            for (place at = EXACT; at <= THERE; at++) {
                opened o = open_at(&one, at);
                SP_TEST_OK(o.model.ops->begin(o.model.state, &m->prompt, &guidance, err));
                for (size_t first = 0; first < all; first += N) {
                    size_t n = all - first < N ? all - first : N, to = first * dim;
                    tokens_of(m, first + n, tokens);
                    SP_TEST_OK(o.model.ops->condition(o.model.state, first, n, tokens + to, err));
                    if (at == THERE) run_chains(&o.model, first, n, ends, mean[at] + to, deviation[at] + to);
                    else step_chains(&o.model, first, n, mean[at] + to, deviation[at] + to);
                }
                close_opened(o);
            }
            for (size_t i = 0; i < all * dim; i++) moved = fmaxf(moved, fabsf(mean[EXACT][i] - mean[HERE][i]));
            for (size_t i = 0; i < all * dim; i++) {
                assert_true(deviation[THERE][i] == deviation[EXACT][i]);
                if (!(fabsf(mean[THERE][i] - mean[EXACT][i]) <= 2 * moved))
                    fail_msg("%s: number %zu of the means is %g, expected %g within %g", m->name, i,
                             (double)mean[THERE][i], (double)mean[EXACT][i], 2 * (double)moved);
            }
        }
    }
}

static void draw(const sp_latent_model *by, sp_chain_decoder *d, const model *m, const char *rule, size_t window,
                 bool path_front, const sp_latent_model *drafter)
{
    sp_chain_plan plan = {.rule = sp_chain_find(rule), .window = window,
                          .settings = {path_front, 3, 0.25f, .align = true, .tolerance = 0.3f},
                          .guidance = {2, 1}, .draft_init = "left", .seed = 5, .image = 1,
                          .prompt = m->prompt, .drafter = drafter};
    SP_TEST_OK(sp_chain_decode(d, by, &plan, err));
}

/* Fed its own tokens in two windows, the chains of a picture by ar end in them, bit for bit. */
static void check_fed(const opened *o, const model *m, const float *latents)
{
    enum { COUNT = MOST_POSITIONS * MOST_LATENT };
    size_t all = positions(m), dim = m->config.latent_dim, first_window = all / 2 + 3;
    float tokens[COUNT + MOST_LATENT], ends[COUNT], mean[COUNT], deviation[COUNT];
    for (size_t i = 0; i < dim; i++) tokens[i] = NAN;
    memcpy(tokens + dim, latents, all * dim * sizeof *tokens);
    SP_TEST_OK(o->model.ops->begin(o->model.state, &m->prompt, &(sp_latent_guidance){2, 1}, err));
    for (size_t first = 0, n; first < all; first += n) {
        n = first ? all - first : first_window;
        SP_TEST_OK(o->model.ops->condition(o->model.state, first, n, tokens + first * dim, err));
        run_chains(&o->model, first, n, ends + first * dim, mean, deviation);
    }
    o->model.ops->project(o->model.state, all, ends, ends);
    assert_memory_equal(ends, latents, all * dim * sizeof *ends);
}

/* Whole pictures: a window of mirror draws in fewer passes than ar; with a window of one position, and with drafts of
 * the model itself, which all pass, the picture is ar's. Those of the classes take SP_TEST_ALL: device_latent.sh draws
 * some too. */
static void pictures(void **state)
{
    (void)state;
    for (const model *m = models.of + (getenv("SP_TEST_ALL") ? 0 : 1); m < models.of + N_MODELS; m++) {
        float tokens[MOST_POSITIONS * MOST_LATENT];
        size_t all = positions(m), bytes = all * m->config.latent_dim * sizeof *tokens;
        opened o = open_at(m, THERE), second = open_at(m, THERE);
        sp_chain_decoder *d;
        SP_TEST_OK(sp_chain_decoder_open(&d, &o.model, &second.model, NULL, WINDOW, err));
        draw(&o.model, d, m, "ar", 1, false, NULL);
        assert_int_equal(d->passes, all);
        memcpy(tokens, d->latents, bytes);
        check_fed(&o, m, tokens);
        draw(&o.model, d, m, "mirror", 6, false, NULL);
        assert_in_range(d->passes, 2, all - 1);
        draw(&o.model, d, m, "mirror", 1, false, NULL);
        assert_memory_equal(tokens, d->latents, bytes);
        draw(&o.model, d, m, "cspd", 1, false, &second.model);
        assert_memory_equal(tokens, d->latents, bytes);
        assert_int_equal(d->accepted, d->drafted);
        assert_true(d->passes < all);
        sp_chain_decoder_close(d);
        close_opened(second);
        close_opened(o);
    }
}

/* A picture step by step, where the rule's code on the processor couples, is that of whole chains, bit for bit. With
 * the path test at the front it is ar's in windows of one position, and another in longer ones. */
static void pictures_by_step(void **state)
{
    (void)state;
    const model *m = &models.of[1];
    float tokens[MOST_POSITIONS * MOST_LATENT];
    size_t all = positions(m), bytes = all * m->config.latent_dim * sizeof *tokens;
    opened o = open_at(m, THERE);
    sp_latent_model_ops one_by_one = *o.model.ops;
    sp_latent_model by_step = o.model;
    sp_chain_decoder *d;
    one_by_one.chains = NULL;
    by_step.ops = &one_by_one;
    assert_true(o.model.rows_apart == SIZE_MAX);
    SP_TEST_OK(sp_chain_decoder_open(&d, &o.model, NULL, NULL, WINDOW, err));
    draw(&o.model, d, m, "mirror", 6, false, NULL);
    memcpy(tokens, d->latents, bytes);
    size_t passes = d->passes;
    draw(&by_step, d, m, "mirror", 6, false, NULL);
    assert_memory_equal(tokens, d->latents, bytes);
    assert_int_equal(d->passes, passes);
    draw(&o.model, d, m, "mirror", 6, true, NULL);
    assert_memory_not_equal(tokens, d->latents, bytes);
    draw(&o.model, d, m, "ar", 1, false, NULL);
    memcpy(tokens, d->latents, bytes);
    draw(&o.model, d, m, "mirror", 1, true, NULL);
    assert_memory_equal(tokens, d->latents, bytes);
    sp_chain_decoder_close(d);
    close_opened(o);
}

/* From weights to the chains of a first window and a step. */
static sp_status go(const model *m, opened *o, sp_error *err)
{
    float tokens[(MOST_POSITIONS + 1) * MOST_LATENT], out[3][MOST_LATENT];
    sp_device_chains chains = {.n = 1, .row = &(int32_t){0}, .position = &(uint32_t){0}, .purpose = SP_DRAW_CHAIN,
                               .state = out[0], .mean = out[1], .deviation = out[2]};
    tokens_of(m, 2, tokens);
    SP_TRY(sp_latent_open_on(&o->latent, &m->config, m->tensors, sp_device_functions(), 0, err));
    SP_TRY(sp_latent_context_open(&o->context, o->latent, NULL, WINDOW, err));
    o->model = sp_latent_context_model(o->context);
    SP_TRY(o->model.ops->begin(o->model.state, &m->prompt, &(sp_latent_guidance){2, 1}, err));
    SP_TRY(o->model.ops->condition(o->model.state, 0, 2, tokens, err));
    SP_TRY(o->model.ops->chains(o->model.state, &chains, err));
    sp_chain_rows rows = {.n = 1, .row = &(int32_t){1}, .state = out[0], .mean = out[1], .deviation = out[2]};
    return o->model.ops->step(o->model.state, &rows, err);
}

/* Wherever the device fails, all ends in SP_EDEVICE and one line, and everything is given back. */
static void faults(void **state)
{
    (void)state;
    if (!sp_fault_possible()) skip();
    const model *m = &models.of[1];
    long stride = getenv("SP_TEST_ALL") ? 1 : 7, failures = 0;
    for (long calls = 0;; calls += stride) {
        opened o = {0};
        sp_error error = {0};
        sp_fault_lose(calls);
        sp_status status = go(m, &o, &error);
        sp_fault_lose(-1);
        sp_latent_context_close(o.context);
        sp_latent_close(o.latent);
        assert_int_equal(sp_fault_allocations(), 0);
        assert_int_equal(error.status, status);
        if (status == SP_OK) break;
        assert_int_equal(status, SP_EDEVICE);
        assert_non_null(strstr(error.message, "--device cpu"));
        failures++;
    }
    assert_true(failures * stride > 100);
    for (size_t memory = 1 << 10; memory <= 1 << 20; memory <<= 5) {
        opened o = {0};
        sp_error error = {0};
        sp_fault_memory(memory);
        assert_int_equal(go(m, &o, &error), memory < 1 << 20 ? SP_EDEVICE : SP_OK);
        if (memory < 1 << 20) assert_non_null(strstr(error.message, "out of memory"));
        sp_latent_context_close(o.context);
        sp_latent_close(o.latent);
        assert_int_equal(sp_fault_allocations(), 0);
    }
    sp_fault_memory(0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(features_match),       cmocka_unit_test(laws_under_conditions), cmocka_unit_test(pictures),
        cmocka_unit_test(pictures_by_step),     cmocka_unit_test(faults),
    };
    return cmocka_run_group_tests(tests, open_models, close_models);
}
