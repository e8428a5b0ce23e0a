#ifndef SP_DEVICE_CODEC_H
#define SP_DEVICE_CODEC_H
/* The decoder of a codec on a device: tokens in, colours out, nothing between them leaves it. Part of the table of
 * kernels/device.h; vq/device.c makes the plan of a checkpoint.
 *
 *     sp_device_codec *codec;
 *     SP_TRY(codecs->open(&codec, number, &plan, err));            // plan and all it points to are borrowed
 *     SP_TRY(codecs->decode(codec, tokens, rgb, &wrong, err));
 *     codecs->close(codec);
 *
 * A codec is used by one thread at a time. Products are of numbers rounded to bf16; sums are float, and so is what one
 * layer hands to the next. It draws what kernels/ref draws in bf16 arithmetic but for the order of sums. */
#include "base/error.h"
#include "kernels/kernels.h"

/* A convolution: weights [n, k, size, size] of dtype, bias [n]. */
typedef struct sp_device_map {
    const void *weights;
    sp_dtype dtype;
    size_t n, k;
    const float *bias;
} sp_device_map;

typedef enum { SP_DEVICE_CONV1, SP_DEVICE_CONV3, SP_DEVICE_ATTENTION } sp_device_layer_kind;

/* One layer over three buffers: `to` = f(norm(from)) + residual. */
typedef struct sp_device_layer {
    sp_device_layer_kind kind;
    sp_plane in;              /* of buffer `from` */
    bool upsample;            /* CONV3: in doubled by nearest neighbour */
    bool swish;               /* after the norm */
    const float *gain, *bias; /* [in.channels] of the norm; NULL: none */
    int from, to, residual;   /* buffers 0 .. 2, from differs from to unless it is attention; residual -1: none */
    sp_device_map map[4];     /* the convolution; of attention q, k, v and the projection, all 1x1 */
} sp_device_layer;

typedef struct sp_device_codec_plan {
    const sp_device_layer *layers; /* the first reads the tokens, the last has n = 3 */
    size_t n_layers;
    size_t groups;                 /* of the norms */
    float eps;
    size_t rows, columns, code_dim; /* of the tokens */
    const float *codes;            /* [n_codes, code_dim]; NULL: tokens are vectors, divided by latent_scale */
    size_t n_codes;
    float latent_scale;
} sp_device_codec_plan;

typedef struct sp_device_codec sp_device_codec;

/* The first colour that is no number: where in [height, width, 3], and what; index is -1 when there is none. */
typedef struct sp_device_colour {
    int64_t index;
    float value;
} sp_device_colour;

typedef struct sp_device_codec_ops {
    sp_status (*open)(sp_device_codec **out, int device, const sp_device_codec_plan *plan, sp_error *err);
    /* tokens: int32 codes [rows, columns], in range; or floats [rows, columns, code_dim]. rgb [height, width, 3]. */
    sp_status (*decode)(sp_device_codec *codec, const void *tokens, uint8_t *rgb, sp_device_colour *wrong,
                        sp_error *err);
    size_t (*bytes)(const sp_device_codec *codec); /* of device memory */
    void (*close)(sp_device_codec *codec);
} sp_device_codec_ops;

#endif
