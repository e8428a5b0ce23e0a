/* Models with continuous tokens against the PyTorch that they come from (golden.json, see README.md): features of the
 * transformer, velocities and means of the diffusion head, whole chains, pixels; in float on every back end.
 *
 * Tolerance: golden.json says how far each is in float, as PyTorch sums and with every sum of a product W x run in one
 * chain as row invariance asks, from the same code in double. Ours are as far: twice that. */
#include "io/json.h"
#include "io/tensors.h"
#include "model/latent.h"
#include "specular.h"
#include "support.h"

enum { WINDOW = 16, MOST_LATENTS = 64, MOST_DIM = 2048, MOST_PROMPT = 64 };

typedef struct golden {
    const char *folder;
    json_t *root;
    double cfg_scale;
    size_t n, dim;    /* tokens, their width */
    float *latents;   /* [n + 1, dim]: the token before position i is row i */
    int32_t ids[MOST_PROMPT];
    size_t first_id, n_ids;
    sp_model_config config;
    sp_tensors *tensors;
} golden;

static bool quick(const char *kernels) { return strcmp(kernels, "ref") != 0; }

static double number(const json_t *object, const char *key)
{
    const json_t *value = json_object_get(object, key);
    assert_true(json_is_number(value));
    return json_number_value(value);
}

static size_t floats(const json_t *list, float *out, size_t limit)
{
    size_t n = json_array_size(list);
    assert_in_range(n, 1, limit);
    for (size_t i = 0; i < n; i++) {
        assert_true(json_is_number(json_array_get(list, i)));
        out[i] = (float)json_number_value(json_array_get(list, i));
    }
    return n;
}

/* An error of golden.json: small, and not so small that rounding alone is above it. */
static double error_of(const golden *g, const char *key)
{
    double error = number(g->root, key);
    assert_true(error > 1e-8 && error < 1e-3);
    return error;
}

static void read_prompt(golden *g)
{
    const json_t *ids = json_object_get(g->root, "ids"), *class = json_object_get(g->root, "class");
    size_t n = ids ? json_array_size(ids) : 1, skip = 0;
    assert_in_range(n, 1, MOST_PROMPT);
    for (size_t i = 0; i < n; i++)
        g->ids[i] = (int32_t)json_integer_value(ids ? json_array_get(ids, i) : class);
    while (ids && skip + 1 < n && g->ids[skip] == g->config.pad_id) skip++;
    g->first_id = skip;
    g->n_ids = n - skip;
}

static sp_model_prompt prompt_of(const golden *g) { return (sp_model_prompt){g->ids + g->first_id, g->n_ids}; }

static golden load(const char *folder)
{
    golden g = {.folder = folder};
    char path[4096];
    assert_in_range(snprintf(path, sizeof path, "%s/golden.json", folder), 1, 4095);
    SP_TEST_OK(sp_json_load(&g.root, path, SP_JSON_LIMIT, err));
    SP_TEST_OK(sp_model_config_load(folder, &g.config, err));
    SP_TEST_OK(sp_tensors_open(&g.tensors, folder, err));
    g.cfg_scale = number(g.root, "cfg_scale");
    g.n = g.config.rows * g.config.columns;
    g.dim = g.config.latent_dim;
    assert_in_range(g.dim, 1, MOST_LATENTS);
    const json_t *latents = json_object_get(g.root, "latents");
    assert_int_equal(json_array_size(latents), g.n);
    g.latents = sp_test_alloc((g.n + 1) * g.dim);
    for (size_t i = 0; i < g.n; i++)
        assert_int_equal(floats(json_array_get(latents, i), g.latents + (i + 1) * g.dim, g.dim), g.dim);
    read_prompt(&g);
    return g;
}

static void release(golden *g)
{
    json_decref(g->root);
    sp_tensors_close(g->tensors);
    sp_test_free(g->latents, (g->n + 1) * g->dim);
}

static double difference(const float *a, const json_t *expected, size_t n)
{
    float values[MOST_DIM];
    double worst = 0;
    assert_int_equal(floats(expected, values, MOST_DIM), n);
    for (size_t i = 0; i < n; i++) {
        double d = fabs((double)a[i] - (double)values[i]);
        assert_true(isfinite(d));
        if (d > worst) worst = d;
    }
    return worst;
}

static void check(const golden *g, const char *kernels, const char *what, double worst, double error)
{
    print_message("%s, %s: %s differ by %.2g, tolerance %.2g\n", g->folder, kernels, what, worst, 2 * error);
    if (worst > 2 * error) fail_msg("%s, %s: %s differ by %g, above %g", g->folder, kernels, what, worst, 2 * error);
}

/* Features of fixed tokens fed in windows of n; the largest difference of those in golden.json. */
static double features_by(const golden *g, sp_model model, size_t window)
{
    const json_t *expected = json_object_get(g->root, "conditions");
    float *features = sp_test_alloc(2 * window * model.dim);
    size_t seen = 0;
    double worst = 0;
    sp_model_prompt prompt = prompt_of(g);
    SP_TEST_OK(model.ops->begin(model.state, &prompt, true, NULL, err));
    for (size_t first = 0; first < g->n; first += window) {
        size_t n = g->n - first < window ? g->n - first : window;
        sp_model_window fed = {.first = first, .n = n, .latents = g->latents + first * g->dim, .features = features};
        SP_TEST_OK(model.ops->forward(model.state, &fed, err));
        for (size_t j = 0; j < n; j++) {
            char key[32];
            snprintf(key, sizeof key, "%zu", first + j);
            const json_t *row = json_object_get(expected, key);
            if (!row) continue;
            seen++;
            worst = fmax(worst, difference(features + j * model.dim, json_object_get(row, "cond"), model.dim));
            worst = fmax(worst, difference(features + (n + j) * model.dim, json_object_get(row, "uncond"), model.dim));
        }
    }
    assert_true(seen >= 3 && seen == json_object_size(expected));
    sp_test_free(features, 2 * window * model.dim);
    return worst;
}

static void test_features(void **state)
{
    golden g = load(*state);
    double error = error_of(&g, "condition_error");
    for (const char *const *kernels = sp_ops_names(); *kernels; kernels++) {
        static const size_t windows[] = {WINDOW, 1, 7};
        sp_transformer *transformer;
        sp_context *context;
        SP_TEST_OK(sp_transformer_open(&transformer, &g.config, g.tensors, sp_ops_find(*kernels), false, err));
        SP_TEST_OK(sp_context_open(&context, transformer, NULL, WINDOW, 1, err));
        double worst = 0;
        for (size_t i = 0; i < (quick(*kernels) ? 3 : 1); i++)
            worst = fmax(worst, features_by(&g, sp_context_model(context), windows[i]));
        check(&g, *kernels, "features", worst, error);
        sp_context_close(context);
        sp_transformer_close(transformer);
    }
    release(&g);
}

typedef struct opened {
    sp_latent *latent;
    sp_latent_context *context;
    sp_latent_model model;
} opened;

static opened open_model(const golden *g, const char *kernels)
{
    opened o = {0};
    SP_TEST_OK(sp_latent_open(&o.latent, &g->config, g->tensors, sp_ops_find(kernels), false, err));
    SP_TEST_OK(sp_latent_context_open(&o.context, o.latent, NULL, WINDOW, err));
    o.model = sp_latent_context_model(o.context);
    return o;
}

static void close_model(opened o)
{
    sp_latent_context_close(o.context);
    sp_latent_close(o.latent);
}

/* Conditions of a position under this guidance: of every position before it too. */
static void condition(const golden *g, const sp_latent_model *model, float scale, size_t position)
{
    sp_latent_guidance guidance = {scale, 1};
    sp_model_prompt prompt = prompt_of(g);
    SP_TEST_OK(model->ops->begin(model->state, &prompt, &guidance, err));
    for (size_t first = 0; first <= position; first += WINDOW) {
        size_t n = position - first < WINDOW ? position - first + 1 : WINDOW;
        SP_TEST_OK(model->ops->condition(model->state, first, n, g->latents + first * g->dim, err));
    }
}

static void step(const sp_latent_model *model, size_t position, size_t k, const float *y, float *mean, float *deviation)
{
    int32_t row = (int32_t)(position % WINDOW);
    sp_chain_rows rows = {.n = 1, .row = &row, .k = k, .state = y, .mean = mean, .deviation = deviation};
    SP_TEST_OK(model->ops->step(model->state, &rows, err));
}

/* A chain of the original sampler, its noise given: the first row is the start. */
static double chain_difference(const golden *g, const sp_latent_model *model, const json_t *chain)
{
    const json_t *noise = json_object_get(chain, "noise");
    size_t position = (size_t)json_integer_value(json_object_get(chain, "position"));
    float y[MOST_LATENTS], mean[MOST_LATENTS], deviation[MOST_LATENTS], e[MOST_LATENTS];
    assert_int_equal(json_array_size(noise), model->n_steps);
    assert_int_equal(floats(json_array_get(noise, 0), y, g->dim), g->dim);
    condition(g, model, (float)g->cfg_scale, position);
    for (size_t k = 0; k < model->n_steps; k++) {
        bool last = k + 1 == model->n_steps;
        if (!last) floats(json_array_get(noise, k + 1), e, g->dim);
        step(model, position, k, y, mean, deviation);
        for (size_t i = 0; i < g->dim; i++) {
            if (last) assert_true(deviation[i] == 0);
            y[i] = last ? mean[i] : mean[i] + deviation[i] * e[i];
        }
    }
    model->ops->project(model->state, 1, y, y);
    return difference(y, json_object_get(chain, "token"), g->dim);
}

static void test_chains(void **state)
{
    golden g = load(*state);
    const json_t *chains = json_object_get(g.root, "chains");
    for (const char *const *kernels = sp_ops_names(); chains && *kernels; kernels++) {
        opened o = open_model(&g, *kernels);
        double worst = 0;
        for (size_t i = 0; i < json_array_size(chains); i++)
            worst = fmax(worst, chain_difference(&g, &o.model, json_array_get(chains, i)));
        check(&g, *kernels, "tokens of chains", worst, error_of(&g, "chain_error"));
        close_model(o);
    }
    release(&g);
    if (!chains) skip();
}

/* mean = keep y + weight v for the two streams alone (scales 1 and 0), so v is known where mean is. */
static double velocity_difference(const golden *g, const sp_latent_model *model, const json_t *entry, float scale,
                                  const sp_sampler_step *by)
{
    size_t position = (size_t)json_integer_value(json_object_get(entry, "position"));
    size_t k = (size_t)json_integer_value(json_object_get(entry, "k"));
    float y[MOST_LATENTS], mean[MOST_LATENTS], deviation[MOST_LATENTS];
    floats(json_object_get(entry, "y"), y, g->dim);
    condition(g, model, scale, position);
    step(model, position, k, y, mean, deviation);
    for (size_t i = 0; i < g->dim; i++) mean[i] = (mean[i] - by[k].keep * y[i]) / by[k].weight;
    return difference(mean, json_object_get(entry, scale == 1 ? "v_cond" : "v_uncond"), g->dim);
}

static double mean_difference(const golden *g, const sp_latent_model *model, const json_t *entry)
{
    size_t position = (size_t)json_integer_value(json_object_get(entry, "position"));
    size_t k = (size_t)json_integer_value(json_object_get(entry, "k"));
    float y[MOST_LATENTS], mean[MOST_LATENTS], deviation[MOST_LATENTS];
    floats(json_object_get(entry, "y"), y, g->dim);
    condition(g, model, (float)g->cfg_scale, position);
    step(model, position, k, y, mean, deviation);
    double expected = number(entry, "deviation");
    for (size_t i = 0; i < g->dim; i++) assert_true(fabs((double)deviation[i] - expected) <= 1e-6 * expected);
    return difference(mean, json_object_get(entry, "mean"), g->dim);
}

/* The quotient that gives v rounds mean, of values up to 4, and divides by a weight. */
static double least_weight(const sp_sampler_step *steps, size_t n)
{
    double least = INFINITY;
    for (size_t k = 0; k < n; k++) least = fmin(least, fabs((double)steps[k].weight));
    return least;
}

static void test_steps(void **state)
{
    golden g = load(*state);
    const json_t *steps = json_object_get(g.root, "steps");
    sp_sampler_step by[SP_MAX_CHAIN];
    g.config.diffusion.sampler->fill(&g.config.diffusion.chain, by);
    double quotient = 4.0 / 8388608 / least_weight(by, g.config.diffusion.chain.steps);
    for (const char *const *kernels = sp_ops_names(); steps && *kernels; kernels++) {
        opened o = open_model(&g, *kernels);
        double velocity = 0, mean = 0;
        size_t n = quick(*kernels) ? json_array_size(steps) : 3;
        for (size_t i = 0; i < n; i++) {
            const json_t *entry = json_array_get(steps, i);
            velocity = fmax(velocity, velocity_difference(&g, &o.model, entry, 1, by));
            velocity = fmax(velocity, velocity_difference(&g, &o.model, entry, 0, by));
            mean = fmax(mean, mean_difference(&g, &o.model, entry));
        }
        check(&g, *kernels, "velocities", velocity, error_of(&g, "velocity_error") + quotient);
        check(&g, *kernels, "means", mean, error_of(&g, "mean_error"));
        close_model(o);
    }
    release(&g);
    if (!steps) skip();
}

/* Pixels of two decoders within 2 pixel_error of each other differ by one level in a share of up to 4 * 127.5 times
 * pixel_error of the values on average (test_golden.c). Latents of the picture in bytes are compared as they are.
 * PyTorch sums in 16 chains where these back ends have one, and rounding errors grow with the root of a chain's length:
 * 4 latent_error and its own. */
static void test_codec(void **state)
{
    enum { MOST_PIXELS = 1 << 20 };
    golden g = load(*state);
    const json_t *picture = json_object_get(g.root, "picture_rgb_0_255"), *encoded = json_object_get(g.root, "encoded");
    size_t n = json_array_size(picture);
    uint8_t *expected = malloc(MOST_PIXELS), *rgb = malloc(MOST_PIXELS);
    assert_non_null(expected);
    assert_non_null(rgb);
    assert_in_range(n, 0, MOST_PIXELS);
    for (size_t i = 0; i < n; i++) expected[i] = (uint8_t)json_integer_value(json_array_get(picture, i));
    for (const char *const *kernels = sp_ops_names(); picture && *kernels; kernels++) {
        sp_engine *engine;
        sp_session *session;
        sp_engine_options options = sp_engine_defaults();
        options.model = g.folder;
        options.dtype = "f32";
        options.kernels = *kernels;
        SP_TEST_OK(sp_engine_open(&engine, &options, err));
        SP_TEST_OK(sp_session_open(&session, engine, err));
        sp_model_info info = sp_engine_info(engine);
        assert_int_equal(info.width * info.height * 3, n);
        SP_TEST_OK(sp_latents_to_pixels(session, g.latents + g.dim, rgb, err));
        size_t differing = 0;
        for (size_t i = 0; i < n; i++) {
            assert_true(abs((int)rgb[i] - (int)expected[i]) <= 1);
            differing += rgb[i] != expected[i];
        }
        print_message("%s, %s: %zu of %zu values differ by one level\n", g.folder, *kernels, differing, n);
        assert_true((double)differing <= 3 + 3 * 4 * 127.5 * error_of(&g, "pixel_error") * (double)n);
        float *latents = sp_test_alloc(g.n * g.dim);
        double worst = 0;
        SP_TEST_OK(sp_pixels_to_latents(session, expected, latents, err));
        for (size_t i = 0; i < g.n; i++)
            worst = fmax(worst, difference(latents + i * g.dim, json_array_get(encoded, i), g.dim));
        check(&g, *kernels, "latents of pixels", worst, 2.5 * error_of(&g, "latent_error"));
        sp_test_free(latents, g.n * g.dim);
        sp_session_close(session);
        sp_engine_close(engine);
    }
    free(expected);
    free(rgb);
    release(&g);
    if (!picture) skip();
}

/* test_latent [FOLDER]: another checkpoint with its golden.json. */
int main(int argc, char **argv)
{
    char *folder = argc > 1 ? argv[1] : SP_SOURCE_DIR "/tests/golden/spherear-tiny";
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_prestate(test_features, folder),
        cmocka_unit_test_prestate(test_chains, folder),
        cmocka_unit_test_prestate(test_steps, folder),
        cmocka_unit_test_prestate(test_codec, folder),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
