/* The VQGAN codec on weights made by formula: against PyTorch (test_vqgan.json), between back ends, and refusing what
 * it should. */
#include <jansson.h>

#include "base/arena.h"
#include "codec_checkpoint.h"

static const sp_codec_config MIDDLE = {
    .kind = "vqgan", .channels = 8, .channel_mult = {1, 2}, .n_levels = 2, .blocks_per_level = 1, .z_channels = 6,
    .attention = SP_VQ_ATTENTION_MIDDLE, .n_codes = 40, .code_dim = 4, .l2_normalised = true, .groups = 4,
    .group_norm_eps = 1e-6f, .rows = ROWS, .columns = COLUMNS};
static const sp_codec_config LOWEST = {
    .kind = "vqgan", .channels = 16, .channel_mult = {1, 1, 3}, .n_levels = 3, .blocks_per_level = 2, .z_channels = 12,
    .attention = SP_VQ_ATTENTION_LOWEST, .n_codes = 64, .code_dim = 8, .l2_normalised = true, .groups = 8,
    .group_norm_eps = 1e-6f, .rows = ROWS, .columns = COLUMNS};

typedef struct result {
    uint8_t rgb[ROWS * 4 * COLUMNS * 4 * 3];
    int32_t codes[ROWS * COLUMNS];
    size_t n_pixels; /* times 3 */
} result;

static void make_tokens(const sp_codec_config *config, int32_t tokens[ROWS * COLUMNS])
{
    for (int i = 0; i < ROWS * COLUMNS; i++) tokens[i] = (7 * i + 3) % (int)config->n_codes;
}

/* Decodes the tokens of make_tokens, and encodes `picture`, or what was decoded if it is NULL. */
static result run(const codec_checkpoint *c, const char *ops, int threads, const uint8_t *picture)
{
    result r = {.n_pixels = 0};
    int32_t tokens[ROWS * COLUMNS];
    sp_codec *codec;
    sp_pool *pool;
    make_tokens(&c->config, tokens);
    SP_TEST_OK(sp_pool_open(&pool, threads, err));
    SP_TEST_OK(open_codec(&codec, c, ops, pool, err));
    r.n_pixels = sp_codec_height(codec) * sp_codec_width(codec) * 3;
    assert_true(r.n_pixels <= sizeof r.rgb);
    SP_TEST_OK(sp_codec_decode(codec, tokens, r.rgb, err));
    SP_TEST_OK(sp_codec_encode(codec, picture ? picture : r.rgb, r.codes, err));
    sp_codec_close(codec);
    sp_pool_close(pool);
    return r;
}

static double grey(double pixel) { return fmin(fmax((pixel + 1) * 127.5, 0), 255); }

/* PyTorch's pixels to half a grey level and what 1e-4 of float arithmetic can add; its codes exactly (they win by more
 * than 1e-3, as the file says). */
static void pytorch_agrees(void **state)
{
    (void)state;
    json_t *root = json_load_file(SP_SOURCE_DIR "/tests/unit/test_vqgan.json", 0, NULL);
    assert_non_null(root);
    for (int which = 0; which < 2; which++) {
        const json_t *golden = json_object_get(root, which ? "lowest" : "middle");
        const json_t *pixels = json_object_get(golden, "pixels"), *codes = json_object_get(golden, "codes");
        codec_checkpoint c = make_codec_checkpoint(which ? &LOWEST : &MIDDLE);
        uint8_t picture[sizeof((result *)0)->rgb];
        for (size_t i = 0; i < json_array_size(pixels); i++)
            picture[i] = (uint8_t)rint(grey(json_real_value(json_array_get(pixels, i))));
        for (const char *const *name = sp_ops_names(); *name; name++) {
            result r = run(&c, *name, 1, picture);
            assert_int_equal(r.n_pixels, json_array_size(pixels));
            for (size_t i = 0; i < r.n_pixels; i++) {
                double expected = grey(json_real_value(json_array_get(pixels, i)));
                if (fabs((double)r.rgb[i] - expected) > 0.5 + 1e-4 * 127.5)
                    fail_msg("%s: value %zu is %d, expected %.3f", *name, i, r.rgb[i], expected);
            }
            for (size_t i = 0; i < ROWS * COLUMNS; i++)
                assert_int_equal(r.codes[i], json_integer_value(json_array_get(codes, i)));
        }
        free_checkpoint(&c.file);
    }
    json_decref(root);
}

/* bf16 arithmetic moves a pixel by up to D from f32, measured on ref. Another back end sums in another order, which
 * can round an activation the other way and so move a pixel by as much again, but not by more than both. */
static void bf16_is_as_close_as_the_reference(void **state)
{
    (void)state;
    codec_checkpoint c = make_codec_checkpoint(&LOWEST);
    result exact = run(&c, "ref", 1, NULL);
    c.config.bf16 = true;
    result rounded = run(&c, "ref", 1, exact.rgb);
    int moved = 0;
    for (size_t i = 0; i < exact.n_pixels; i++) {
        int d = abs((int)exact.rgb[i] - (int)rounded.rgb[i]);
        moved = d > moved ? d : moved;
    }
    assert_in_range(moved, 1, 8); /* 0 would mean that nothing was rounded */
    for (const char *const *name = sp_ops_names(); *name; name++) {
        result r = run(&c, *name, 2, exact.rgb);
        for (size_t i = 0; i < r.n_pixels; i++) assert_true(abs((int)exact.rgb[i] - (int)r.rgb[i]) <= 2 * moved);
        assert_memory_not_equal(r.rgb, exact.rgb, r.n_pixels);
    }
    free_checkpoint(&c.file);
}

static void threads_do_not_show(void **state)
{
    (void)state;
    codec_checkpoint c = make_codec_checkpoint(&LOWEST);
    for (int bf16 = 0; bf16 < 2; bf16++) {
        c.config.bf16 = bf16;
        for (const char *const *name = sp_ops_names(); *name; name++) {
            result one = run(&c, *name, 1, NULL);
            for (int threads = 2; threads <= 3; threads++) {
                result more = run(&c, *name, threads, NULL);
                assert_memory_equal(one.rgb, more.rgb, one.n_pixels);
                assert_memory_equal(one.codes, more.codes, sizeof one.codes);
            }
        }
    }
    free_checkpoint(&c.file);
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
        for (size_t i = 0; i < ROWS * COLUMNS; i++) assert_int_equal(r.codes[i], 4);
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
    float pixels[sizeof((result *)0)->rgb];
    uint8_t rgb[sizeof((result *)0)->rgb];
    int32_t found[ROWS * COLUMNS], expected[ROWS * COLUMNS];
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

static void without_an_encoder_it_only_decodes(void **state)
{
    (void)state;
    codec_checkpoint c = make_codec_checkpoint(&MIDDLE);
    result whole = run(&c, "auto", 1, NULL);
    open_checkpoint(&c.file, "encoder.");
    int32_t tokens[ROWS * COLUMNS];
    sp_codec *codec;
    sp_error refusal = {0};
    uint8_t rgb[sizeof whole.rgb];
    make_tokens(&c.config, tokens);
    SP_TEST_OK(open_codec(&codec, &c, "auto", NULL, err));
    SP_TEST_OK(sp_codec_decode(codec, tokens, rgb, err));
    assert_memory_equal(rgb, whole.rgb, whole.n_pixels);
    assert_int_equal(sp_codec_encode(codec, rgb, tokens, &refusal), SP_EUNSUPPORTED);
    assert_non_null(strstr(refusal.message, "encoder"));
    sp_codec_close(codec);
    free_checkpoint(&c.file);
}

static void every_missing_or_misshapen_tensor_is_named(void **state)
{
    (void)state;
    codec_checkpoint c = make_codec_checkpoint(&LOWEST);
    refuses_missing_and_misshapen(&c);
    free_checkpoint(&c.file);
}

static void every_nan_weight_is_named(void **state)
{
    (void)state;
    codec_checkpoint c = make_codec_checkpoint(&LOWEST);
    refuses_nan(&c);
    free_checkpoint(&c.file);
}

static void an_overflow_is_never_a_picture(void **state)
{
    (void)state;
    for (const char *const *name = sp_ops_names(); *name; name++) {
        codec_checkpoint c = make_codec_checkpoint(&MIDDLE);
        int32_t tokens[ROWS * COLUMNS];
        uint8_t rgb[sizeof((result *)0)->rgb] = {0};
        sp_codec *codec;
        size_t count = 0;
        make_tokens(&c.config, tokens);
        static const char *const huge[] = {"decoder.conv_out.weight", "encoder.conv_out.weight", "quant_conv.weight"};
        for (size_t i = 0; i < sizeof huge / sizeof *huge; i++) {
            uint16_t *weights = tensor_data(&c.file, huge[i], &count);
            for (size_t j = 0; j < count; j++) weights[j] = sp_f32_to_bf16(3e38f);
        }
        SP_TEST_OK(open_codec(&codec, &c, *name, NULL, err));
        sp_error decoding = {0}, encoding = {0};
        assert_int_equal(sp_codec_decode(codec, tokens, rgb, &decoding), SP_EFORMAT);
        assert_int_equal(sp_codec_encode(codec, rgb, tokens, &encoding), SP_EFORMAT);
        assert_non_null(strstr(decoding.message, "overflow"));
        assert_non_null(strstr(encoding.message, "overflow"));
        sp_codec_close(codec);
        free_checkpoint(&c.file);
    }
}

static void bad_arguments_are_refused(void **state)
{
    (void)state;
    codec_checkpoint c = make_codec_checkpoint(&MIDDLE);
    int32_t tokens[ROWS * COLUMNS];
    uint8_t rgb[sizeof((result *)0)->rgb];
    sp_codec *codec;
    SP_TEST_OK(open_codec(&codec, &c, "auto", NULL, err));
    for (int i = 0; i < 2; i++) {
        sp_error err = {0};
        make_tokens(&c.config, tokens);
        tokens[ROWS * COLUMNS - 1] = i ? (int32_t)MIDDLE.n_codes : -1;
        assert_int_equal(sp_codec_decode(codec, tokens, rgb, &err), SP_EARG);
        assert_non_null(strstr(err.message, "token 19"));
    }
    sp_codec_close(codec);
    const struct { size_t offset, value; sp_status status; } wrong[] = {
        {offsetof(sp_codec_config, groups), 3, SP_EFORMAT},
        {offsetof(sp_codec_config, groups), 0, SP_EFORMAT},
        {offsetof(sp_codec_config, channels), 0, SP_EFORMAT},
        {offsetof(sp_codec_config, channels), SIZE_MAX, SP_EFORMAT},
        {offsetof(sp_codec_config, channel_mult), 0, SP_EFORMAT},
        {offsetof(sp_codec_config, channel_mult), 65, SP_EFORMAT},
        {offsetof(sp_codec_config, rows), 0, SP_EFORMAT},
        {offsetof(sp_codec_config, rows), SIZE_MAX / 2, SP_ENOMEM},
        {offsetof(sp_codec_config, n_levels), 0, SP_EFORMAT},
        {offsetof(sp_codec_config, n_levels), 9, SP_EFORMAT},
        {offsetof(sp_codec_config, z_channels), 7, SP_EFORMAT},
        {offsetof(sp_codec_config, code_dim), 5, SP_EFORMAT},
    };
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        sp_error err = {0};
        c.config = MIDDLE;
        memcpy((char *)&c.config + wrong[i].offset, &wrong[i].value, sizeof wrong[i].value);
        assert_int_equal(open_codec(&codec, &c, "auto", NULL, &err), wrong[i].status);
        assert_null(codec);
    }
    sp_error err = {0};
    c.config = MIDDLE;
    memcpy(c.config.kind, "vqgam", 6);
    assert_int_equal(open_codec(&codec, &c, "auto", NULL, &err), SP_EUNSUPPORTED);
    assert_non_null(strstr(err.message, "vqgam"));
    free_checkpoint(&c.file);
}

static void memory_is_taken_at_opening_and_its_want_reported(void **state)
{
    (void)state;
    codec_checkpoint c = make_codec_checkpoint(&MIDDLE);
    int32_t tokens[ROWS * COLUMNS];
    uint8_t rgb[sizeof((result *)0)->rgb];
    sp_codec *codec;
    make_tokens(&c.config, tokens);
    sp_test_fail_allocation(0);
    SP_TEST_OK(open_codec(&codec, &c, "auto", NULL, err));
    size_t needed = sp_test_counted()->n;
    SP_TEST_OK(sp_codec_decode(codec, tokens, rgb, err));
    SP_TEST_OK(sp_codec_encode(codec, rgb, tokens, err));
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
        cmocka_unit_test(codes_that_are_not_normalised_are_found_by_distance),
        cmocka_unit_test(colours_are_rounded_and_clamped),
        cmocka_unit_test(bytes_become_minus_one_to_one),
        cmocka_unit_test(without_an_encoder_it_only_decodes),
        cmocka_unit_test(every_missing_or_misshapen_tensor_is_named),
        cmocka_unit_test(every_nan_weight_is_named),
        cmocka_unit_test(an_overflow_is_never_a_picture),
        cmocka_unit_test(bad_arguments_are_refused),
        cmocka_unit_test(memory_is_taken_at_opening_and_its_want_reported),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
