/* Masked models on a device, over the seam a program uses: features of the transformer and laws of the head under them
 * against kernels/ref, whole pictures, and faults. */
#include "acceptance/chain.h"
#include "decode/masked.h"
#include "model/masked_weights.h"
#include "model/weights.h"
#include "tests/cuda/faults.h"
#include "tests/cuda/nearness.h"

enum { MOST_DIM = 32, MOST_LATENT = 5, MOST_POSITIONS = 270 };

extern const sp_device_ops *sp_device_functions(void);

typedef struct model {
    const char *name;
    sp_model_config config;
    sp_tensors *tensors;
} model;

/* MAR of tests/golden; and one of odd sizes with more places than a product has rows or attention keys a part. */
static struct {
    checkpoint wide;
    model of[2];
} models;
enum { N_MODELS = sizeof models.of / sizeof *models.of };

static const char wide_config[] =
    "{\"model_type\":\"mar\",\"transformer\":{\"dim\":24,\"layers\":1,\"decoder_layers\":1,\"heads\":2,\"head_dim\":12,"
    "\"ffn_dim\":40,\"norm\":\"layer\",\"activation\":\"gelu\",\"buffer\":3},\"classes\":{\"count\":2},\"latents\":{"
    "\"dim\":5,\"grid\":[15,18]},\"head\":{\"width\":24,\"blocks\":1,\"mlp\":\"silu\",\"modulation\":"
    "\"shift_scale_gate\",\"time_width\":16,\"sampler\":\"noise\",\"steps\":2,\"terminal_noise\":0.1},\"sampling\":{"
    "\"cfg_scale\":3,\"guidance\":\"linear\",\"passes\":5}}";

static void add_norm(checkpoint *c, const char *name, size_t width)
{
    add_tensor(c, SP_SHAPE1(width), "%s.weight", name);
    add_tensor(c, SP_SHAPE1(width), "%s.bias", name);
}

static void add_side(checkpoint *c, const sp_model_config *m, const char *side)
{
    char name[64];
    size_t width = m->heads * m->head_dim;
    const struct { const char *part; size_t rows, columns; } maps[] = {
        {"attn.qkv", 3 * width, m->dim}, {"attn.proj", m->dim, width}, {"mlp.fc1", m->ffn_dim, m->dim},
        {"mlp.fc2", m->dim, m->ffn_dim}};
    for (size_t i = 0; i < sizeof maps / sizeof *maps; i++) {
        snprintf(name, sizeof name, "%s_blocks.0.%s", side, maps[i].part);
        add_linear(c, name, maps[i].rows, maps[i].columns);
    }
    for (int i = 1; i <= 2; i++) {
        snprintf(name, sizeof name, "%s_blocks.0.norm%d", side, i);
        add_norm(c, name, m->dim);
    }
    snprintf(name, sizeof name, "%s_norm", side);
    add_norm(c, name, m->dim);
}

static checkpoint make_wide(const sp_model_config *m)
{
    const sp_head_config *h = &m->diffusion;
    size_t positions = m->rows * m->columns;
    checkpoint c = {0};
    add_tensor(&c, SP_SHAPE2(m->n_classes, m->dim), "class_emb.weight");
    add_tensor(&c, SP_SHAPE2(1, m->dim), "fake_latent");
    add_tensor(&c, (sp_shape){3, {1, 1, m->dim}}, "mask_token");
    add_tensor(&c, (sp_shape){3, {1, m->buffer + positions, m->dim}}, "encoder_pos_embed_learned");
    add_tensor(&c, (sp_shape){3, {1, m->buffer + positions, m->dim}}, "decoder_pos_embed_learned");
    add_tensor(&c, (sp_shape){3, {1, positions, m->dim}}, "diffusion_pos_embed_learned");
    add_linear(&c, "z_proj", m->dim, m->latent_dim);
    add_norm(&c, "z_proj_ln", m->dim);
    add_side(&c, m, "encoder");
    add_linear(&c, "decoder_embed", m->dim, m->dim);
    add_side(&c, m, "decoder");
    add_linear(&c, "diffloss.net.time_embed.mlp.0", h->width, h->time_width);
    add_linear(&c, "diffloss.net.time_embed.mlp.2", h->width, h->width);
    add_linear(&c, "diffloss.net.cond_embed", h->width, m->dim);
    add_linear(&c, "diffloss.net.input_proj", h->width, m->latent_dim);
    add_linear(&c, "diffloss.net.res_blocks.0.adaLN_modulation.1", 3 * h->width, h->width);
    add_norm(&c, "diffloss.net.res_blocks.0.in_ln", h->width);
    add_linear(&c, "diffloss.net.res_blocks.0.mlp.0", h->hidden, h->width);
    add_linear(&c, "diffloss.net.res_blocks.0.mlp.2", h->width, h->hidden);
    add_linear(&c, "diffloss.net.final_layer.adaLN_modulation.1", 2 * h->width, h->width);
    add_linear(&c, "diffloss.net.final_layer.linear", 2 * m->latent_dim, h->width);
    open_checkpoint(&c, NULL);
    /* Matrices that keep the size of what they multiply; gains about 1. */
    for (size_t i = 0; i < c.n; i++) {
        const entry *e = &c.entries[i];
        bool matrix = e->shape.rank == 2 && e->shape.size[0] > m->n_classes;
        float scale = matrix ? 1.7f / sqrtf((float)e->shape.size[1]) : 0.5f;
        float offset = e->shape.rank == 1 && strstr(e->name, "weight") ? 1 : 0;
        fill_entry(&c, i, offset, scale);
    }
    return c;
}

static int open_models(void **state)
{
    (void)state;
    static const char folder[] = SP_SOURCE_DIR "/tests/golden/mar-tiny";
    model *a = &models.of[0], *b = &models.of[1];
    a->name = "tiny";
    SP_TEST_OK(sp_model_config_load(folder, &a->config, err));
    SP_TEST_OK(sp_tensors_open(&a->tensors, SP_SOURCE_DIR "/tests/golden/mar-tiny/model.safetensors", err));
    a->config.diffusion.chain.steps = 2; /* the emulator's time */
    b->name = "wide";
    SP_TEST_OK(sp_model_config_parse("test", wide_config, strlen(wide_config), &b->config, err));
    models.wide = make_wide(&b->config);
    b->tensors = models.wide.tensors;
    return 0;
}

static int close_models(void **state)
{
    (void)state;
    sp_tensors_close(models.of[0].tensors);
    free_checkpoint(&models.wide);
    return 0;
}

/* Where a model runs. */
typedef enum { EXACT, HERE, THERE } place;

typedef struct opened {
    sp_masked *masked;
    sp_masked_context *context;
    sp_masked_model model;
} opened;

static sp_status try_open(const model *m, place at, opened *o, sp_error *err)
{
    const sp_ops *ops = at == THERE ? sp_device_pack_ops() : sp_ops_find("ref");
    SP_TRY(sp_masked_open(&o->masked, &m->config, m->tensors, ops, at != EXACT, err));
    if (at == THERE) SP_TRY(sp_masked_use_device(o->masked, sp_device_functions(), 0, err));
    SP_TRY(sp_masked_context_open(&o->context, o->masked, NULL, err));
    o->model = sp_masked_context_model(o->context);
    return SP_OK;
}

static void close_opened(opened o)
{
    sp_masked_context_close(o.context);
    sp_masked_close(o.masked);
}

static const int32_t class_number = 1;

static sp_status begin(const opened *o, float cfg_scale, sp_error *err)
{
    sp_latent_guidance guidance = {cfg_scale, 0.9f};
    return o->model.ops->begin(o->model.state, &(sp_model_prompt){&class_number, 1}, &guidance, err);
}

static opened open_at(const model *m, place at, float cfg_scale)
{
    opened o = {0};
    SP_TEST_OK(try_open(m, at, &o, err));
    assert_int_equal(sp_masked_device_bytes(o.masked) > 0, at == THERE);
    assert_int_equal(sp_masked_context_device_bytes(o.context) > 0, at == THERE);
    /* The matrices are in one place only. */
    assert_int_equal(o.masked->between.weight.data == NULL, at == THERE);
    assert_int_equal(o.masked->decoder.blocks[0].down.weight.data == NULL, at == THERE);
    assert_int_equal(o.masked->packed_bytes == 0, at == THERE);
    SP_TEST_OK(begin(&o, cfg_scale, err));
    return o;
}

/* A pass after which every position i with i % apart != rest is known, none if apart is 1; it asks for the others, from
 * the last to the first. */
typedef struct moment {
    bool known[MOST_POSITIONS];
    float latents[MOST_POSITIONS * MOST_LATENT], share[MOST_POSITIONS];
    int32_t positions[MOST_POSITIONS];
    size_t n;
} moment;

static moment moment_of(const model *m, size_t apart, size_t rest)
{
    moment now = {.n = 0};
    size_t dim = m->config.latent_dim;
    for (size_t i = m->config.rows * m->config.columns; i-- > 0;) {
        now.known[i] = i % apart != rest;
        if (!now.known[i]) now.share[now.n] = 0.1f + 0.5f * (float)(i % 7) / 7;
        if (!now.known[i]) now.positions[now.n++] = (int32_t)i;
        for (size_t d = 0; d < dim; d++)
            now.latents[i * dim + d] = now.known[i] ? 1.5f * sp_test_value(77, i * dim + d) : NAN;
    }
    return now;
}

static sp_status condition(const opened *o, const moment *now, sp_error *err)
{
    sp_masked_pass pass = {now->known, now->latents, now->n, now->positions, now->share};
    return o->model.ops->condition(o->model.state, &pass, err);
}

/* [2, n, dim]; on a device by a context of its own. */
static void features_of(const opened *o, const moment *now, size_t n_streams, float *out)
{
    const sp_masked *m = o->masked;
    size_t dim = m->config.dim;
    if (!m->on_device) {
        SP_TEST_OK(condition(o, now, err));
        memcpy(out, sp_masked_features(o->context), n_streams * now->n * dim * sizeof *out);
        return;
    }
    float class_row[MOST_DIM];
    sp_device_masked_context *own;
    sp_table_row(m->classes, (size_t)class_number, dim, class_row);
    sp_device_masked_pass pass = {n_streams, class_row, now->known, now->latents, now->n, now->positions};
    SP_TEST_OK(m->device->masked->context_open(&own, m->on_device, err));
    SP_TEST_OK(m->device->masked->pass(own, &pass, out, err));
    m->device->masked->context_close(own);
}

static const struct { size_t apart, rest; float cfg_scale; } cases[] = {{1, 0, 3}, {3, 1, 3}, {4, 2, 1}, {99, 5, 3}};
enum { N_CASES = sizeof cases / sizeof *cases };

/* The device and ref in bf16 round the same numbers and differ in the order of sums; so neither may be further from
 * float arithmetic than twice what the other is. All but one case of the wide model take SP_TEST_ALL. */
static void features_match(void **state)
{
    (void)state;
    enum { COUNT = 2 * MOST_POSITIONS * MOST_DIM };
    static float out[3][COUNT];
    for (const model *m = models.of; m < models.of + N_MODELS; m++)
        for (size_t i = 0; i < N_CASES; i++) {
            if (m > models.of && i + 1 < N_CASES && !getenv("SP_TEST_ALL")) continue;
            moment now = moment_of(m, cases[i].apart, cases[i].rest);
            size_t n_streams = cases[i].cfg_scale != 1.0f ? 2 : 1, rows = n_streams * now.n, dim = m->config.dim;
            for (place at = EXACT; at <= THERE; at++) {
                opened o = open_at(m, at, cases[i].cfg_scale);
                features_of(&o, &now, n_streams, out[at]);
                close_opened(o);
            }
            double here = apart(out[HERE], out[EXACT], rows, dim);
            double there = apart(out[THERE], out[EXACT], rows, dim);
            print_message("%s, %zu wanted: features are %.2g from float, those of ref in bf16 %.2g\n", m->name, now.n,
                          there, here);
            if (!(here > 1e-4 && here < 0.05 && there <= 2 * here && here <= 2 * there))
                fail_msg("%s, %zu wanted: features are %g from float, those of ref in bf16 %g", m->name, now.n, there,
                         here);
            if (n_streams > 1) assert_memory_not_equal(out[THERE], out[THERE] + now.n * dim, dim * sizeof **out);
        }
}

/* Laws of the last step of every chain. */
typedef struct laws {
    float mean[MOST_POSITIONS * MOST_LATENT], deviation[MOST_POSITIONS * MOST_LATENT];
    float state[MOST_POSITIONS * MOST_LATENT];
} laws;

/* Of chains of one step from fixed states, step by step. */
static void step_chains(const opened *o, const moment *now, laws *out)
{
    int32_t row[MOST_POSITIONS];
    float state[MOST_POSITIONS * MOST_LATENT];
    for (size_t j = 0; j < now->n; j++) {
        row[j] = (int32_t)j;
        sp_chain_noise(&(sp_chain_draw){5, 1, (uint32_t)now->positions[j], 0}, SP_DRAW_CHAIN, 0, o->model.dim,
                       state + j * o->model.dim);
    }
    sp_chain_rows rows = {.n = now->n, .row = row, .state = state, .mean = out->mean, .deviation = out->deviation};
    SP_TEST_OK(o->model.ops->step(o->model.state, &rows, err));
}

static sp_status run_chains(const opened *o, const moment *now, laws *out, sp_error *err)
{
    int32_t row[MOST_POSITIONS];
    uint32_t position[MOST_POSITIONS];
    for (size_t j = 0; j < now->n; j++) {
        row[j] = (int32_t)j;
        position[j] = (uint32_t)now->positions[j];
    }
    sp_device_chains chains = {.n = now->n, .row = row, .position = position, .seed = 5, .image = 1,
                               .purpose = SP_DRAW_CHAIN, .state = out->state, .mean = out->mean,
                               .deviation = out->deviation};
    return o->model.ops->chains(o->model.state, &chains, err);
}

/* What the transformer left on the device is what the head is under, with each position's own guidance. */
static void laws_under_conditions(void **state)
{
    (void)state;
    static laws found[3], steps;
    model one = models.of[0];
    one.config.diffusion.chain.steps = 1;
    for (size_t i = 1; i < 3; i++) {
        moment now = moment_of(&one, cases[i].apart, cases[i].rest);
        size_t count = now.n * one.config.latent_dim;
        for (place at = EXACT; at <= THERE; at++) {
            opened o = open_at(&one, at, cases[i].cfg_scale);
            SP_TEST_OK(condition(&o, &now, err));
            if (at == THERE) SP_TEST_OK(run_chains(&o, &now, &found[at], err));
            step_chains(&o, &now, at == THERE ? &steps : &found[at]);
            close_opened(o);
        }
        near_reference("means", count, found[THERE].mean, found[EXACT].mean, found[HERE].mean);
        near_reference("deviations", count, found[THERE].deviation, found[EXACT].deviation, found[HERE].deviation);
        assert_memory_equal(found[THERE].mean, steps.mean, count * sizeof(float));
    }
}

/* A picture of the device in 2 passes; with a drafter that is the model, of drafts that all pass. */
static void draw(const opened *o, const sp_masked_model *by, const opened *drafter, float *latents)
{
    sp_masked_decoder *d;
    sp_masked_plan plan = {.chain = {.rule = sp_chain_find(drafter ? "cspd-released" : "ar"), .guidance = {3, 0.9f},
                                     .seed = 5, .image = 1, .settings = {.gamma = 1, .align = true},
                                     .prompt = {&class_number, 1}},
                           .passes = 2, .model = by, .drafter = drafter ? &drafter->model : NULL};
    SP_TEST_OK(sp_masked_decoder_open(&d, by, plan.drafter, NULL, err));
    SP_TEST_OK(sp_masked_decode(d, &plan, err));
    assert_int_equal(d->chains->passes, 2);
    assert_int_equal(d->chains->accepted, drafter ? o->model.rows * o->model.columns : 0);
    memcpy(latents, d->chains->latents, o->model.rows * o->model.columns * o->model.dim * sizeof *latents);
    sp_masked_decoder_close(d);
}

/* Chains in one call have the tokens that they have step by step, and a session leaves nothing behind. */
static void pictures(void **state)
{
    (void)state;
    static float whole[MOST_POSITIONS * MOST_LATENT], other[MOST_POSITIONS * MOST_LATENT];
    opened o = open_at(&models.of[0], THERE, 1), second = {0};
    second.masked = o.masked;
    SP_TEST_OK(sp_masked_context_open(&second.context, o.masked, NULL, err));
    second.model = sp_masked_context_model(second.context);
    size_t bytes = o.model.rows * o.model.columns * o.model.dim * sizeof *whole;
    sp_masked_model by_step = o.model;
    sp_masked_model_ops steps = *o.model.ops;
    steps.chains = NULL;
    by_step.ops = &steps;
    draw(&o, &o.model, NULL, whole);
    for (size_t i = 0; i < bytes / sizeof *whole; i++) assert_true(isfinite(whole[i]) && whole[i] != 0);
    draw(&o, &by_step, NULL, other);
    assert_memory_equal(whole, other, bytes);
    draw(&o, &o.model, &second, other);
    assert_memory_equal(whole, other, bytes);
    sp_masked_context_close(second.context);
    close_opened(o);
}

/* From weights to the chains of a first pass. */
static sp_status go(opened *o, sp_error *err)
{
    static laws out;
    moment now = moment_of(&models.of[0], 4, 2);
    SP_TRY(try_open(&models.of[0], THERE, o, err));
    SP_TRY(begin(o, 3, err));
    SP_TRY(condition(o, &now, err));
    return run_chains(o, &now, &out, err);
}

/* Wherever the device fails, all ends in SP_EDEVICE and one line, and everything is given back. */
static void faults(void **state)
{
    (void)state;
    if (!sp_fault_possible()) skip();
    long stride = getenv("SP_TEST_ALL") ? 1 : 11, failures = 0;
    for (long calls = 0;; calls += stride) {
        opened o = {0};
        sp_error error = {0};
        sp_fault_lose(calls);
        sp_status status = go(&o, &error);
        sp_fault_lose(-1);
        close_opened(o);
        assert_int_equal(sp_fault_allocations(), 0);
        if (status == SP_OK) break;
        assert_int_equal(status, SP_EDEVICE);
        assert_non_null(strstr(error.message, "--device cpu"));
        assert_null(strchr(error.message, '\n'));
        failures++;
    }
    assert_true(failures * stride > 100);
}

/* One byte too few for the model, for a matrix on its way, for the head, for the session, for the session's chains. */
static void too_little_memory(void **state)
{
    (void)state;
    if (!sp_fault_possible()) skip();
    opened o = {0};
    SP_TEST_OK(try_open(&models.of[0], THERE, &o, err));
    size_t weights = o.masked->device->masked->bytes(o.masked->on_device), both = sp_masked_device_bytes(o.masked);
    size_t all = both + sp_masked_context_device_bytes(o.context);
    const struct { size_t memory, held; } limits[] = {
        {weights - 1, 0}, {weights, 0}, {both - 1, 1}, {both, 2}, {all - 1, 2}};
    close_opened(o);
    for (size_t i = 0; i < sizeof limits / sizeof *limits; i++) {
        sp_error error = {0};
        o = (opened){0};
        sp_fault_memory(limits[i].memory);
        assert_int_equal(try_open(&models.of[0], THERE, &o, &error), SP_EDEVICE);
        assert_int_equal(sp_fault_allocations(), limits[i].held);
        assert_non_null(strstr(error.message, "out of memory"));
        close_opened(o);
        assert_int_equal(sp_fault_allocations(), 0);
    }
    o = (opened){0};
    sp_fault_memory(all);
    SP_TEST_OK(go(&o, err));
    sp_fault_memory(0);
    close_opened(o);
}

/* The same of the host. */
static void too_little_host_memory(void **state)
{
    (void)state;
    opened o = {0};
    sp_test_fail_allocation(0);
    SP_TEST_OK(try_open(&models.of[0], THERE, &o, err));
    size_t needed = sp_test_counted()->n;
    close_opened(o);
    for (size_t i = 1; i <= needed; i++) {
        sp_error error = {0};
        o = (opened){0};
        sp_test_fail_allocation(i);
        assert_int_equal(try_open(&models.of[0], THERE, &o, &error), SP_ENOMEM);
        sp_alloc_hook(NULL);
        close_opened(o);
        if (sp_fault_possible()) assert_int_equal(sp_fault_allocations(), 0);
    }
}

static void refuses_shapes(void **state)
{
    (void)state;
    const sp_device_masked_ops *device = sp_device_functions()->masked;
    sp_device_masked *there;
    sp_error error = {0};
    assert_int_equal(device->open(&there, 0, &(sp_device_masked_plan){.head_dim = 258}, &error), SP_EUNSUPPORTED);
    assert_null(there);
    assert_non_null(strstr(error.message, "258"));
    opened o = open_at(&models.of[0], THERE, 1);
    moment now = moment_of(&models.of[0], 1, 0);
    now.n++;
    error = (sp_error){0};
    assert_int_equal(condition(&o, &now, &error), SP_EBUG);
    assert_int_equal(sp_masked_use_device(o.masked, sp_device_functions(), 0, &error), SP_EBUG);
    close_opened(o);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(features_match),    cmocka_unit_test(laws_under_conditions),
        cmocka_unit_test(pictures),          cmocka_unit_test(faults),
        cmocka_unit_test(too_little_memory), cmocka_unit_test(too_little_host_memory),
        cmocka_unit_test(refuses_shapes),
    };
    return cmocka_run_group_tests(tests, open_models, close_models);
}
