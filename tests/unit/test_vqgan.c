/* The VQGAN codec on weights made by formula: against PyTorch (test_vqgan.json), between back ends, and refusing what
 * it should. */
#include "codec_tests.h"

static const sp_codec_config MIDDLE = {
    .kind = "vqgan", .channels = 8, .channel_mult = {1, 2}, .n_levels = 2, .blocks_per_level = 1, .z_channels = 6,
    .attention = SP_VQ_ATTENTION_MIDDLE, .n_codes = 40, .code_dim = 4, .l2_normalised = true, .groups = 4,
    .group_norm_eps = 1e-6f, .rows = ROWS, .columns = COLUMNS};
static const sp_codec_config LOWEST = {
    .kind = "vqgan", .channels = 16, .channel_mult = {1, 1, 3}, .n_levels = 3, .blocks_per_level = 2, .z_channels = 12,
    .attention = SP_VQ_ATTENTION_LOWEST, .n_codes = 64, .code_dim = 8, .l2_normalised = true, .groups = 8,
    .group_norm_eps = 1e-6f, .rows = ROWS, .columns = COLUMNS};

/* PyTorch's pixels to what 1e-4 of float arithmetic can add; its codes exactly (they win by more than 1e-3, as the file
 * says). */
static void pytorch_agrees(void **state)
{
    (void)state;
    json_t *root = json_load_file(SP_SOURCE_DIR "/tests/unit/test_vqgan.json", 0, NULL);
    assert_non_null(root);
    for (int which = 0; which < 2; which++) {
        const json_t *golden = json_object_get(root, which ? "lowest" : "middle");
        const json_t *pixels = json_object_get(golden, "pixels"), *codes = json_object_get(golden, "codes");
        codec_checkpoint c = make_codec_checkpoint(which ? &LOWEST : &MIDDLE);
        uint8_t picture[MAX_VALUES];
        read_picture(pixels, picture);
        for (const char *const *name = sp_ops_names(); *name; name++) {
            result r = run(&c, *name, 1, picture);
            pixels_agree(*name, &r, pixels, 1e-4);
            for (size_t i = 0; i < POSITIONS; i++)
                assert_int_equal(r.tokens.codes[i], json_integer_value(json_array_get(codes, i)));
        }
        free_checkpoint(&c.file);
    }
    json_decref(root);
}

/* quant_conv gives one point everywhere; its nearest code is short, while longer ones have a larger product with it. */
static void codes_that_are_not_normalised_are_found_by_distance(void **state)
{
    (void)state;
    codec_checkpoint c = make_codec_checkpoint(&MIDDLE);
    size_t count = 0, width = MIDDLE.code_dim;
    c.config.l2_normalised = false;
    uint16_t *weights = tensor_data(&c.file, "quant_conv.weight", &count);
    memset(weights, 0, count * sizeof *weights);
    uint16_t *point = tensor_data(&c.file, "quant_conv.bias", &count);
    uint16_t *codes = tensor_data(&c.file, "quantize.embedding.weight", &count);
    for (size_t i = 0; i < count; i++) codes[i] = sp_f32_to_bf16((float)(i / width) * 0.5f);
    for (size_t i = 0; i < width; i++) point[i] = sp_f32_to_bf16(2.125f); /* code 4 is 2, code 5 is 2.5 */
    for (const char *const *name = sp_ops_names(); *name; name++) {
        result r = run(&c, *name, 1, NULL);
        for (size_t i = 0; i < POSITIONS; i++) assert_int_equal(r.tokens.codes[i], 4);
    }
    free_checkpoint(&c.file);
}

static void colours_are_rounded_and_clamped(void **state)
{
    (void)state;
    /* 127.5 x + 127.5 is 127.5, a half, upwards; far below 0; 159.375; then 191.25; far above 255; exactly 0 */
    static const float colours[2][3] = {{0.0f, -2.0f, 0.25f}, {0.5f, 2.0f, -1.0f}};
    static const uint8_t expected[2][3] = {{128, 0, 159}, {191, 255, 0}};
    codec_checkpoint c = make_codec_checkpoint(&MIDDLE);
    size_t count = 0;
    uint16_t *weights = tensor_data(&c.file, "decoder.conv_out.weight", &count);
    memset(weights, 0, count * sizeof *weights);
    uint16_t *bias = tensor_data(&c.file, "decoder.conv_out.bias", &count);
    for (size_t which = 0; which < 2; which++) {
        for (size_t i = 0; i < 3; i++) bias[i] = sp_f32_to_bf16(colours[which][i]);
        result r = run(&c, "ref", 1, NULL);
        assert_memory_equal(r.rgb, expected[which], 3);
    }
    free_checkpoint(&c.file);
}

/* GroupNorm hides most of a wrong scale: only many pictures show it. */
static void bytes_become_minus_one_to_one(void **state)
{
    (void)state;
    extern const sp_codec_ops sp_codec_vqgan;
    enum { PICTURES = 64 };
    codec_checkpoint c = make_codec_checkpoint(&MIDDLE);
    float pixels[MAX_VALUES];
    uint8_t rgb[MAX_VALUES];
    int32_t found[POSITIONS], expected[POSITIONS];
    sp_codec *codec;
    void *network;
    SP_TEST_OK(open_codec(&codec, &c, "auto", NULL, err));
    SP_TEST_OK(sp_codec_vqgan.open(&network, &c.config, c.file.tensors, sp_ops_find("auto"), NULL, err));
    size_t count = sp_codec_height(codec) * sp_codec_width(codec) * 3;
    for (uint32_t picture = 0; picture < PICTURES; picture++) {
        for (size_t i = 0; i < count; i++) {
            rgb[i] = (uint8_t)(127.5f * (sp_test_value(picture, i) + 1.0f));
            pixels[i] = (float)rgb[i] / 127.5f - 1.0f;
        }
        SP_TEST_OK(sp_codec_encode(codec, rgb, found, err));
        SP_TEST_OK(sp_codec_vqgan.encode(network, pixels, expected, err));
        assert_memory_equal(found, expected, sizeof found);
    }
    sp_codec_vqgan.close(network);
    sp_codec_close(codec);
    free_checkpoint(&c.file);
}

static void codes_out_of_range_are_refused(void **state)
{
    (void)state;
    codec_checkpoint c = make_codec_checkpoint(&MIDDLE);
    uint8_t rgb[MAX_VALUES];
    sp_codec *codec;
    SP_TEST_OK(open_codec(&codec, &c, "auto", NULL, err));
    for (int i = 0; i < 2; i++) {
        sp_error err = {0};
        tokens t = make_tokens(&c.config);
        t.codes[POSITIONS - 1] = i ? (int32_t)MIDDLE.n_codes : -1;
        assert_int_equal(sp_codec_decode(codec, t.codes, rgb, &err), SP_EARG);
        assert_non_null(strstr(err.message, "token 19"));
    }
    sp_codec_close(codec);
    free_checkpoint(&c.file);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(pytorch_agrees),
        SP_CODEC_TEST(bf16_is_as_close_as_the_reference, LOWEST),
        SP_CODEC_TEST(threads_do_not_show, LOWEST),
        cmocka_unit_test(codes_that_are_not_normalised_are_found_by_distance),
        cmocka_unit_test(colours_are_rounded_and_clamped),
        cmocka_unit_test(bytes_become_minus_one_to_one),
        SP_CODEC_TEST(without_an_encoder_it_only_decodes, MIDDLE),
        SP_CODEC_TEST(every_missing_or_misshapen_tensor_is_named, LOWEST),
        SP_CODEC_TEST(every_nan_weight_is_named, LOWEST),
        SP_CODEC_TEST(an_overflow_is_never_a_picture, MIDDLE),
        cmocka_unit_test(codes_out_of_range_are_refused),
        SP_CODEC_TEST(wrong_configurations_are_refused, MIDDLE),
        SP_CODEC_TEST(memory_is_taken_at_opening_and_its_want_reported, MIDDLE),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
