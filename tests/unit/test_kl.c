/* The KL autoencoder on weights made by formula, under both ways of naming them: against PyTorch (test_kl.json),
 * between back ends, and refusing what it should. */
#include <jansson.h>

#include "base/arena.h"
#include "codec_checkpoint.h"
#include "vq/vqgan_layers.h"

enum { POSITIONS = ROWS * COLUMNS, MAX_WIDTH = 6, MAX_VALUES = ROWS * 4 * COLUMNS * 4 * 3 };

static const sp_codec_config LEVELS = {
    .kind = "kl", .channels = 32, .channel_mult = {1, 1, 2}, .n_levels = 3, .blocks_per_level = 2, .z_channels = 4,
    .attention = SP_VQ_ATTENTION_ENCODER, .names = SP_VQ_NAMES_LEVELS, .code_dim = 4, .latent_scale = 0.2325f,
    .groups = 32, .group_norm_eps = 1e-6f, .rows = ROWS, .columns = COLUMNS};
static const sp_codec_config ORDER = {
    .kind = "kl", .channels = 16, .channel_mult = {1, 3}, .n_levels = 2, .blocks_per_level = 1, .z_channels = 6,
    .attention = SP_VQ_ATTENTION_MIDDLE, .names = SP_VQ_NAMES_ORDER, .code_dim = 6, .latent_scale = 0.2325f,
    .groups = 8, .group_norm_eps = 1e-6f, .rows = ROWS, .columns = COLUMNS};

typedef struct result {
    uint8_t rgb[MAX_VALUES];
    float latents[POSITIONS * MAX_WIDTH], features[2 * MAX_WIDTH];
    size_t n_values;
} result;

static void make_latents(const sp_codec_config *config, float latents[POSITIONS * MAX_WIDTH])
{
    for (size_t i = 0; i < POSITIONS * config->code_dim; i++) latents[i] = sp_test_value(77, i);
}

/* Decodes the tokens of make_latents, and encodes `picture`, or what was decoded if it is NULL. */
static result run(const codec_checkpoint *c, const char *ops, int threads, const uint8_t *picture)
{
    result r = {.n_values = 0};
    float latents[POSITIONS * MAX_WIDTH];
    sp_codec *codec;
    sp_pool *pool;
    make_latents(&c->config, latents);
    SP_TEST_OK(sp_pool_open(&pool, threads, err));
    SP_TEST_OK(open_codec(&codec, c, ops, pool, err));
    r.n_values = sp_codec_height(codec) * sp_codec_width(codec) * 3;
    assert_true(r.n_values <= MAX_VALUES);
    assert_true(sp_codec_continuous(codec));
    assert_null(sp_codec_codes(codec));
    SP_TEST_OK(sp_codec_decode_latents(codec, latents, r.rgb, err));
    SP_TEST_OK(sp_codec_encode_latents(codec, picture ? picture : r.rgb, r.latents, err));
    SP_TEST_OK(sp_codec_describe(codec, picture ? picture : r.rgb, r.features, err));
    sp_codec_close(codec);
    sp_pool_close(pool);
    return r;
}

static double grey(double pixel) { return fmin(fmax((pixel + 1) * 127.5, 0), 255); }

static void close_to(const char *what, const char *kernels, const float *found, const json_t *expected,
                     double tolerance)
{
    for (size_t i = 0; i < json_array_size(expected); i++) {
        double value = json_real_value(json_array_get(expected, i));
        if (!(fabs((double)found[i] - value) <= tolerance))
            fail_msg("%s: %s %zu is %.8f, expected %.6f", kernels, what, i, (double)found[i], value);
    }
}

/* The file was made in double precision, and says by how much PyTorch's float differs from that. Its sums of K products
 * run in sixteen parts or more, ours in one: 4 = sqrt(16) times the error. Then half a unit of the last digit in the
 * file, and of pixels half a grey level. */
static void pytorch_agrees(void **state)
{
    (void)state;
    json_t *root = json_load_file(SP_SOURCE_DIR "/tests/unit/test_kl.json", 0, NULL);
    assert_non_null(root);
    for (int which = 0; which < 2; which++) {
        const json_t *golden = json_object_get(root, which ? "order" : "levels");
        const json_t *pixels = json_object_get(golden, "pixels"), *latents = json_object_get(golden, "latents");
        double pixel_error = 4 * json_real_value(json_object_get(golden, "pixel_error")) + 5e-7;
        double latent_error = 4 * json_real_value(json_object_get(golden, "latent_error")) + 5e-7;
        codec_checkpoint c = make_codec_checkpoint(which ? &ORDER : &LEVELS);
        uint8_t picture[MAX_VALUES];
        for (size_t i = 0; i < json_array_size(pixels); i++)
            picture[i] = (uint8_t)rint(grey(json_real_value(json_array_get(pixels, i))));
        for (const char *const *name = sp_ops_names(); *name; name++) {
            result r = run(&c, *name, 1, picture);
            assert_int_equal(r.n_values, json_array_size(pixels));
            assert_int_equal(json_array_size(latents), POSITIONS * c.config.code_dim);
            assert_int_equal(sp_codec_features(&c.config, c.file.tensors), 2 * c.config.z_channels);
            for (size_t i = 0; i < r.n_values; i++) {
                double expected = grey(json_real_value(json_array_get(pixels, i)));
                if (!(fabs((double)r.rgb[i] - expected) <= 0.5 + pixel_error * 127.5))
                    fail_msg("%s: value %zu is %d, expected %.3f", *name, i, r.rgb[i], expected);
            }
            close_to("latent", *name, r.latents, latents, latent_error);
            /* A latent is scale times a combination of features: they are larger by as much. */
            close_to("feature", *name, r.features, json_object_get(golden, "features"),
                     latent_error / (double)c.config.latent_scale);
        }
        free_checkpoint(&c.file);
    }
    json_decref(root);
}

/* As in test_vqgan.c: bf16 arithmetic moves a pixel by up to D from f32 on ref, another back end by as much again. */
static void bf16_is_as_close_as_the_reference(void **state)
{
    (void)state;
    codec_checkpoint c = make_codec_checkpoint(&LEVELS);
    result exact = run(&c, "ref", 1, NULL);
    c.config.bf16 = true;
    result rounded = run(&c, "ref", 1, exact.rgb);
    int moved = 0;
    for (size_t i = 0; i < exact.n_values; i++) {
        int d = abs((int)exact.rgb[i] - (int)rounded.rgb[i]);
        moved = d > moved ? d : moved;
    }
    assert_in_range(moved, 1, 8); /* 0 would mean that nothing was rounded */
    for (const char *const *name = sp_ops_names(); *name; name++) {
        result r = run(&c, *name, 2, exact.rgb);
        for (size_t i = 0; i < r.n_values; i++) assert_true(abs((int)exact.rgb[i] - (int)r.rgb[i]) <= 2 * moved);
        assert_memory_not_equal(r.rgb, exact.rgb, r.n_values);
    }
    free_checkpoint(&c.file);
}

static void threads_do_not_show(void **state)
{
    (void)state;
    codec_checkpoint c = make_codec_checkpoint(&LEVELS);
    for (const char *const *name = sp_ops_names(); *name; name++) {
        result one = run(&c, *name, 1, NULL);
        for (int threads = 2; threads <= 3; threads++) {
            result more = run(&c, *name, threads, NULL);
            assert_memory_equal(one.rgb, more.rgb, one.n_values);
            assert_memory_equal(one.latents, more.latents, sizeof one.latents);
        }
    }
    free_checkpoint(&c.file);
}

/* The scale of tokens is that of the encoder's means: a power of two changes no bit but the exponents of tokens. */
static void tokens_carry_the_scale(void **state)
{
    (void)state;
    codec_checkpoint c = make_codec_checkpoint(&ORDER);
    float latents[POSITIONS * MAX_WIDTH];
    uint8_t rgb[2][MAX_VALUES];
    float means[2][POSITIONS * MAX_WIDTH];
    size_t count = POSITIONS * c.config.code_dim;
    make_latents(&c.config, latents);
    for (int i = 0; i < 2; i++) {
        sp_codec *codec;
        c.config.latent_scale = i ? 4.0f : 1.0f;
        for (size_t j = 0; i && j < count; j++) latents[j] *= 4.0f;
        SP_TEST_OK(open_codec(&codec, &c, "auto", NULL, err));
        SP_TEST_OK(sp_codec_decode_latents(codec, latents, rgb[i], err));
        SP_TEST_OK(sp_codec_encode_latents(codec, rgb[0], means[i], err));
        sp_codec_close(codec);
    }
    assert_memory_equal(rgb[0], rgb[1], ROWS * 2 * COLUMNS * 2 * 3);
    for (size_t j = 0; j < count; j++) assert_true(means[1][j] == 4.0f * means[0][j]);
    free_checkpoint(&c.file);
}

static void without_an_encoder_it_only_decodes(void **state)
{
    (void)state;
    codec_checkpoint c = make_codec_checkpoint(&LEVELS);
    result whole = run(&c, "auto", 1, NULL);
    open_checkpoint(&c.file, "encoder.");
    float latents[POSITIONS * MAX_WIDTH];
    uint8_t rgb[MAX_VALUES];
    sp_codec *codec;
    sp_error refusal = {0};
    make_latents(&c.config, latents);
    SP_TEST_OK(open_codec(&codec, &c, "auto", NULL, err));
    SP_TEST_OK(sp_codec_decode_latents(codec, latents, rgb, err));
    assert_memory_equal(rgb, whole.rgb, whole.n_values);
    assert_int_equal(sp_codec_features(&c.config, c.file.tensors), 0);
    assert_int_equal(sp_codec_encode_latents(codec, rgb, latents, &refusal), SP_EUNSUPPORTED);
    assert_non_null(strstr(refusal.message, "encoder"));
    sp_codec_close(codec);
    free_checkpoint(&c.file);
}

static void every_missing_or_misshapen_tensor_is_named(void **state)
{
    (void)state;
    static const sp_codec_config *const configs[] = {&LEVELS, &ORDER};
    for (size_t i = 0; i < 2; i++) {
        codec_checkpoint c = make_codec_checkpoint(configs[i]);
        refuses_missing_and_misshapen(&c);
        free_checkpoint(&c.file);
    }
}

static void every_nan_weight_is_named(void **state)
{
    (void)state;
    codec_checkpoint c = make_codec_checkpoint(&LEVELS);
    refuses_nan(&c);
    free_checkpoint(&c.file);
}

static void an_overflow_is_never_a_picture(void **state)
{
    (void)state;
    for (const char *const *name = sp_ops_names(); *name; name++) {
        codec_checkpoint c = make_codec_checkpoint(&LEVELS);
        float latents[POSITIONS * MAX_WIDTH];
        uint8_t rgb[MAX_VALUES] = {0};
        sp_codec *codec;
        size_t count = 0;
        make_latents(&c.config, latents);
        static const char *const huge[] = {"decoder.conv_out.weight", "encoder.conv_out.weight", "quant_conv.weight"};
        for (size_t i = 0; i < sizeof huge / sizeof *huge; i++) {
            uint16_t *weights = tensor_data(&c.file, huge[i], &count);
            for (size_t j = 0; j < count; j++) weights[j] = sp_f32_to_bf16(3e38f);
        }
        SP_TEST_OK(open_codec(&codec, &c, *name, NULL, err));
        sp_error decoding = {0}, encoding = {0};
        assert_int_equal(sp_codec_decode_latents(codec, latents, rgb, &decoding), SP_EFORMAT);
        assert_int_equal(sp_codec_encode_latents(codec, rgb, latents, &encoding), SP_EFORMAT);
        assert_non_null(strstr(decoding.message, "overflow"));
        assert_non_null(strstr(encoding.message, "overflow"));
        sp_codec_close(codec);
        free_checkpoint(&c.file);
    }
}

static void tokens_that_are_no_numbers_are_refused(void **state)
{
    (void)state;
    codec_checkpoint c = make_codec_checkpoint(&LEVELS);
    float latents[POSITIONS * MAX_WIDTH];
    uint8_t rgb[MAX_VALUES];
    sp_codec *codec;
    SP_TEST_OK(open_codec(&codec, &c, "auto", NULL, err));
    const float bad[] = {NAN, INFINITY, -INFINITY};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        sp_error err = {0};
        make_latents(&c.config, latents);
        latents[POSITIONS * c.config.code_dim - 1] = bad[i];
        assert_int_equal(sp_codec_decode_latents(codec, latents, rgb, &err), SP_EARG);
        assert_non_null(strstr(err.message, "token 19"));
    }
    sp_codec_close(codec);
    free_checkpoint(&c.file);
}

static void tokens_of_the_other_kind_are_refused(void **state)
{
    (void)state;
    static const sp_codec_config vqgan = {
        .kind = "vqgan", .channels = 8, .channel_mult = {1}, .n_levels = 1, .blocks_per_level = 1, .z_channels = 6,
        .n_codes = 40, .code_dim = 4, .groups = 4, .group_norm_eps = 1e-6f, .rows = ROWS, .columns = COLUMNS};
    for (int continuous = 0; continuous < 2; continuous++) {
        codec_checkpoint c = make_codec_checkpoint(continuous ? &LEVELS : &vqgan);
        float latents[POSITIONS * MAX_WIDTH] = {0};
        int32_t tokens[POSITIONS] = {0};
        uint8_t rgb[MAX_VALUES] = {0};
        sp_codec *codec;
        sp_error decoding = {0}, encoding = {0};
        SP_TEST_OK(open_codec(&codec, &c, "auto", NULL, err));
        assert_int_equal(sp_codec_continuous(codec), continuous);
        if (continuous) {
            assert_int_equal(sp_codec_decode(codec, tokens, rgb, &decoding), SP_EUNSUPPORTED);
            assert_int_equal(sp_codec_encode(codec, rgb, tokens, &encoding), SP_EUNSUPPORTED);
        } else {
            assert_int_equal(sp_codec_decode_latents(codec, latents, rgb, &decoding), SP_EUNSUPPORTED);
            assert_int_equal(sp_codec_encode_latents(codec, rgb, latents, &encoding), SP_EUNSUPPORTED);
        }
        assert_non_null(strstr(decoding.message, continuous ? "found codes" : "found latents"));
        assert_string_equal(encoding.message, decoding.message);
        sp_codec_close(codec);
        free_checkpoint(&c.file);
    }
}

static void bad_shapes_are_refused(void **state)
{
    (void)state;
    codec_checkpoint c = make_codec_checkpoint(&LEVELS);
    sp_codec *codec;
    const struct { size_t offset, value; sp_status status; } wrong[] = {
        {offsetof(sp_codec_config, groups), 3, SP_EFORMAT},
        {offsetof(sp_codec_config, channels), SIZE_MAX, SP_EFORMAT},
        {offsetof(sp_codec_config, channel_mult), 65, SP_EFORMAT},
        {offsetof(sp_codec_config, rows), SIZE_MAX / 2, SP_ENOMEM},
        {offsetof(sp_codec_config, n_levels), 9, SP_EFORMAT},
        {offsetof(sp_codec_config, z_channels), 5, SP_EFORMAT},
        {offsetof(sp_codec_config, code_dim), 5, SP_EFORMAT},
        {offsetof(sp_codec_config, code_dim), 0, SP_EFORMAT},
    };
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        sp_error err = {0};
        c.config = LEVELS;
        memcpy((char *)&c.config + wrong[i].offset, &wrong[i].value, sizeof wrong[i].value);
        assert_int_equal(open_codec(&codec, &c, "auto", NULL, &err), wrong[i].status);
        assert_null(codec);
    }
    const float scales[] = {0.0f, -1.0f, NAN, INFINITY};
    for (size_t i = 0; i < sizeof scales / sizeof *scales; i++) {
        sp_error err = {0};
        c.config = LEVELS;
        c.config.latent_scale = scales[i];
        assert_int_equal(open_codec(&codec, &c, "auto", NULL, &err), SP_EFORMAT);
        assert_non_null(strstr(err.message, "scale"));
    }
    free_checkpoint(&c.file);
}

/* Multiply-adds and weights of a layer, biases and norms among them. */
static void cost(const sp_vq_layer *layer, double *products, double *weights)
{
    double k = (double)layer->in.channels, n = (double)layer->out.channels;
    double in = (double)(layer->in.height * layer->in.width), out = (double)(layer->out.height * layer->out.width);
    double shortcut = k == n ? 0 : k * n;
    switch (layer->kind) {
    case SP_VQ_CONV:
        *products += 9 * k * n * out;
        *weights += 9 * k * n + n;
        break;
    case SP_VQ_RES:
        *products += (9 * k * n + 9 * n * n + shortcut) * out;
        *weights += 9 * k * n + 9 * n * n + shortcut + (k == n ? 2 : 3) * n + 2 * k + 2 * n;
        break;
    case SP_VQ_ATTENTION:
        *products += 4 * k * k * in + 2 * in * in * k;
        *weights += 4 * k * k + 4 * k + 2 * k;
        break;
    case SP_VQ_OUT:
        *products += 9 * k * n * out;
        *weights += 9 * k * n + n + 2 * k;
        break;
    }
}

/* The decoder of KL-16: 125.07e9 multiply-adds a picture, 38.2e6 parameters. */
static void kl16_has_its_size(void **state)
{
    (void)state;
    static const sp_codec_config kl16 = {
        .kind = "kl", .channels = 128, .channel_mult = {1, 1, 2, 2, 4}, .n_levels = 5, .blocks_per_level = 2,
        .attention = SP_VQ_ATTENTION_ENCODER, .names = SP_VQ_NAMES_LEVELS, .z_channels = 16, .code_dim = 16,
        .latent_scale = 0.2325f, .groups = 32, .group_norm_eps = 1e-6f, .rows = 16, .columns = 16};
    sp_vq_layer layers[64];
    double products = 256 * 16 * 16, weights = 16 * 16 + 16;
    size_t n = sp_vq_plan(&kl16, SP_VQ_DECODER, NULL);
    assert_in_range(n, 1, 64);
    sp_vq_plan(&kl16, SP_VQ_DECODER, layers);
    for (size_t i = 0; i < n; i++) cost(&layers[i], &products, &weights);
    if (fabs(products - 125.07e9) > 0.005e9 || fabs(weights - 38.2e6) > 0.05e6)
        fail_msg("%.0f multiply-adds, %.0f parameters", products, weights);
    assert_string_equal(layers[1].name, "decoder.mid.block_1");
    assert_string_equal(layers[4].name, "decoder.up.4.block.0");
    assert_string_equal(layers[n - 2].name, "decoder.up.0.block.2");
}

static void memory_is_taken_at_opening_and_its_want_reported(void **state)
{
    (void)state;
    codec_checkpoint c = make_codec_checkpoint(&ORDER);
    float latents[POSITIONS * MAX_WIDTH];
    uint8_t rgb[MAX_VALUES];
    sp_codec *codec;
    make_latents(&c.config, latents);
    sp_test_fail_allocation(0);
    SP_TEST_OK(open_codec(&codec, &c, "auto", NULL, err));
    size_t needed = sp_test_counted()->n;
    SP_TEST_OK(sp_codec_decode_latents(codec, latents, rgb, err));
    SP_TEST_OK(sp_codec_encode_latents(codec, rgb, latents, err));
    assert_int_equal(sp_test_counted()->n, needed);
    sp_codec_close(codec);
    for (size_t i = 1; i <= needed; i++) {
        sp_error err = {0};
        sp_test_fail_allocation(i);
        assert_int_equal(open_codec(&codec, &c, "auto", NULL, &err), SP_ENOMEM);
        assert_null(codec);
    }
    sp_alloc_hook(NULL);
    free_checkpoint(&c.file);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(pytorch_agrees),
        cmocka_unit_test(bf16_is_as_close_as_the_reference),
        cmocka_unit_test(threads_do_not_show),
        cmocka_unit_test(tokens_carry_the_scale),
        cmocka_unit_test(without_an_encoder_it_only_decodes),
        cmocka_unit_test(every_missing_or_misshapen_tensor_is_named),
        cmocka_unit_test(every_nan_weight_is_named),
        cmocka_unit_test(an_overflow_is_never_a_picture),
        cmocka_unit_test(tokens_that_are_no_numbers_are_refused),
        cmocka_unit_test(tokens_of_the_other_kind_are_refused),
        cmocka_unit_test(bad_shapes_are_refused),
        cmocka_unit_test(kl16_has_its_size),
        cmocka_unit_test(memory_is_taken_at_opening_and_its_want_reported),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
