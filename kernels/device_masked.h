#ifndef SP_DEVICE_MASKED_H
#define SP_DEVICE_MASKED_H
/* A masked transformer on a device (model/masked.h has its equations): conditions of some positions given any others,
 * in one call. model/masked_device.c makes the plan.
 *
 *     SP_TRY(masked->open(&model, number, &plan, err));           // weights; plan is borrowed
 *     SP_TRY(masked->context_open(&context, model, err));         // scratch of a picture in the making
 *     SP_TRY(masked->pass(context, &pass, NULL, err));
 *     heads->condition(..., masked->features(context), ...);      // kernels/device_head.h
 *
 * A model is read-only and shared by threads; a context is used by one thread at a time. Products are of numbers
 * rounded to bf16, sums are float; tokens come in by a product in float. */
#include "base/error.h"
#include <stdbool.h>
#include <stdint.h>

/* y = W x + bias; bf16 rows [n, k], as the pack of sp_device_pack leaves them. */
typedef struct sp_device_masked_map {
    const uint16_t *rows;
    const float *bias; /* [n] */
    size_t n, k;
} sp_device_masked_map;

typedef struct sp_device_layer_norm {
    const float *gain, *bias; /* [dim] */
} sp_device_layer_norm;

typedef struct sp_device_masked_block {
    sp_device_layer_norm norm[2]; /* before attention, before the feed-forward part */
    sp_device_masked_map qkv, out, up, down;
} sp_device_masked_block;

typedef struct sp_device_masked_stack {
    const sp_device_masked_block *blocks; /* [n] */
    size_t n;
    sp_device_layer_norm norm;
} sp_device_masked_stack;

/* All pointers are host memory, not kept. */
typedef struct sp_device_masked_plan {
    size_t dim, heads, head_dim, ffn_dim, latent_dim;
    size_t buffer, n_positions; /* rows of the class, tokens of a picture */
    float eps;
    const float *tokens, *tokens_bias; /* what a token is fed as: [dim, latent_dim], [dim] */
    sp_device_layer_norm tokens_norm;  /* of the encoder's rows */
    const float *no_class, *mask;      /* [dim] */
    const float *encoder_position, *decoder_position; /* [buffer + n_positions, dim] */
    const float *feature_position;                    /* [n_positions, dim] */
    sp_device_masked_stack encoder, decoder;
    sp_device_masked_map between; /* from the encoder into the decoder */
} sp_device_masked_plan;

/* A pass over all positions, in host memory: of the stream with the class and, with two, of the one without. */
typedef struct sp_device_masked_pass {
    size_t n_streams;
    const float *class_row;   /* [dim] */
    const bool *known;        /* [n_positions] whose tokens are given */
    const float *latents;     /* [n_positions, latent_dim]; those not known are not read */
    size_t n;                 /* positions whose conditions are wanted, 1 to all of them */
    const int32_t *positions; /* [n] */
} sp_device_masked_pass;

typedef struct sp_device_masked sp_device_masked;
typedef struct sp_device_masked_context sp_device_masked_context;

typedef struct sp_device_masked_ops {
    sp_status (*open)(sp_device_masked **out, int device, const sp_device_masked_plan *plan, sp_error *err);
    size_t (*bytes)(const sp_device_masked *model); /* of device memory */
    void (*close)(sp_device_masked *model);
    sp_status (*context_open)(sp_device_masked_context **out, const sp_device_masked *model, sp_error *err);
    size_t (*context_bytes)(const sp_device_masked_context *context);
    void (*context_close)(sp_device_masked_context *context);
    /* features [n_streams, n, dim] in host memory, or NULL. */
    sp_status (*pass)(sp_device_masked_context *context, const sp_device_masked_pass *pass, float *features,
                      sp_error *err);
    /* The same of the last pass in device memory, until the next one. */
    const float *(*features)(const sp_device_masked_context *context);
} sp_device_masked_ops;

#endif
