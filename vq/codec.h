#ifndef SP_CODEC_H
#define SP_CODEC_H
/* Tokens to pixels and back.
 *
 *     sp_codec *codec;
 *     SP_TRY(sp_codec_open(&codec, &config, tensors, ops, pool, err));
 *     SP_TRY(sp_codec_decode(codec, tokens, rgb, err));   // tokens [rows * columns] to rgb [height, width, 3]
 *
 * A codec is opened once and read-only afterwards but for its scratch, so one thread uses it at a time. */
#include "base/error.h"
#include "io/tensors.h"
#include "kernels/kernels.h"

enum { SP_VQ_MAX_LEVELS = 8 };

typedef enum { SP_VQ_ATTENTION_MIDDLE = 0, SP_VQ_ATTENTION_LOWEST = 1 } sp_vq_attention;

/* The shape of a VQGAN (docs/models/specular.md, "vq" of config.json). */
typedef struct sp_codec_config {
    char kind[32];           /* a name of codecs.def: "vqgan" */
    size_t channels;
    size_t channel_mult[SP_VQ_MAX_LEVELS];
    size_t n_levels;
    size_t blocks_per_level; /* of the encoder; the decoder has one more */
    sp_vq_attention attention;
    size_t z_channels;
    size_t n_codes, code_dim;
    bool l2_normalised;
    size_t groups;
    float group_norm_eps;
    size_t rows, columns;    /* of the token grid; the picture is 2^(n_levels - 1) times as large */
    bool bf16;               /* bf16 arithmetic where the weights are bf16; else float */
} sp_codec_config;

typedef struct sp_codec sp_codec;

/* One line of codecs.def. */
typedef struct sp_codec_ops {
    const char *name;
    sp_status (*open)(void **state, const sp_codec_config *config, const sp_tensors *tensors, const sp_ops *ops,
                      sp_pool *pool, sp_error *err);
    sp_status (*decode)(void *state, const int32_t *tokens, float *pixels, sp_error *err); /* [h, w, 3] in [-1, 1] */
    sp_status (*encode)(void *state, const float *pixels, int32_t *tokens, sp_error *err);
    /* features [config.z_channels]: the encoder's output before quantisation, its mean over the positions */
    sp_status (*features)(void *state, const float *pixels, float *features, sp_error *err);
    const float *(*codes)(const void *state); /* [n_codes, code_dim] as decode uses them */
    size_t (*bytes)(const void *state); /* weights and scratch */
    void (*close)(void *state);
} sp_codec_ops;

SP_CHECK sp_status sp_codec_open(sp_codec **out, const sp_codec_config *config, const sp_tensors *tensors,
                                 const sp_ops *ops, sp_pool *pool, sp_error *err);
size_t sp_codec_height(const sp_codec *codec);
size_t sp_codec_width(const sp_codec *codec);
size_t sp_codec_bytes(const sp_codec *codec);
const float *sp_codec_codes(const sp_codec *codec); /* the codebook [n_codes, code_dim]; borrowed */

/* How many numbers sp_codec_describe gives; 0 when the checkpoint has no encoder. */
size_t sp_codec_features(const sp_codec_config *config, const sp_tensors *tensors);
SP_CHECK sp_status sp_codec_decode(sp_codec *codec, const int32_t *tokens, uint8_t *rgb, sp_error *err);

/* Pixels [height, width, 3] uint8 to tokens; SP_EUNSUPPORTED when the checkpoint has no encoder. */
SP_CHECK sp_status sp_codec_encode(sp_codec *codec, const uint8_t *rgb, int32_t *tokens, sp_error *err);

/* Pixels [height, width, 3] uint8 to features [sp_codec_features]; SP_EUNSUPPORTED as sp_codec_encode. */
SP_CHECK sp_status sp_codec_describe(sp_codec *codec, const uint8_t *rgb, float *features, sp_error *err);
void sp_codec_close(sp_codec *codec);

#endif
