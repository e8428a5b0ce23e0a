#ifndef SP_CODEC_TESTS_H
#define SP_CODEC_TESTS_H
/* What holds for every codec, of codes and of latents; each test is given the configuration to try it with:
 *
 *     SP_CODEC_TEST(threads_do_not_show, LOWEST),      // in the list of cmocka
 *
 * And what a codec's own tests need. */
#include <jansson.h>

#include "base/arena.h"
#include "codec_checkpoint.h"

#define SP_CODEC_TEST(test, config) cmocka_unit_test_prestate(test, (void *)&(config))

enum { POSITIONS = ROWS * COLUMNS, MAX_WIDTH = 12, MAX_VALUES = ROWS * 4 * COLUMNS * 4 * 3 };

/* Of a picture: codes or latents, by the kind of the codec. */
typedef struct tokens {
    int32_t codes[POSITIONS];
    float latents[POSITIONS * MAX_WIDTH];
} tokens;

typedef struct result {
    uint8_t rgb[MAX_VALUES];
    tokens tokens;
    float features[MAX_WIDTH];
    size_t n_values; /* of rgb */
} result;

static inline tokens make_tokens(const sp_codec_config *config)
{
    tokens t = {.codes = {0}};
    for (size_t i = 0; config->n_codes && i < POSITIONS; i++) t.codes[i] = (int32_t)((7 * i + 3) % config->n_codes);
    for (size_t i = 0; !config->n_codes && i < POSITIONS * config->code_dim; i++) t.latents[i] = sp_test_value(77, i);
    return t;
}

static inline sp_status decode(sp_codec *codec, const tokens *t, uint8_t *rgb, sp_error *err)
{
    if (sp_codec_continuous(codec)) return sp_codec_decode_latents(codec, t->latents, rgb, err);
    return sp_codec_decode(codec, t->codes, rgb, err);
}

static inline sp_status encode(sp_codec *codec, const uint8_t *rgb, tokens *t, sp_error *err)
{
    if (sp_codec_continuous(codec)) return sp_codec_encode_latents(codec, rgb, t->latents, err);
    return sp_codec_encode(codec, rgb, t->codes, err);
}

/* Decodes the tokens of make_tokens, and encodes `picture`, or what was decoded if it is NULL. */
static inline result run(const codec_checkpoint *c, const char *ops, int threads, const uint8_t *picture)
{
    result r = {.n_values = 0};
    tokens t = make_tokens(&c->config);
    bool continuous = c->config.n_codes == 0;
    sp_codec *codec;
    sp_pool *pool;
    SP_TEST_OK(sp_pool_open(&pool, threads, err));
    SP_TEST_OK(open_codec(&codec, c, ops, pool, err));
    r.n_values = sp_codec_height(codec) * sp_codec_width(codec) * 3;
    assert_true(r.n_values <= MAX_VALUES);
    assert_int_equal(sp_codec_continuous(codec), continuous);
    assert_int_equal(sp_codec_codes(codec) == NULL, continuous);
    assert_int_equal(sp_codec_features(&c->config, c->file.tensors), (continuous ? 2 : 1) * c->config.z_channels);
    SP_TEST_OK(decode(codec, &t, r.rgb, err));
    if (!picture) picture = r.rgb;
    SP_TEST_OK(encode(codec, picture, &r.tokens, err));
    SP_TEST_OK(sp_codec_describe(codec, picture, r.features, err));
    sp_codec_close(codec);
    sp_pool_close(pool);
    return r;
}

static inline double grey(double pixel) { return fmin(fmax((pixel + 1) * 127.5, 0), 255); }

/* The picture of pixels in [-1, 1]. */
static inline void read_picture(const json_t *pixels, uint8_t *picture)
{
    for (size_t i = 0; i < json_array_size(pixels); i++)
        picture[i] = (uint8_t)rint(grey(json_real_value(json_array_get(pixels, i))));
}

/* To half a grey level and the tolerance of a pixel in [-1, 1]. */
static inline void pixels_agree(const char *ops, const result *r, const json_t *pixels, double tolerance)
{
    assert_int_equal(r->n_values, json_array_size(pixels));
    for (size_t i = 0; i < r->n_values; i++) {
        double expected = grey(json_real_value(json_array_get(pixels, i)));
        if (!(fabs((double)r->rgb[i] - expected) <= 0.5 + tolerance * 127.5))
            fail_msg("%s: value %zu is %d, expected %.3f", ops, i, r->rgb[i], expected);
    }
}

/* bf16 arithmetic moves a pixel by up to D from f32, measured on ref. Another back end sums in another order, which
 * can round an activation the other way and so move a pixel by as much again, but not by more than both. */
static inline void bf16_is_as_close_as_the_reference(void **state)
{
    codec_checkpoint c = make_codec_checkpoint(*state);
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

static inline void threads_do_not_show(void **state)
{
    codec_checkpoint c = make_codec_checkpoint(*state);
    for (int bf16 = 0; bf16 < 2; bf16++) {
        c.config.bf16 = bf16;
        for (const char *const *name = sp_ops_names(); *name; name++) {
            result one = run(&c, *name, 1, NULL);
            for (int threads = 2; threads <= 3; threads++) {
                result more = run(&c, *name, threads, NULL);
                assert_memory_equal(one.rgb, more.rgb, one.n_values);
                assert_memory_equal(&one.tokens, &more.tokens, sizeof one.tokens);
                assert_memory_equal(one.features, more.features, sizeof one.features);
            }
        }
    }
    free_checkpoint(&c.file);
}

static inline void without_an_encoder_it_only_decodes(void **state)
{
    codec_checkpoint c = make_codec_checkpoint(*state);
    result whole = run(&c, "auto", 1, NULL);
    tokens t = make_tokens(&c.config);
    uint8_t rgb[MAX_VALUES];
    sp_codec *codec;
    sp_error refusal = {0};
    open_checkpoint(&c.file, "encoder.");
    SP_TEST_OK(open_codec(&codec, &c, "auto", NULL, err));
    SP_TEST_OK(decode(codec, &t, rgb, err));
    assert_memory_equal(rgb, whole.rgb, whole.n_values);
    assert_int_equal(sp_codec_features(&c.config, c.file.tensors), 0);
    assert_int_equal(encode(codec, rgb, &t, &refusal), SP_EUNSUPPORTED);
    assert_non_null(strstr(refusal.message, "encoder"));
    sp_codec_close(codec);
    free_checkpoint(&c.file);
}

/* The message has this part. */
static inline void refuses_to_open(const codec_checkpoint *c, sp_status status, const char *part)
{
    sp_error err = {0};
    sp_codec *codec;
    assert_int_equal(open_codec(&codec, c, "auto", NULL, &err), status);
    assert_null(codec);
    if (!strstr(err.message, part)) fail_msg("'%s' does not say %s", err.message, part);
}

static inline void every_missing_or_misshapen_tensor_is_named(void **state)
{
    codec_checkpoint c = make_codec_checkpoint(*state);
    for (size_t i = 0; i < c.file.n; i++) {
        entry *e = &c.file.entries[i];
        /* Without it there is no encoder. */
        if (strcmp(e->name, "encoder.conv_in.weight") != 0) {
            open_checkpoint(&c.file, e->name);
            refuses_to_open(&c, SP_EFORMAT, e->name);
        }
        sp_shape kept = e->shape;
        e->shape = SP_SHAPE2(e->count, 1);
        open_checkpoint(&c.file, NULL);
        refuses_to_open(&c, SP_EFORMAT, e->name);
        e->shape = kept;
    }
    free_checkpoint(&c.file);
}

static inline void every_nan_weight_is_named(void **state)
{
    codec_checkpoint c = make_codec_checkpoint(*state);
    for (size_t i = 0; i < c.file.n; i++) {
        const entry *e = &c.file.entries[i];
        uint16_t *last = &c.file.data[e->offset + e->count - 1], kept = *last;
        *last = 0x7FC0;
        refuses_to_open(&c, SP_EFORMAT, e->name);
        *last = kept;
    }
    free_checkpoint(&c.file);
}

static inline void an_overflow_is_never_a_picture(void **state)
{
    static const char *const huge[] = {"decoder.conv_out.weight", "encoder.conv_out.weight", "quant_conv.weight"};
    codec_checkpoint c = make_codec_checkpoint(*state);
    for (size_t i = 0; i < sizeof huge / sizeof *huge; i++) {
        size_t count = 0;
        uint16_t *weights = tensor_data(&c.file, huge[i], &count);
        for (size_t j = 0; j < count; j++) weights[j] = sp_f32_to_bf16(3e38f);
    }
    for (const char *const *name = sp_ops_names(); *name; name++) {
        tokens t = make_tokens(&c.config);
        uint8_t rgb[MAX_VALUES] = {0};
        sp_codec *codec;
        SP_TEST_OK(open_codec(&codec, &c, *name, NULL, err));
        sp_error decoding = {0}, encoding = {0};
        assert_int_equal(decode(codec, &t, rgb, &decoding), SP_EFORMAT);
        assert_int_equal(encode(codec, rgb, &t, &encoding), SP_EFORMAT);
        assert_non_null(strstr(decoding.message, "overflow"));
        assert_non_null(strstr(encoding.message, "overflow"));
        sp_codec_close(codec);
    }
    free_checkpoint(&c.file);
}

static inline void wrong_configurations_are_refused(void **state)
{
    const sp_codec_config *right = *state;
    codec_checkpoint c = make_codec_checkpoint(right);
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
        {offsetof(sp_codec_config, z_channels), right->z_channels + 1, SP_EFORMAT},
        {offsetof(sp_codec_config, code_dim), right->code_dim + 1, SP_EFORMAT},
        {offsetof(sp_codec_config, code_dim), 0, SP_EFORMAT},
    };
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        c.config = *right;
        memcpy((char *)&c.config + wrong[i].offset, &wrong[i].value, sizeof wrong[i].value);
        refuses_to_open(&c, wrong[i].status, "");
    }
    c.config = *right;
    snprintf(c.config.kind, sizeof c.config.kind, "vqgam");
    refuses_to_open(&c, SP_EUNSUPPORTED, "vqgam");
    free_checkpoint(&c.file);
}

static inline void memory_is_taken_at_opening_and_its_want_reported(void **state)
{
    codec_checkpoint c = make_codec_checkpoint(*state);
    tokens t = make_tokens(&c.config);
    uint8_t rgb[MAX_VALUES];
    sp_codec *codec;
    sp_test_fail_allocation(0);
    SP_TEST_OK(open_codec(&codec, &c, "auto", NULL, err));
    size_t needed = sp_test_counted()->n;
    SP_TEST_OK(decode(codec, &t, rgb, err));
    SP_TEST_OK(encode(codec, rgb, &t, err));
    assert_int_equal(sp_test_counted()->n, needed);
    sp_codec_close(codec);
    for (size_t i = 1; i <= needed; i++) {
        sp_test_fail_allocation(i);
        refuses_to_open(&c, SP_ENOMEM, "");
    }
    sp_alloc_hook(NULL);
    free_checkpoint(&c.file);
}

#endif
