#include "vq/codec.h"

#include <math.h>
#include <string.h>

#include "base/arena.h"
#include "base/size.h"
#include "vq/device.h"

#define SP_CODEC(name) extern const sp_codec_ops sp_codec_##name;
#include "vq/codecs.def"
#undef SP_CODEC

static const sp_codec_ops *const codecs[] = {
#define SP_CODEC(name) &sp_codec_##name,
#include "vq/codecs.def"
#undef SP_CODEC
};

struct sp_codec {
    const sp_codec_ops *ops;
    void *state;
    sp_codec_config config;
    size_t height, width;
    float *pixels; /* [height, width, 3] */
    const sp_device_codec_ops *device; /* NULL: none */
    sp_device_codec *decoder;
};

static const sp_codec_ops *find(const char *kind)
{
    for (size_t i = 0; i < sizeof codecs / sizeof *codecs; i++)
        if (strcmp(codecs[i]->name, kind) == 0) return codecs[i];
    return NULL;
}

sp_status sp_codec_open(sp_codec **out, const sp_codec_config *config, const sp_tensors *tensors, const sp_ops *ops,
                        sp_pool *pool, sp_error *err)
{
    const sp_codec_ops *found = find(config->kind);
    size_t count = 0, height = 0, width = 0;
    *out = NULL;
    if (!found)
        return SP_FAIL(err, SP_EUNSUPPORTED, "codec: kind '%s' is not known here: expected a name of codecs.def",
                       config->kind);
    if (config->n_levels < 1 || config->n_levels > SP_VQ_MAX_LEVELS)
        return SP_FAIL(err, SP_EFORMAT, "codec: %zu levels: expected 1 to %d", config->n_levels, SP_VQ_MAX_LEVELS);
    size_t factor = (size_t)1 << (config->n_levels - 1);
    SP_TRY(sp_size_product(&height, err, "codec height", config->rows, factor, 1, 1));
    SP_TRY(sp_size_product(&width, err, "codec width", config->columns, factor, 1, 1));
    SP_TRY(sp_size_product(&count, err, "codec picture", height, width, 3, 1));
    sp_codec *codec = sp_alloc(1, sizeof *codec);
    if (!codec) return SP_FAIL(err, SP_ENOMEM, "codec: no memory");
    *codec = (sp_codec){.ops = found, .config = *config, .height = height, .width = width};
    codec->pixels = sp_alloc(count, sizeof *codec->pixels);
    sp_status status = codec->pixels ? found->open(&codec->state, config, tensors, ops, pool, err)
                                     : SP_FAIL(err, SP_ENOMEM, "codec: no memory for %zu x %zu pixels", height, width);
    if (status != SP_OK) {
        sp_codec_close(codec);
        return status;
    }
    *out = codec;
    return SP_OK;
}

sp_status sp_codec_use_device(sp_codec *codec, const sp_tensors *tensors, const sp_device_codec_ops *device,
                              int number, sp_error *err)
{
    sp_vq_device_plan plan;
    SP_TRY(sp_vq_device_plan_make(&plan, &codec->config, tensors, sp_codec_codes(codec), err));
    sp_status status = device->open(&codec->decoder, number, &plan.plan, err);
    sp_vq_device_plan_free(&plan);
    if (status == SP_OK) codec->device = device;
    return status;
}

size_t sp_codec_height(const sp_codec *codec) { return codec->height; }

size_t sp_codec_width(const sp_codec *codec) { return codec->width; }

bool sp_codec_continuous(const sp_codec *codec) { return codec->ops->continuous; }

const float *sp_codec_codes(const sp_codec *codec)
{
    return codec->ops->continuous ? NULL : codec->ops->codes(codec->state);
}

size_t sp_codec_bytes(const sp_codec *codec)
{
    return codec->ops->bytes(codec->state) + codec->height * codec->width * 3 * sizeof *codec->pixels;
}

size_t sp_codec_device_bytes(const sp_codec *codec)
{
    return codec->device ? codec->device->bytes(codec->decoder) : 0;
}

/* [-1, 1] to 0 .. 255, halves upwards, as LlamaGen saves its pictures. */
static uint8_t grey(float x)
{
    float value = floorf(127.5f * x + 128.0f);
    return (uint8_t)(value < 0.0f ? 0.0f : value > 255.0f ? 255.0f : value);
}

static sp_status needs(const sp_codec *codec, bool continuous, sp_error *err)
{
    if (codec->ops->continuous == continuous) return SP_OK;
    return SP_FAIL(err, SP_EUNSUPPORTED, "codec: the tokens of '%s' are %s: found %s; give it those of its own model",
                   codec->ops->name, continuous ? "codes" : "latents", continuous ? "latents" : "codes");
}

static sp_status wrong_pixel(const sp_codec *codec, size_t i, float value, sp_error *err)
{
    return SP_FAIL(err, SP_EFORMAT, "codec: pixel (%zu, %zu) came out as %g: expected a colour; the weights overflow, "
                   "fetch them again", i / 3 % codec->width, i / 3 / codec->width, (double)value);
}

static sp_status to_bytes(const sp_codec *codec, uint8_t *rgb, sp_error *err)
{
    for (size_t i = 0; i < codec->height * codec->width * 3; i++) {
        if (!isfinite(codec->pixels[i])) return wrong_pixel(codec, i, codec->pixels[i], err);
        rgb[i] = grey(codec->pixels[i]);
    }
    return SP_OK;
}

static sp_status decode_on_device(const sp_codec *codec, const void *tokens, uint8_t *rgb, sp_error *err)
{
    sp_device_colour wrong;
    SP_TRY(codec->device->decode(codec->decoder, tokens, rgb, &wrong, err));
    return wrong.index < 0 ? SP_OK : wrong_pixel(codec, (size_t)wrong.index, wrong.value, err);
}

sp_status sp_codec_decode(sp_codec *codec, const int32_t *tokens, uint8_t *rgb, sp_error *err)
{
    const sp_codec_config *c = &codec->config;
    SP_TRY(needs(codec, false, err));
    for (size_t i = 0; i < c->rows * c->columns; i++)
        if (tokens[i] < 0 || (size_t)tokens[i] >= c->n_codes)
            return SP_FAIL(err, SP_EARG, "token %zu is %d: expected 0 to %zu, the codes of this model", i,
                           (int)tokens[i], c->n_codes - 1);
    if (codec->device) return decode_on_device(codec, tokens, rgb, err);
    SP_TRY(codec->ops->decode(codec->state, tokens, codec->pixels, err));
    return to_bytes(codec, rgb, err);
}

sp_status sp_codec_decode_latents(sp_codec *codec, const float *latents, uint8_t *rgb, sp_error *err)
{
    const sp_codec_config *c = &codec->config;
    SP_TRY(needs(codec, true, err));
    for (size_t i = 0; i < c->rows * c->columns * c->code_dim; i++)
        if (!isfinite(latents[i]))
            return SP_FAIL(err, SP_EARG, "token %zu has %g at %zu: expected numbers", i / c->code_dim,
                           (double)latents[i], i % c->code_dim);
    if (codec->device) return decode_on_device(codec, latents, rgb, err);
    SP_TRY(codec->ops->decode_latents(codec->state, latents, codec->pixels, err));
    return to_bytes(codec, rgb, err);
}

static size_t feature_width(const sp_codec_config *config)
{
    const sp_codec_ops *ops = find(config->kind);
    return ops && ops->continuous ? 2 * config->z_channels : config->z_channels;
}

size_t sp_codec_features(const sp_codec_config *config, const sp_tensors *tensors)
{
    return sp_tensors_find(tensors, "encoder.conv_in.weight") ? feature_width(config) : 0;
}

static void take_pixels(sp_codec *codec, const uint8_t *rgb)
{
    for (size_t i = 0; i < codec->height * codec->width * 3; i++) codec->pixels[i] = (float)rgb[i] / 127.5f - 1.0f;
}

sp_status sp_codec_encode(sp_codec *codec, const uint8_t *rgb, int32_t *tokens, sp_error *err)
{
    SP_TRY(needs(codec, false, err));
    take_pixels(codec, rgb);
    return codec->ops->encode(codec->state, codec->pixels, tokens, err);
}

sp_status sp_codec_encode_latents(sp_codec *codec, const uint8_t *rgb, float *latents, sp_error *err)
{
    const sp_codec_config *c = &codec->config;
    SP_TRY(needs(codec, true, err));
    take_pixels(codec, rgb);
    SP_TRY(codec->ops->encode_latents(codec->state, codec->pixels, latents, err));
    for (size_t i = 0; i < c->rows * c->columns * c->code_dim; i++)
        if (!isfinite(latents[i]))
            return SP_FAIL(err, SP_EFORMAT, "codec: token %zu came out with %g at %zu: expected numbers; the weights "
                           "overflow, fetch them again", i / c->code_dim, (double)latents[i], i % c->code_dim);
    return SP_OK;
}

sp_status sp_codec_describe(sp_codec *codec, const uint8_t *rgb, float *features, sp_error *err)
{
    take_pixels(codec, rgb);
    SP_TRY(codec->ops->features(codec->state, codec->pixels, features, err));
    for (size_t i = 0; i < feature_width(&codec->config); i++)
        if (!isfinite(features[i]))
            return SP_FAIL(err, SP_EFORMAT, "codec: feature %zu of a picture came out as %g: expected a number; the "
                           "weights overflow, fetch them again", i, (double)features[i]);
    return SP_OK;
}

void sp_codec_close(sp_codec *codec)
{
    if (!codec) return;
    if (codec->device) codec->device->close(codec->decoder);
    if (codec->state) codec->ops->close(codec->state);
    sp_release(codec->pixels);
    sp_release(codec);
}
