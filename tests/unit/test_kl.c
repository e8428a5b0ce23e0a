/* The KL autoencoder on weights made by formula, under both ways of naming them: against PyTorch (test_kl.json),
 * between back ends, and refusing what it should. */
#include "codec_tests.h"
#include "vq/vqgan_layers.h"

static const sp_codec_config LEVELS = {
    .kind = "kl", .channels = 32, .channel_mult = {1, 1, 2}, .n_levels = 3, .blocks_per_level = 2, .z_channels = 4,
    .attention = SP_VQ_ATTENTION_ENCODER, .names = SP_VQ_NAMES_LEVELS, .code_dim = 4, .latent_scale = 0.2325f,
    .groups = 32, .group_norm_eps = 1e-6f, .rows = ROWS, .columns = COLUMNS};
static const sp_codec_config ORDER = {
    .kind = "kl", .channels = 16, .channel_mult = {1, 3}, .n_levels = 2, .blocks_per_level = 1, .z_channels = 6,
    .attention = SP_VQ_ATTENTION_MIDDLE, .names = SP_VQ_NAMES_ORDER, .code_dim = 6, .latent_scale = 0.2325f,
    .groups = 8, .group_norm_eps = 1e-6f, .rows = ROWS, .columns = COLUMNS};

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
        read_picture(pixels, picture);
        for (const char *const *name = sp_ops_names(); *name; name++) {
            result r = run(&c, *name, 1, picture);
            pixels_agree(*name, &r, pixels, pixel_error);
            assert_int_equal(json_array_size(latents), POSITIONS * c.config.code_dim);
            close_to("latent", *name, r.tokens.latents, latents, latent_error);
            /* A latent is scale times a combination of features: they are larger by as much. */
            close_to("feature", *name, r.features, json_object_get(golden, "features"),
                     latent_error / (double)c.config.latent_scale);
        }
        free_checkpoint(&c.file);
    }
    json_decref(root);
}

/* The scale of tokens is that of the encoder's means: a power of two changes no bit but the exponents of tokens. */
static void tokens_carry_the_scale(void **state)
{
    (void)state;
    codec_checkpoint c = make_codec_checkpoint(&ORDER);
    tokens t = make_tokens(&c.config);
    uint8_t rgb[2][MAX_VALUES];
    float means[2][POSITIONS * MAX_WIDTH];
    size_t count = POSITIONS * c.config.code_dim;
    for (int i = 0; i < 2; i++) {
        sp_codec *codec;
        c.config.latent_scale = i ? 4.0f : 1.0f;
        for (size_t j = 0; i && j < count; j++) t.latents[j] *= 4.0f;
        SP_TEST_OK(open_codec(&codec, &c, "auto", NULL, err));
        SP_TEST_OK(sp_codec_decode_latents(codec, t.latents, rgb[i], err));
        SP_TEST_OK(sp_codec_encode_latents(codec, rgb[0], means[i], err));
        sp_codec_close(codec);
    }
    assert_memory_equal(rgb[0], rgb[1], ROWS * 2 * COLUMNS * 2 * 3);
    for (size_t j = 0; j < count; j++) assert_true(means[1][j] == 4.0f * means[0][j]);
    free_checkpoint(&c.file);
}

static void tokens_that_are_no_numbers_are_refused(void **state)
{
    (void)state;
    codec_checkpoint c = make_codec_checkpoint(&LEVELS);
    uint8_t rgb[MAX_VALUES];
    sp_codec *codec;
    SP_TEST_OK(open_codec(&codec, &c, "auto", NULL, err));
    const float bad[] = {NAN, INFINITY, -INFINITY};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        sp_error err = {0};
        tokens t = make_tokens(&c.config);
        t.latents[POSITIONS * c.config.code_dim - 1] = bad[i];
        assert_int_equal(sp_codec_decode_latents(codec, t.latents, rgb, &err), SP_EARG);
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
        tokens t = {.codes = {0}};
        uint8_t rgb[MAX_VALUES] = {0};
        sp_codec *codec;
        sp_error decoding = {0}, encoding = {0};
        SP_TEST_OK(open_codec(&codec, &c, "auto", NULL, err));
        assert_int_equal(sp_codec_continuous(codec), continuous);
        if (continuous) {
            assert_int_equal(sp_codec_decode(codec, t.codes, rgb, &decoding), SP_EUNSUPPORTED);
            assert_int_equal(sp_codec_encode(codec, rgb, t.codes, &encoding), SP_EUNSUPPORTED);
        } else {
            assert_int_equal(sp_codec_decode_latents(codec, t.latents, rgb, &decoding), SP_EUNSUPPORTED);
            assert_int_equal(sp_codec_encode_latents(codec, rgb, t.latents, &encoding), SP_EUNSUPPORTED);
        }
        assert_non_null(strstr(decoding.message, continuous ? "found codes" : "found latents"));
        assert_string_equal(encoding.message, decoding.message);
        sp_codec_close(codec);
        free_checkpoint(&c.file);
    }
}

static void wrong_scales_are_refused(void **state)
{
    (void)state;
    codec_checkpoint c = make_codec_checkpoint(&LEVELS);
    const float scales[] = {0.0f, -1.0f, NAN, INFINITY};
    for (size_t i = 0; i < sizeof scales / sizeof *scales; i++) {
        c.config.latent_scale = scales[i];
        refuses_to_open(&c, SP_EFORMAT, "scale");
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

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(pytorch_agrees),
        SP_CODEC_TEST(bf16_is_as_close_as_the_reference, LEVELS),
        SP_CODEC_TEST(threads_do_not_show, LEVELS),
        cmocka_unit_test(tokens_carry_the_scale),
        SP_CODEC_TEST(without_an_encoder_it_only_decodes, LEVELS),
        SP_CODEC_TEST(every_missing_or_misshapen_tensor_is_named, LEVELS),
        SP_CODEC_TEST(every_missing_or_misshapen_tensor_is_named, ORDER),
        SP_CODEC_TEST(every_nan_weight_is_named, LEVELS),
        SP_CODEC_TEST(an_overflow_is_never_a_picture, LEVELS),
        cmocka_unit_test(tokens_that_are_no_numbers_are_refused),
        cmocka_unit_test(tokens_of_the_other_kind_are_refused),
        SP_CODEC_TEST(wrong_configurations_are_refused, LEVELS),
        cmocka_unit_test(wrong_scales_are_refused),
        cmocka_unit_test(kl16_has_its_size),
        SP_CODEC_TEST(memory_is_taken_at_opening_and_its_want_reported, ORDER),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
