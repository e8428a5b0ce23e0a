/* Checkpoints against the PyTorch that they come from (golden.json, see README.md): logits, greedy tokens of whole
 * pictures, pixels and, where the checkpoint has an encoder, tokens of pixels; in float on every back end.
 *
 * Tolerance of logits: golden.json says how far float logits, summed in one chain as row invariance asks, are from the
 * same code in double. Its own are no farther, ours are as far: 2 * logit_error. Guided logits u + s (c - u) are then
 * within (2 s - 1) of that, and a greedy token is certain where the two best are further apart than twice as much; the
 * test checks that every token is.
 * Pixels of two decoders within 2 * pixel_error of each other differ by one level where 127.5 x + 128 lies that close
 * to an integer: in no more than a share of 4 * 127.5 * pixel_error of the values, on average. */
#include "io/json.h"
#include "io/tensors.h"
#include "model/transformer.h"
#include "specular.h"
#include "support.h"

static const char *only[2]; /* one back end in place of all */

enum { MAX_TOKENS = 4096, MAX_PIXELS = 1 << 20, CODES = 16, WINDOW = 32 };

typedef struct golden {
    const char *folder;
    json_t *root, *prompts;
    double cfg_scale, logit_error, pixel_error;
} golden;

/* ref is the specification and not fast: one picture, without small windows. */
static bool quick(const char *kernels) { return strcmp(kernels, "ref") != 0; }

static const char *const *kernel_names(void) { return only[0] ? only : sp_kernel_names(); }

static void path_of(const golden *g, const char *name, char out[4096])
{
    assert_in_range(snprintf(out, 4096, "%s/%s", g->folder, name), 1, 4095);
}

static golden load(const char *folder)
{
    golden g = {.folder = folder};
    char path[4096];
    path_of(&g, "golden.json", path);
    SP_TEST_OK(sp_json_load(&g.root, path, SP_JSON_LIMIT, err));
    g.prompts = json_object_get(g.root, "prompts");
    g.cfg_scale = json_number_value(json_object_get(g.root, "cfg_scale"));
    g.logit_error = json_number_value(json_object_get(g.root, "logit_error"));
    g.pixel_error = json_number_value(json_object_get(g.root, "pixel_error"));
    assert_true(json_array_size(g.prompts) > 0);
    assert_true(g.cfg_scale > 1 && g.logit_error > 0 && g.logit_error < 1e-3 && g.pixel_error > 0
                && g.pixel_error < 1e-3);
    return g;
}

static size_t integers(const json_t *prompt, const char *key, int32_t *out, size_t limit)
{
    const json_t *list = json_object_get(prompt, key);
    size_t n = json_array_size(list);
    assert_in_range(n, 1, limit);
    for (size_t i = 0; i < n; i++) {
        assert_true(json_is_integer(json_array_get(list, i)));
        out[i] = (int32_t)json_integer_value(json_array_get(list, i));
    }
    return n;
}

/* Largest difference of the codes that golden.json lists of one row. */
static double row_difference(const json_t *row, const char *stream, const float *logits)
{
    const json_t *expected = json_object_get(row, stream);
    double worst = 0;
    assert_int_equal(json_array_size(expected), CODES);
    for (size_t i = 0; i < CODES; i++) {
        double difference = fabs(json_number_value(json_array_get(expected, i)) - (double)logits[i]);
        assert_true(isfinite(difference));
        if (difference > worst) worst = difference;
    }
    return worst;
}

/* Feeds the greedy tokens in windows of the given length; the largest difference of any logit in golden.json. */
static double prompt_difference(const json_t *prompt, sp_model model, int32_t pad, size_t window)
{
    static int32_t ids[MAX_TOKENS], tokens[MAX_TOKENS + 1];
    size_t n_ids = integers(prompt, "ids", ids, MAX_TOKENS), skip = 0;
    size_t n_tokens = integers(prompt, "greedy_tokens", tokens + 1, MAX_TOKENS);
    assert_int_equal(n_tokens, model.rows * model.columns);
    while (skip + 1 < n_ids && ids[skip] == pad) skip++;
    SP_TEST_OK(model.ops->begin(model.state, &(sp_model_prompt){ids + skip, n_ids - skip}, true, NULL, err));
    const json_t *rows = json_object_get(prompt, "logits_first_16_codes_at_position");
    size_t seen = 0;
    double worst = 0;
    float *logits = sp_test_alloc(2 * window * model.n_codes);
    for (size_t first = 0; first < n_tokens; first += window) {
        size_t n = n_tokens - first < window ? n_tokens - first : window;
        sp_model_window fed = {.first = first, .n = n, .ids = tokens + first, .logits = logits};
        SP_TEST_OK(model.ops->forward(model.state, &fed, err));
        for (size_t j = 0; j < n; j++) {
            char key[32];
            snprintf(key, sizeof key, "%zu", first + j);
            const json_t *row = json_object_get(rows, key);
            if (!row) continue;
            seen++;
            worst = fmax(worst, row_difference(row, "cond", logits + j * model.n_codes));
            worst = fmax(worst, row_difference(row, "uncond", logits + (n + j) * model.n_codes));
        }
    }
    assert_int_equal(seen, json_object_size(rows));
    assert_true(seen >= 3);
    sp_test_free(logits, 2 * window * model.n_codes);
    return worst;
}

static void logits_of(const golden *g, const char *kernels)
{
    char path[4096];
    sp_model_config config;
    sp_tensors *tensors = NULL;
    sp_transformer *transformer = NULL;
    sp_context *context = NULL;
    path_of(g, "model.safetensors", path);
    SP_TEST_OK(sp_model_config_load(g->folder, &config, err));
    SP_TEST_OK(sp_tensors_open(&tensors, path, err));
    SP_TEST_OK(sp_transformer_open(&transformer, &config, tensors, sp_ops_find(kernels), false, err));
    SP_TEST_OK(sp_context_open(&context, transformer, NULL, WINDOW, 1, err));
    static const size_t windows[] = {WINDOW, 1, 7};
    size_t n_windows = quick(kernels) ? sizeof windows / sizeof *windows : 1;
    double worst = 0;
    for (size_t w = 0; w < n_windows; w++)
        for (size_t i = 0; i < (quick(kernels) ? json_array_size(g->prompts) : 1); i++)
            worst = fmax(worst, prompt_difference(json_array_get(g->prompts, i), sp_context_model(context),
                                                  config.from_text ? config.pad_id : -1, windows[w]));
    sp_context_close(context);
    sp_transformer_close(transformer);
    sp_tensors_close(tensors);
    print_message("%s, %s: logits differ by %.2g, tolerance %.2g\n", g->folder, kernels, worst, 2 * g->logit_error);
    if (worst > 2 * g->logit_error) fail_msg("%s: logits differ by %g, above %g", kernels, worst, 2 * g->logit_error);
}

static void test_logits(void **state)
{
    golden g = load(*state);
    for (const char *const *kernels = kernel_names(); *kernels; kernels++) logits_of(&g, *kernels);
    json_decref(g.root);
}

typedef struct opened {
    sp_engine *engine;
    sp_session *session;
} opened;

static opened open_engine(const golden *g, const char *kernels)
{
    opened o = {0};
    sp_engine_options options = sp_engine_defaults();
    options.model = g->folder;
    options.dtype = "f32";
    options.kernels = kernels;
    options.threads = 2;
    SP_TEST_OK(sp_engine_open(&o.engine, &options, err));
    SP_TEST_OK(sp_session_open(&o.session, o.engine, err));
    return o;
}

static void close_engine(opened o)
{
    sp_session_close(o.session);
    sp_engine_close(o.engine);
}

static void tokens_of(const golden *g, const json_t *prompt, opened o, const char *method)
{
    static int32_t expected[MAX_TOKENS];
    size_t n = integers(prompt, "greedy_tokens", expected, MAX_TOKENS);
    double margin = json_number_value(json_object_get(prompt, "smallest_margin"));
    assert_true(margin > 2 * (2 * g->cfg_scale - 1) * 2 * g->logit_error);
    sp_request request = sp_request_defaults(o.engine);
    request.prompt = json_string_value(json_object_get(prompt, "prompt"));
    request.method = method;
    request.window = 16;
    request.temperature = 0;
    request.top_k = 0;
    request.top_p = 1;
    request.cfg_scale = (float)g->cfg_scale;
    request.pixels = false;
    const sp_result *result;
    SP_TEST_OK(sp_generate(o.session, &request, &result, err));
    assert_int_equal(result->n_tokens, n);
    for (size_t i = 0; i < n; i++)
        if (result->tokens[i] != expected[i])
            fail_msg("'%s', %s: token %zu is %d, expected %d", request.prompt, method, i, result->tokens[i],
                     expected[i]);
}

static void test_greedy_tokens(void **state)
{
    golden g = load(*state);
    for (const char *const *kernels = kernel_names(); *kernels; kernels++) {
        opened o = open_engine(&g, *kernels);
        for (size_t i = 0; i < (quick(*kernels) ? json_array_size(g.prompts) : 1); i++) {
            tokens_of(&g, json_array_get(g.prompts, i), o, "ar");
            if (quick(*kernels)) tokens_of(&g, json_array_get(g.prompts, i), o, "pathwise");
        }
        close_engine(o);
    }
    json_decref(g.root);
}

/* Expected bytes of a picture: all of it, or its first row. */
static size_t pixels_of(const json_t *prompt, int32_t *out)
{
    if (json_object_get(prompt, "pixels_rgb_0_255")) return integers(prompt, "pixels_rgb_0_255", out, MAX_PIXELS);
    const json_t *row = json_object_get(prompt, "pixels_first_row_rgb_0_255");
    size_t n = json_array_size(row);
    assert_in_range(n, 1, MAX_PIXELS / 3);
    for (size_t i = 0; i < 3 * n; i++)
        out[i] = (int32_t)json_integer_value(json_array_get(json_array_get(row, i / 3), i % 3));
    return 3 * n;
}

static void test_pixels(void **state)
{
    golden g = load(*state);
    static int32_t tokens[MAX_TOKENS], expected[MAX_PIXELS];
    for (const char *const *kernels = kernel_names(); *kernels; kernels++) {
        opened o = open_engine(&g, *kernels);
        sp_model_info info = sp_engine_info(o.engine);
        uint8_t *rgb = malloc(info.height * info.width * 3);
        assert_non_null(rgb);
        size_t differing = 0, total = 0;
        for (size_t i = 0; i < json_array_size(g.prompts); i++) {
            const json_t *prompt = json_array_get(g.prompts, i);
            integers(prompt, "greedy_tokens", tokens, MAX_TOKENS);
            size_t n = pixels_of(prompt, expected);
            assert_true(n == info.width * 3 || n == info.height * info.width * 3);
            SP_TEST_OK(sp_tokens_to_pixels(o.session, tokens, rgb, err));
            for (size_t p = 0; p < n; p++) {
                int difference = abs((int)rgb[p] - expected[p]);
                if (difference > 1) fail_msg("%s: value %zu is %d, expected %d", *kernels, p, rgb[p], expected[p]);
                differing += difference == 1;
            }
            total += n;
        }
        print_message("%s, %s: %zu of %zu values differ by one level\n", g.folder, *kernels, differing, total);
        /* Three times the average, and a few where the average is below one. */
        assert_true((double)differing <= 3 + 3 * 4 * 127.5 * g.pixel_error * (double)total);
        free(rgb);
        close_engine(o);
    }
    json_decref(g.root);
}

static void test_encoder(void **state)
{
    golden g = load(*state);
    static int32_t expected[MAX_TOKENS], tokens[MAX_TOKENS], pixels[MAX_PIXELS];
    if (!json_object_get(json_array_get(g.prompts, 0), "encoded_tokens")) {
        json_decref(g.root);
        skip();
    }
    for (const char *const *kernels = kernel_names(); *kernels; kernels++) {
        opened o = open_engine(&g, *kernels);
        for (size_t i = 0; i < json_array_size(g.prompts); i++) {
            const json_t *prompt = json_array_get(g.prompts, i);
            size_t n = integers(prompt, "encoded_tokens", expected, MAX_TOKENS), n_pixels = pixels_of(prompt, pixels);
            uint8_t *rgb = malloc(n_pixels);
            assert_non_null(rgb);
            for (size_t p = 0; p < n_pixels; p++) rgb[p] = (uint8_t)pixels[p];
            SP_TEST_OK(sp_pixels_to_tokens(o.session, rgb, tokens, err));
            for (size_t t = 0; t < n; t++)
                if (tokens[t] != expected[t]) fail_msg("%s: token %zu is %d, expected %d", *kernels, t, tokens[t],
                                                       expected[t]);
            free(rgb);
        }
        close_engine(o);
    }
    json_decref(g.root);
}

/* test_golden [FOLDER [KERNELS]]: another checkpoint with its golden.json, on one back end. */
int main(int argc, char **argv)
{
    char *folder = argc > 1 ? argv[1] : SP_SOURCE_DIR "/tests/golden/llamagen-tiny";
    if (argc > 2) only[0] = argv[2];
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_prestate(test_logits, folder),
        cmocka_unit_test_prestate(test_greedy_tokens, folder),
        cmocka_unit_test_prestate(test_pixels, folder),
        cmocka_unit_test_prestate(test_encoder, folder),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
