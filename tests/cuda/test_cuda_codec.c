/* Whole decoders on the device, over the seam a program uses, against kernels/ref: both codecs, both ways of naming,
 * with and without attention at the lowest level, widths that change, sizes that fill no tile. Weights by formula. */
#include "unit/codec_checkpoint.h"

extern const sp_device_codec_ops sp_cuda_codec;

static const sp_codec_config configs[] = {
    {.kind = "vqgan", .channels = 8, .channel_mult = {1, 2}, .n_levels = 2, .blocks_per_level = 1, .z_channels = 6,
     .attention = SP_VQ_ATTENTION_MIDDLE, .n_codes = 40, .code_dim = 4, .l2_normalised = true, .groups = 4,
     .group_norm_eps = 1e-6f, .rows = ROWS, .columns = COLUMNS},
    {.kind = "vqgan", .channels = 16, .channel_mult = {1, 1, 3}, .n_levels = 3, .blocks_per_level = 2, .z_channels = 12,
     .attention = SP_VQ_ATTENTION_LOWEST, .n_codes = 64, .code_dim = 7, .groups = 8, .group_norm_eps = 1e-6f,
     .rows = ROWS, .columns = COLUMNS},
    {.kind = "kl", .channels = 32, .channel_mult = {1, 1, 2}, .n_levels = 3, .blocks_per_level = 2, .z_channels = 4,
     .attention = SP_VQ_ATTENTION_ENCODER, .names = SP_VQ_NAMES_LEVELS, .code_dim = 4, .latent_scale = 0.2325f,
     .groups = 32, .group_norm_eps = 1e-6f, .rows = ROWS, .columns = COLUMNS},
    {.kind = "kl", .channels = 16, .channel_mult = {1, 3}, .n_levels = 2, .blocks_per_level = 1, .z_channels = 6,
     .attention = SP_VQ_ATTENTION_MIDDLE, .names = SP_VQ_NAMES_ORDER, .code_dim = 6, .latent_scale = 0.2325f,
     .groups = 8, .group_norm_eps = 1e-6f, .rows = ROWS, .columns = COLUMNS},
};

enum { POSITIONS = ROWS * COLUMNS, MAX_WIDTH = 8, MAX_VALUES = POSITIONS * 4 * 4 * 3 };

typedef struct picture {
    uint8_t rgb[MAX_VALUES];
    size_t n;
} picture;

static sp_status decode(sp_codec *codec, const sp_codec_config *config, uint32_t which, uint8_t *rgb, sp_error *err)
{
    int32_t tokens[POSITIONS];
    float latents[POSITIONS * MAX_WIDTH];
    for (int i = 0; config->n_codes && i < POSITIONS; i++) tokens[i] = (7 * i + 3 + (int)which) % (int)config->n_codes;
    for (size_t i = 0; i < POSITIONS * config->code_dim; i++) latents[i] = sp_test_value(77 + which, i);
    if (config->n_codes) return sp_codec_decode(codec, tokens, rgb, err);
    return sp_codec_decode_latents(codec, latents, rgb, err);
}

static sp_codec *open(const codec_checkpoint *c, bool device)
{
    sp_codec *codec;
    SP_TEST_OK(open_codec(&codec, c, "ref", NULL, err));
    assert_int_equal(sp_codec_device_bytes(codec), 0);
    if (device) SP_TEST_OK(sp_codec_use_device(codec, c->file.tensors, &sp_cuda_codec, 0, err));
    if (device) assert_true(sp_codec_device_bytes(codec) > c->file.total);
    return codec;
}

static picture draw(const codec_checkpoint *c, bool device, uint32_t which)
{
    sp_codec *codec = open(c, device);
    picture p = {.n = sp_codec_height(codec) * sp_codec_width(codec) * 3};
    assert_true(p.n <= MAX_VALUES);
    SP_TEST_OK(decode(codec, &c->config, which, p.rgb, err));
    sp_codec_close(codec);
    return p;
}

/* As between back ends of the processor (test_vqgan): bf16 moves a pixel by up to D from f32, measured on ref; another
 * order of sums can round an activation the other way and so move a pixel by as much again, but not by more. */
static void as_close_as_the_reference(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof configs / sizeof *configs; i++) {
        codec_checkpoint c = make_codec_checkpoint(&configs[i]);
        int moved = 0, found = 0;
        picture exact = draw(&c, false, 0);
        c.config.bf16 = true;
        picture rounded = draw(&c, false, 0), device = draw(&c, true, 0);
        for (size_t v = 0; v < exact.n; v++) {
            int by = abs((int)exact.rgb[v] - (int)rounded.rgb[v]), other = abs((int)exact.rgb[v] - (int)device.rgb[v]);
            moved = by > moved ? by : moved;
            found = other > found ? other : found;
        }
        assert_in_range(moved, 1, 8); /* 0 would mean that nothing was rounded */
        if (found > 2 * moved) fail_msg("codec %zu: a value is off by %d, expected at most %d", i, found, 2 * moved);
        free_checkpoint(&c.file);
    }
}

/* A codec decodes again and again, other tokens between: nothing stays in its buffers. */
static void repeats(void **state)
{
    (void)state;
    codec_checkpoint c = make_codec_checkpoint(&configs[1]);
    sp_codec *codec = open(&c, true);
    picture first = draw(&c, true, 0), other = draw(&c, true, 1), again = {.n = 0};
    assert_memory_not_equal(first.rgb, other.rgb, first.n);
    for (uint32_t which = 0; which < 4; which++) {
        SP_TEST_OK(decode(codec, &c.config, which % 2, again.rgb, err));
        assert_memory_equal(again.rgb, which % 2 ? other.rgb : first.rgb, first.n);
    }
    sp_codec_close(codec);
    free_checkpoint(&c.file);
}

/* A last layer that gives its bias whatever it gets: rounded and cut off to the same grey levels. */
static void colours_round_as_on_the_processor(void **state)
{
    (void)state;
    static const float colours[][3] = {{0, 0.5f, -0.5f}, {1, -1, 1.5f}, {-7, 300, 0.125f}, {-0.9921875f, 0.75f, 0.25f}};
    for (size_t i = 0; i < sizeof colours / sizeof *colours; i++) {
        codec_checkpoint c = make_codec_checkpoint(&configs[0]);
        size_t count = 0;
        uint16_t *weights = tensor_data(&c.file, "decoder.conv_out.weight", &count);
        for (size_t j = 0; j < count; j++) weights[j] = 0;
        uint16_t *bias = tensor_data(&c.file, "decoder.conv_out.bias", &count);
        for (size_t j = 0; j < count; j++) bias[j] = sp_f32_to_bf16(colours[i][j]);
        picture expected = draw(&c, false, 0), found = draw(&c, true, 0);
        assert_memory_equal(found.rgb, expected.rgb, expected.n);
        free_checkpoint(&c.file);
    }
}

/* Weights that overflow: the pixel is named as the processor names it. */
static void names_what_is_no_colour(void **state)
{
    (void)state;
    codec_checkpoint c = make_codec_checkpoint(&configs[0]);
    size_t count = 0;
    uint8_t rgb[MAX_VALUES];
    uint16_t *gain = tensor_data(&c.file, "decoder.norm_out.weight", &count);
    for (size_t i = 0; i < count; i++) gain[i] = sp_f32_to_bf16(3e38f);
    char message[2][512];
    for (int device = 0; device < 2; device++) {
        sp_error err = {0};
        sp_codec *codec = open(&c, device);
        assert_int_equal(decode(codec, &c.config, 0, rgb, &err), SP_EFORMAT);
        memcpy(message[device], err.message, sizeof message[device]);
        sp_codec_close(codec);
    }
    char *found = strstr(message[1], "came out as"), *expected = strstr(message[0], "came out as");
    assert_non_null(found);
    assert_non_null(expected);
    assert_memory_equal(message[0], message[1], (size_t)(expected - message[0]));
    free_checkpoint(&c.file);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(as_close_as_the_reference),
        cmocka_unit_test(repeats),
        cmocka_unit_test(colours_round_as_on_the_processor),
        cmocka_unit_test(names_what_is_no_colour),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
