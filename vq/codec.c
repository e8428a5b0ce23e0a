#include "vq/codec.h"

#include <math.h>
#include <string.h>

#include "base/arena.h"
#include "base/size.h"

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
};

sp_status sp_codec_open(sp_codec **out, const sp_codec_config *config, const sp_tensors *tensors, const sp_ops *ops,
                        sp_pool *pool, sp_error *err)
{
    const sp_codec_ops *found = NULL;
    size_t count = 0, height = 0, width = 0;
    *out = NULL;
    for (size_t i = 0; i < sizeof codecs / sizeof *codecs; i++)
        if (strcmp(codecs[i]->name, config->kind) == 0) found = codecs[i];
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

size_t sp_codec_height(const sp_codec *codec) { return codec->height; }

size_t sp_codec_width(const sp_codec *codec) { return codec->width; }

const float *sp_codec_codes(const sp_codec *codec) { return codec->ops->codes(codec->state); }

size_t sp_codec_bytes(const sp_codec *codec)
{
    return codec->ops->bytes(codec->state) + codec->height * codec->width * 3 * sizeof *codec->pixels;
}

/* [-1, 1] to 0 .. 255, halves upwards, as LlamaGen saves its pictures. */
static uint8_t grey(float x)
{
    float value = floorf(127.5f * x + 128.0f);
    return (uint8_t)(value < 0.0f ? 0.0f : value > 255.0f ? 255.0f : value);
}

sp_status sp_codec_decode(sp_codec *codec, const int32_t *tokens, uint8_t *rgb, sp_error *err)
{
    const sp_codec_config *c = &codec->config;
    for (size_t i = 0; i < c->rows * c->columns; i++)
        if (tokens[i] < 0 || (size_t)tokens[i] >= c->n_codes)
            return SP_FAIL(err, SP_EARG, "token %zu is %d: expected 0 to %zu, the codes of this model", i,
                           (int)tokens[i], c->n_codes - 1);
    SP_TRY(codec->ops->decode(codec->state, tokens, codec->pixels, err));
    for (size_t i = 0; i < codec->height * codec->width * 3; i++) {
        if (!isfinite(codec->pixels[i]))
            return SP_FAIL(err, SP_EFORMAT,
                           "codec: pixel (%zu, %zu) came out as %g: expected a colour; the weights overflow, fetch "
                           "them again", i / 3 % codec->width, i / 3 / codec->width, (double)codec->pixels[i]);
        rgb[i] = grey(codec->pixels[i]);
    }
    return SP_OK;
}

size_t sp_codec_features(const sp_codec_config *config, const sp_tensors *tensors)
{
    return sp_tensors_find(tensors, "encoder.conv_in.weight") ? config->z_channels : 0;
}

static void take_pixels(sp_codec *codec, const uint8_t *rgb)
{
    for (size_t i = 0; i < codec->height * codec->width * 3; i++) codec->pixels[i] = (float)rgb[i] / 127.5f - 1.0f;
}

sp_status sp_codec_encode(sp_codec *codec, const uint8_t *rgb, int32_t *tokens, sp_error *err)
{
    take_pixels(codec, rgb);
    return codec->ops->encode(codec->state, codec->pixels, tokens, err);
}

sp_status sp_codec_describe(sp_codec *codec, const uint8_t *rgb, float *features, sp_error *err)
{
    take_pixels(codec, rgb);
    SP_TRY(codec->ops->features(codec->state, codec->pixels, features, err));
    for (size_t i = 0; i < codec->config.z_channels; i++)
        if (!isfinite(features[i]))
            return SP_FAIL(err, SP_EFORMAT, "codec: feature %zu of a picture came out as %g: expected a number; the "
                           "weights overflow, fetch them again", i, (double)features[i]);
    return SP_OK;
}

void sp_codec_close(sp_codec *codec)
{
    if (!codec) return;
    if (codec->state) codec->ops->close(codec->state);
    sp_release(codec->pixels);
    sp_release(codec);
}
