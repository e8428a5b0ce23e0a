#ifndef SP_CODEC_H
#define SP_CODEC_H
/* Tokens to pixels and back. Tokens are codes of a codebook, or continuous: vectors of code_dim floats.
 *
 *     sp_codec *codec;
 *     SP_TRY(sp_codec_open(&codec, &config, tensors, ops, pool, err));
 *     SP_TRY(sp_codec_decode(codec, tokens, rgb, err));   // tokens [rows * columns] to rgb [height, width, 3]
 *     SP_TRY(sp_codec_decode_latents(codec, latents, rgb, err));          // latents [rows * columns, code_dim]
 *
 * A codec is opened once and read-only afterwards but for its scratch, so one thread uses it at a time. */
#include "base/error.h"
#include "io/tensors.h"
#include "kernels/device_codec.h"
#include "kernels/kernels.h"

enum { SP_VQ_MAX_LEVELS = 8 };

/* Attention in the middle, always; also after every block of the lowest level, of both networks or of the encoder. */
typedef enum { SP_VQ_ATTENTION_MIDDLE = 0, SP_VQ_ATTENTION_LOWEST, SP_VQ_ATTENTION_ENCODER } sp_vq_attention;

/* How tensors are named: LlamaGen's way, levels numbered as they run ("conv_blocks.0.res.0"), or that of latent
 * diffusion, level 0 the finest ("up.0.block.0"). */
typedef enum { SP_VQ_NAMES_ORDER = 0, SP_VQ_NAMES_LEVELS } sp_vq_names;

/* The shape of a VQGAN (docs/models/specular.md, "vq" of config.json) or a KL autoencoder (docs/models/kl.md, "kl"). */
typedef struct sp_codec_config {
    char kind[32];           /* a name of codecs.def: "vqgan", "kl" */
    size_t channels;
    size_t channel_mult[SP_VQ_MAX_LEVELS];
    size_t n_levels;
    size_t blocks_per_level; /* of the encoder; the decoder has one more */
    sp_vq_attention attention;
    sp_vq_names names;
    size_t z_channels;
    size_t n_codes, code_dim; /* of continuous tokens: 0, and the width of a token */
    bool l2_normalised;
    float latent_scale;       /* of continuous tokens: a token is this times what the encoder gives */
    size_t groups;
    float group_norm_eps;
    size_t rows, columns;    /* of the token grid; the picture is 2^(n_levels - 1) times as large */
    bool bf16;               /* bf16 arithmetic where the weights are bf16; else float */
} sp_codec_config;

typedef struct sp_codec sp_codec;

/* One line of codecs.def. */
typedef struct sp_codec_ops {
    const char *name;
    bool continuous; /* has decode_latents and encode_latents; else decode, encode and codes */
    sp_status (*open)(void **state, const sp_codec_config *config, const sp_tensors *tensors, const sp_ops *ops,
                      sp_pool *pool, sp_error *err);
    sp_status (*decode)(void *state, const int32_t *tokens, float *pixels, sp_error *err); /* [h, w, 3] in [-1, 1] */
    sp_status (*encode)(void *state, const float *pixels, int32_t *tokens, sp_error *err);
    sp_status (*decode_latents)(void *state, const float *latents, float *pixels, sp_error *err);
    sp_status (*encode_latents)(void *state, const float *pixels, float *latents, sp_error *err); /* their means */
    /* features [config.z_channels, twice that if continuous]: the encoder's output, its mean over the positions */
    sp_status (*features)(void *state, const float *pixels, float *features, sp_error *err);
    const float *(*codes)(const void *state); /* [n_codes, code_dim] as decode uses them */
    size_t (*bytes)(const void *state); /* weights and scratch */
    void (*close)(void *state);
} sp_codec_ops;

SP_CHECK sp_status sp_codec_open(sp_codec **out, const sp_codec_config *config, const sp_tensors *tensors,
                                 const sp_ops *ops, sp_pool *pool, sp_error *err);

/* From now on the device of this number decodes; what the codec has encodes. Not twice. */
SP_CHECK sp_status sp_codec_use_device(sp_codec *codec, const sp_tensors *tensors, const sp_device_codec_ops *device,
                                       int number, sp_error *err);
size_t sp_codec_height(const sp_codec *codec);
size_t sp_codec_width(const sp_codec *codec);
size_t sp_codec_bytes(const sp_codec *codec);
size_t sp_codec_device_bytes(const sp_codec *codec); /* of the device's memory */
bool sp_codec_continuous(const sp_codec *codec);
const float *sp_codec_codes(const sp_codec *codec); /* [n_codes, code_dim], borrowed; NULL for continuous tokens */

/* How many numbers sp_codec_describe gives; 0 when the checkpoint has no encoder. */
size_t sp_codec_features(const sp_codec_config *config, const sp_tensors *tensors);
SP_CHECK sp_status sp_codec_decode(sp_codec *codec, const int32_t *tokens, uint8_t *rgb, sp_error *err);

/* Pixels [height, width, 3] uint8 to tokens; SP_EUNSUPPORTED when the checkpoint has no encoder. */
SP_CHECK sp_status sp_codec_encode(sp_codec *codec, const uint8_t *rgb, int32_t *tokens, sp_error *err);

/* The same for continuous tokens, latents [rows * columns, code_dim]; SP_EUNSUPPORTED when the codec's are codes, as
 * the two above when they are not. SP_EARG for a latent that is NaN or infinite. */
SP_CHECK sp_status sp_codec_decode_latents(sp_codec *codec, const float *latents, uint8_t *rgb, sp_error *err);
SP_CHECK sp_status sp_codec_encode_latents(sp_codec *codec, const uint8_t *rgb, float *latents, sp_error *err);

/* Pixels [height, width, 3] uint8 to features [sp_codec_features]; SP_EUNSUPPORTED as sp_codec_encode. */
SP_CHECK sp_status sp_codec_describe(sp_codec *codec, const uint8_t *rgb, float *features, sp_error *err);
void sp_codec_close(sp_codec *codec);

#endif
