/* The masked transformer, its head and its autoencoder against MAR's own code on random weights (make_mar.py): the
 * conditions of a pass, steps of chains, a whole picture from given noise, pixels. */
#include <jansson.h>

#include "base/arena.h"
#include "decode/masked.h"
#include "model/masked.h"
#include "support.h"
#include "vq/codec.h"

enum { MAX_TOKENS = 256, MAX_DIM = 16, MAX_PIXELS = 256 * 256 * 3 };

static const char *only[] = {NULL, NULL};

typedef struct golden {
    const char *folder;
    json_t *root;
    sp_model_config config;
    sp_tensors *tensors;
} golden;

typedef struct opened {
    sp_pool *pool;
    sp_masked *masked;
    sp_masked_context *context;
    sp_masked_model model;
} opened;

static double number(const json_t *object, const char *key)
{
    const json_t *value = json_object_get(object, key);
    assert_true(json_is_number(value));
    return json_number_value(value);
}

static double item(const json_t *array, size_t i) { return json_number_value(json_array_get(array, i)); }

static golden load(const char *folder)
{
    golden g = {.folder = folder};
    char path[4096];
    snprintf(path, sizeof path, "%s/golden.json", folder);
    g.root = json_load_file(path, 0, NULL);
    assert_non_null(g.root);
    SP_TEST_OK(sp_model_config_load(folder, &g.config, err));
    snprintf(path, sizeof path, "%s/model.safetensors", folder);
    SP_TEST_OK(sp_tensors_open(&g.tensors, path, err));
    assert_true(g.config.rows * g.config.columns <= MAX_TOKENS && g.config.latent_dim <= MAX_DIM);
    return g;
}

static void unload(golden *g)
{
    sp_tensors_close(g->tensors);
    json_decref(g->root);
}

static opened open_with(const golden *g, const char *kernels, bool bf16, int threads)
{
    opened o = {0};
    int32_t class_number = (int32_t)number(g->root, "class");
    sp_model_prompt prompt = {&class_number, 1};
    sp_latent_guidance guidance = {(float)number(g->root, "cfg_scale"), (float)number(g->root, "temperature")};
    SP_TEST_OK(sp_pool_open(&o.pool, threads, err));
    SP_TEST_OK(sp_masked_open(&o.masked, &g->config, g->tensors, sp_ops_find(kernels), bf16, err));
    SP_TEST_OK(sp_masked_context_open(&o.context, o.masked, o.pool, err));
    o.model = sp_masked_context_model(o.context);
    SP_TEST_OK(o.model.ops->begin(o.model.state, &prompt, &guidance, err));
    return o;
}

static opened open_model(const golden *g, const char *kernels) { return open_with(g, kernels, false, 2); }

static void close_model(opened *o)
{
    sp_masked_context_close(o->context);
    sp_masked_close(o->masked);
    sp_pool_close(o->pool);
}

/* Of unit variance: numbers of a stream a position, row 0 the start of its chain. */
static void noise(const golden *g, int32_t position, size_t step, float *out)
{
    size_t dim = g->config.latent_dim;
    for (size_t j = 0; j < dim; j++)
        out[j] = (float)((double)sp_test_value(1000 + (uint32_t)position, step * dim + j) * sqrt(3.0));
}

/* The positions of a pass of the golden picture, and what is known before it. */
static size_t positions_of(const golden *g, size_t pass, int32_t *positions, bool *known)
{
    const json_t *passes = json_object_get(g->root, "passes");
    memset(known, 0, MAX_TOKENS * sizeof *known);
    for (size_t i = 0; i < pass; i++)
        for (size_t j = 0; j < json_array_size(json_array_get(passes, i)); j++)
            known[(size_t)item(json_array_get(passes, i), j)] = true;
    const json_t *now = json_array_get(passes, pass);
    for (size_t j = 0; j < json_array_size(now); j++) positions[j] = (int32_t)item(now, j);
    return json_array_size(now);
}

static void condition(const golden *g, const opened *o, size_t pass, const bool *known, const float *latents,
                      const int32_t *positions, size_t n)
{
    float share[MAX_TOKENS];
    double scale = item(json_object_get(g->root, "scales"), pass), cfg = number(g->root, "cfg_scale");
    for (size_t j = 0; j < n; j++) share[j] = (float)((scale - 1) / (cfg - 1));
    sp_masked_pass now = {known, latents, n, positions, share};
    SP_TEST_OK(o->model.ops->condition(o->model.state, &now, err));
}

static double worst_of(const json_t *expected, const float *found, size_t n)
{
    double worst = 0;
    assert_int_equal(json_array_size(expected), n);
    for (size_t i = 0; i < n; i++) {
        double difference = fabs((double)found[i] - item(expected, i));
        if (!(difference <= worst)) worst = difference;
    }
    return worst;
}

static void within(const char *what, const char *kernels, double worst, double tolerance)
{
    print_message("%s: %s differ by %.3g, tolerance %.3g\n", kernels, what, worst, tolerance);
    if (!(worst <= tolerance)) fail_msg("%s: %s differ by %g, above %g", kernels, what, worst, tolerance);
}

/* PyTorch adds the products of a row in sixteen sums or more, we in one: 4 = sqrt(16) times what its float arithmetic
 * was off from double precision, and half a unit of the ninth digit. */
static double tolerance(double error, double largest) { return 4 * error + 5e-9 * largest; }

/* The conditions of one pass, and steps of chains under them. */
static void probe(const golden *g, const char *kernels)
{
    opened o = open_model(g, kernels);
    static float latents[MAX_TOKENS * MAX_DIM], state[MAX_TOKENS * MAX_DIM], found[2 * MAX_TOKENS * MAX_DIM];
    static float mean[MAX_TOKENS * MAX_DIM], deviation[MAX_TOKENS * MAX_DIM];
    int32_t positions[MAX_TOKENS], rows[MAX_TOKENS];
    bool known[MAX_TOKENS];
    size_t dim = g->config.latent_dim, shown = (size_t)number(g->root, "shown");
    size_t pass = (size_t)number(g->root, "probed"), n = positions_of(g, pass, positions, known);
    for (int32_t i = 0; i < MAX_TOKENS; i++) {
        if (known[i]) noise(g, i, 0, latents + (size_t)i * dim);
        else for (size_t j = 0; j < dim; j++) latents[(size_t)i * dim + j] = NAN;
        rows[i] = i;
    }
    condition(g, &o, pass, known, latents, positions, n);
    assert_true(2 * n * shown <= sizeof found / sizeof *found);
    for (size_t i = 0; i < 2 * n; i++)
        memcpy(found + i * shown, sp_masked_features(o.context) + i * g->config.dim, shown * sizeof *found);
    within("features", kernels, worst_of(json_object_get(g->root, "features"), found, 2 * n * shown),
           tolerance(number(g->root, "features_error"), number(g->root, "features_largest")));
    const json_t *steps = json_object_get(g->root, "head");
    for (size_t i = 0; i < json_array_size(steps); i++) {
        const json_t *golden_step = json_array_get(steps, i);
        size_t k = (size_t)number(golden_step, "step");
        for (size_t j = 0; j < n; j++) noise(g, positions[j], 500 + k, state + j * dim);
        sp_chain_rows chain = {.n = n, .row = rows, .k = k, .state = state, .mean = mean, .deviation = deviation,
                               .pool = o.pool};
        SP_TEST_OK(o.model.ops->step(o.model.state, &chain, err));
        double largest = 0;
        for (size_t j = 0; j < n * dim; j++) largest = fmax(largest, fabs((double)mean[j]));
        within("means", kernels, worst_of(json_object_get(golden_step, "mean"), mean, n * dim),
               tolerance(number(golden_step, "mean_error"), largest));
        within("deviations", kernels, worst_of(json_object_get(golden_step, "deviation"), deviation, n * dim),
               tolerance(number(golden_step, "deviation_error"), 1));
    }
    close_model(&o);
}

static const char *const *kernel_names(void) { return only[0] ? only : sp_ops_names(); }

static void test_conditions_and_steps(void **state)
{
    golden g = load(*state);
    for (const char *const *kernels = kernel_names(); *kernels; kernels++) probe(&g, *kernels);
    unload(&g);
}

static void draw_pass(const golden *g, const opened *o, size_t pass, float *latents)
{
    int32_t positions[MAX_TOKENS], rows[MAX_TOKENS];
    bool known[MAX_TOKENS];
    static float state[MAX_TOKENS * MAX_DIM], mean[MAX_TOKENS * MAX_DIM], deviation[MAX_TOKENS * MAX_DIM];
    float e[MAX_DIM];
    size_t dim = g->config.latent_dim, n = positions_of(g, pass, positions, known);
    condition(g, o, pass, known, latents, positions, n);
    for (size_t j = 0; j < n; j++) {
        rows[j] = (int32_t)j;
        noise(g, positions[j], 0, state + j * dim);
    }
    for (size_t k = 0; k < o->model.n_steps; k++) {
        sp_chain_rows chain = {.n = n, .row = rows, .k = k, .state = state, .mean = mean, .deviation = deviation,
                               .pool = o->pool};
        SP_TEST_OK(o->model.ops->step(o->model.state, &chain, err));
        for (size_t j = 0; j < n; j++) {
            noise(g, positions[j], k + 1, e);
            for (size_t d = 0; d < dim; d++) state[j * dim + d] = mean[j * dim + d] + deviation[j * dim + d] * e[d];
        }
    }
    for (size_t j = 0; j < n; j++)
        memcpy(latents + (size_t)positions[j] * dim, state + j * dim, dim * sizeof *latents);
}

static void test_picture(void **state)
{
    golden g = load(*state);
    static float latents[MAX_TOKENS * MAX_DIM];
    size_t n = g.config.rows * g.config.columns * g.config.latent_dim;
    for (const char *const *kernels = kernel_names(); *kernels; kernels++) {
        opened o = open_model(&g, *kernels);
        for (size_t i = 0; i < n; i++) latents[i] = NAN;
        for (size_t pass = 0; pass < json_array_size(json_object_get(g.root, "passes")); pass++)
            draw_pass(&g, &o, pass, latents);
        within("tokens", *kernels, worst_of(json_object_get(g.root, "tokens"), latents, n),
               tolerance(number(g.root, "tokens_error"), number(g.root, "tokens_largest")));
        close_model(&o);
    }
    unload(&g);
}

/* The decode loop draws the golden order's positions in the golden passes, with the same guidance. */
static void test_schedule(void **state)
{
    golden g = load(*state);
    const json_t *order = json_object_get(g.root, "order"), *passes = json_object_get(g.root, "passes");
    size_t all = json_array_size(order), n_passes = json_array_size(passes), left = all;
    for (size_t k = 0; k < n_passes; k++) {
        size_t next = sp_masked_left(all, n_passes, k, left), until = k + 1 == n_passes ? 0 : next;
        const json_t *now = json_array_get(passes, k);
        assert_int_equal(json_array_size(now), left - until);
        for (size_t i = until; i < left; i++) {
            bool found = false;
            for (size_t j = 0; j < left - until; j++) found |= item(now, j) == item(order, i);
            assert_true(found);
        }
        double scale = 1 + (number(g.root, "cfg_scale") - 1) * (double)(all - next) / (double)all;
        assert_true(fabs(scale - item(json_object_get(g.root, "scales"), k)) < 1e-6);
        left = until;
    }
    assert_int_equal(left, 0);
    unload(&g);
}

/* Pixels to half a grey level and what float arithmetic adds; tokens of any size are brought to the usual one. */
static void test_pixels(void **state)
{
    golden g = load(*state);
    static float latents[MAX_TOKENS * MAX_DIM];
    static uint8_t rgb[MAX_PIXELS];
    char path[4096];
    sp_tensors *tensors;
    const json_t *tokens = json_object_get(g.root, "tokens"), *pixels = json_object_get(g.root, "pixels");
    snprintf(path, sizeof path, "%s/kl.safetensors", g.folder);
    SP_TEST_OK(sp_tensors_open(&tensors, path, err));
    for (size_t i = 0; i < json_array_size(tokens); i++)
        latents[i] = (float)(item(tokens, i) / number(g.root, "token_scale"));
    for (const char *const *kernels = kernel_names(); *kernels; kernels++) {
        sp_codec *codec;
        SP_TEST_OK(sp_codec_open(&codec, &g.config.codec, tensors, sp_ops_find(*kernels), NULL, err));
        assert_true(sp_codec_height(codec) * sp_codec_width(codec) * 3 <= MAX_PIXELS);
        SP_TEST_OK(sp_codec_decode_latents(codec, latents, rgb, err));
        for (size_t i = 0; i < json_array_size(pixels); i++) {
            double expected = fmin(fmax((item(pixels, i) + 1) * 127.5, 0), 255);
            if (!(fabs((double)rgb[i] - expected) <= 0.5 + 1e-4 * 127.5))
                fail_msg("%s: value %zu is %d, expected %.3f", *kernels, i, rgb[i], expected);
        }
        sp_codec_close(codec);
    }
    sp_tensors_close(tensors);
    unload(&g);
}

/* A safetensors file in memory whose header is edited. */
typedef struct image {
    char *data;
    size_t size;      /* with the header */
    json_t *header;
    const char *body; /* in data */
    size_t body_size;
} image;

static image read_image(const char *folder)
{
    image m = {0};
    char path[4096];
    snprintf(path, sizeof path, "%s/model.safetensors", folder);
    FILE *file = fopen(path, "rb");
    assert_non_null(file);
    assert_int_equal(fseek(file, 0, SEEK_END), 0);
    m.size = (size_t)ftell(file);
    rewind(file);
    m.data = malloc(m.size);
    assert_non_null(m.data);
    assert_int_equal(fread(m.data, 1, m.size, file), m.size);
    fclose(file);
    uint64_t length;
    memcpy(&length, m.data, sizeof length);
    m.header = json_loadb(m.data + 8, length, 0, NULL);
    assert_non_null(m.header);
    m.body = m.data + 8 + length;
    m.body_size = m.size - 8 - length;
    return m;
}

/* What opening says of the model under another header; NULL when it opens. */
static const char *opening(const golden *g, const image *m, const json_t *header, char *body)
{
    static sp_error refusal;
    sp_masked *masked = NULL;
    sp_tensors *tensors;
    char *text = json_dumps(header, JSON_COMPACT);
    uint64_t length = strlen(text) + (8 - strlen(text) % 8) % 8;
    char *data = malloc(8 + length + m->body_size);
    assert_non_null(data);
    memcpy(data, &length, 8);
    memset(data + 8, ' ', length);
    memcpy(data + 8, text, strlen(text));
    memcpy(data + 8 + length, body, m->body_size);
    refusal = (sp_error){0};
    SP_TEST_OK(sp_tensors_parse(&tensors, "test.safetensors", data, 8 + length + m->body_size, err));
    sp_status status = sp_masked_open(&masked, &g->config, tensors, sp_ops_find("auto"), false, &refusal);
    sp_masked_close(masked);
    sp_tensors_close(tensors);
    free(data);
    free(text);
    assert_true(status == SP_OK || status == SP_EFORMAT);
    assert_true((status == SP_OK) == (masked != NULL));
    return status == SP_OK ? NULL : refusal.message;
}

static void test_every_tensor_is_needed(void **state)
{
    golden g = load(*state);
    if (g.config.dim > 64) {
        unload(&g);
        skip(); /* a thousand times a large model */
    }
    image m = read_image(g.folder);
    char *body = malloc(m.body_size);
    assert_non_null(body);
    memcpy(body, m.body, m.body_size);
    assert_null(opening(&g, &m, m.header, body));
    const char *name;
    json_t *entry;
    size_t seen = 0;
    json_object_foreach(m.header, name, entry) {
        if (strcmp(name, "__metadata__") == 0) continue;
        json_t *without = json_deep_copy(m.header), *misshapen = json_deep_copy(m.header);
        json_object_set(without, "left-out", entry);
        json_object_del(without, name);
        json_array_append_new(json_object_get(json_object_get(misshapen, name), "shape"), json_integer(1));
        uint16_t kept, nan = 0x7FC0;
        char *last = body + json_integer_value(json_array_get(json_object_get(entry, "data_offsets"), 1)) - sizeof nan;
        for (int which = 0; which < 3; which++) {
            memcpy(&kept, last, sizeof kept);
            if (which == 2) memcpy(last, &nan, sizeof nan);
            const char *message = opening(&g, &m, which == 0 ? without : which == 1 ? misshapen : m.header, body);
            if (!message) fail_msg("%s: %d passes", name, which);
            if (!strstr(message, name)) fail_msg("'%s' does not name %s", message, name);
            memcpy(last, &kept, sizeof kept);
        }
        json_decref(without);
        json_decref(misshapen);
        seen++;
    }
    assert_in_range(seen, 90, 120);
    json_decref(m.header);
    free(body);
    free(m.data);
    unload(&g);
}

static void test_bad_classes_and_overflows(void **state)
{
    golden g = load(*state);
    opened o = open_model(&g, "auto");
    sp_latent_guidance guidance = {1, 1};
    const int32_t classes[] = {-1, (int32_t)g.config.n_classes};
    for (size_t i = 0; i < 2; i++) {
        sp_error refusal = {0};
        sp_model_prompt prompt = {&classes[i], 1};
        assert_int_equal(o.model.ops->begin(o.model.state, &prompt, &guidance, &refusal), SP_EARG);
        assert_non_null(strstr(refusal.message, "class"));
    }
    static float latents[MAX_TOKENS * MAX_DIM];
    bool known[MAX_TOKENS] = {true};
    int32_t position = 1;
    float share = 0.5f;
    sp_error refusal = {0};
    latents[0] = INFINITY;
    sp_masked_pass pass = {known, latents, 1, &position, &share};
    assert_int_equal(o.model.ops->condition(o.model.state, &pass, &refusal), SP_EFORMAT);
    assert_non_null(strstr(refusal.message, "position 1 "));
    close_model(&o);
    unload(&g);
}

/* Without guidance there is one stream, whose conditions have the bits of two. */
static void test_one_stream(void **state)
{
    golden g = load(*state);
    opened o = open_model(&g, "auto");
    static float latents[MAX_TOKENS * MAX_DIM];
    int32_t positions[MAX_TOKENS], class_number = (int32_t)number(g.root, "class");
    bool known[MAX_TOKENS];
    size_t n = positions_of(&g, 1, positions, known), count = n * g.config.dim;
    for (int32_t i = 0; i < MAX_TOKENS; i++) noise(&g, i, 0, latents + (size_t)i * g.config.latent_dim);
    condition(&g, &o, 1, known, latents, positions, n);
    float *two = malloc(count * sizeof *two);
    assert_non_null(two);
    memcpy(two, sp_masked_features(o.context), count * sizeof *two);
    sp_model_prompt prompt = {&class_number, 1};
    sp_latent_guidance guidance = {1, 1};
    SP_TEST_OK(o.model.ops->begin(o.model.state, &prompt, &guidance, err));
    condition(&g, &o, 1, known, latents, positions, n);
    assert_memory_equal(two, sp_masked_features(o.context), count * sizeof *two);
    free(two);
    close_model(&o);
    unload(&g);
}

/* Conditions of the probed pass, without the class in the second half; freed by the caller. */
static float *conditions(const golden *g, const char *kernels, bool bf16, int threads, size_t *count)
{
    opened o = open_with(g, kernels, bf16, threads);
    static float latents[MAX_TOKENS * MAX_DIM];
    int32_t positions[MAX_TOKENS];
    bool known[MAX_TOKENS];
    size_t pass = (size_t)number(g->root, "probed"), n = positions_of(g, pass, positions, known);
    for (int32_t i = 0; i < MAX_TOKENS; i++) noise(g, i, 0, latents + (size_t)i * g->config.latent_dim);
    condition(g, &o, pass, known, latents, positions, n);
    *count = 2 * n * g->config.dim;
    float *out = malloc(*count * sizeof *out);
    assert_non_null(out);
    memcpy(out, sp_masked_features(o.context), *count * sizeof *out);
    close_model(&o);
    return out;
}

static double distance(const float *a, const float *b, size_t count)
{
    double worst = 0;
    for (size_t i = 0; i < count; i++) worst = fmax(worst, fabs((double)a[i] - (double)b[i]));
    return worst;
}

/* bf16 arithmetic moves a condition by up to D from f32, measured on ref. Another back end sums in another order, which
 * can round an activation the other way and so move it by as much again, but not by more than both. */
static void test_bf16(void **state)
{
    golden g = load(*state);
    size_t count;
    float *exact = conditions(&g, "ref", false, 1, &count), *rounded = conditions(&g, "ref", true, 1, &count);
    double moved = distance(exact, rounded, count);
    assert_true(moved > 1e-4 && moved < 0.2); /* below, nothing was rounded; numbers are up to 3 */
    for (const char *const *kernels = sp_ops_names(); *kernels; kernels++) {
        float *found = conditions(&g, *kernels, true, 2, &count);
        within("conditions in bf16", *kernels, distance(exact, found, count), 2 * moved);
        assert_true(distance(exact, found, count) > 1e-4);
        free(found);
    }
    free(exact);
    free(rounded);
    unload(&g);
}

static void test_threads_do_not_show(void **state)
{
    golden g = load(*state);
    for (const char *const *kernels = kernel_names(); *kernels; kernels++)
        for (int bf16 = 0; bf16 < 2; bf16++) {
            size_t count;
            float *one = conditions(&g, *kernels, bf16, 1, &count);
            for (int threads = 2; threads <= 3; threads++) {
                float *more = conditions(&g, *kernels, bf16, threads, &count);
                assert_memory_equal(one, more, count * sizeof *one);
                free(more);
            }
            free(one);
        }
    unload(&g);
}

static sp_status open_both(const golden *g, sp_masked **masked, sp_masked_context **context, sp_error *err)
{
    *context = NULL;
    SP_TRY(sp_masked_open(masked, &g->config, g->tensors, sp_ops_find("auto"), false, err));
    return sp_masked_context_open(context, *masked, NULL, err);
}

static void test_memory_is_taken_at_opening(void **state)
{
    golden g = load(*state);
    sp_masked *masked;
    sp_masked_context *context;
    static float latents[MAX_TOKENS * MAX_DIM];
    bool known[MAX_TOKENS] = {true};
    int32_t position = 1, class_number = 0;
    float share = 0.5f;
    sp_model_prompt prompt = {&class_number, 1};
    sp_latent_guidance guidance = {2, 1};
    sp_test_fail_allocation(0);
    SP_TEST_OK(open_both(&g, &masked, &context, err));
    size_t needed = sp_test_counted()->n;
    sp_masked_model model = sp_masked_context_model(context);
    SP_TEST_OK(model.ops->begin(model.state, &prompt, &guidance, err));
    SP_TEST_OK(model.ops->condition(model.state, &(sp_masked_pass){known, latents, 1, &position, &share}, err));
    assert_int_equal(sp_test_counted()->n, needed);
    sp_masked_context_close(context);
    sp_masked_close(masked);
    for (size_t i = 1; i <= needed && g.config.dim <= 64; i++) {
        sp_error err = {0};
        sp_test_fail_allocation(i);
        assert_int_equal(open_both(&g, &masked, &context, &err), SP_ENOMEM);
        assert_null(context);
        sp_masked_close(masked);
    }
    sp_alloc_hook(NULL);
    unload(&g);
}

/* test_mar [FOLDER [KERNELS]]: another checkpoint with its golden.json, on one back end. */
int main(int argc, char **argv)
{
    char *folder = argc > 1 ? argv[1] : SP_SOURCE_DIR "/tests/golden/mar-tiny";
    if (argc > 2) only[0] = argv[2];
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_prestate(test_conditions_and_steps, folder),
        cmocka_unit_test_prestate(test_picture, folder),
        cmocka_unit_test_prestate(test_schedule, folder),
        cmocka_unit_test_prestate(test_pixels, folder),
        cmocka_unit_test_prestate(test_every_tensor_is_needed, folder),
        cmocka_unit_test_prestate(test_bad_classes_and_overflows, folder),
        cmocka_unit_test_prestate(test_one_stream, folder),
        cmocka_unit_test_prestate(test_bf16, folder),
        cmocka_unit_test_prestate(test_threads_do_not_show, folder),
        cmocka_unit_test_prestate(test_memory_is_taken_at_opening, folder),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
