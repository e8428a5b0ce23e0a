#ifndef SP_MASKED_WEIGHTS_H
#define SP_MASKED_WEIGHTS_H
/* The tensors of a masked transformer, under MAR's names (docs/models/mar.md), checked and packed for a back end.
 * Inside src/model only. */
#include "base/arena.h"
#include "model/head.h"
#include "model/masked.h"

/* A matrix and its bias. */
typedef struct sp_masked_map {
    sp_weight weight; /* data owned */
    float *bias;      /* [weight.n up to a multiple of 64], also weight.bias */
} sp_masked_map;

typedef struct sp_masked_norm {
    float *gain, *bias; /* [dim] */
} sp_masked_norm;

typedef struct sp_masked_block {
    sp_masked_norm norm[2];
    sp_masked_map qkv, out, up, down;
} sp_masked_block;

typedef struct sp_masked_stack {
    sp_masked_block *blocks; /* [n] */
    size_t n;
    sp_masked_norm norm;
} sp_masked_stack;

struct sp_masked {
    sp_model_config config;
    const sp_ops *ops;
    bool bf16;
    const sp_tensor *classes;                              /* [n_classes, dim] in the mapped file */
    float *no_class, *mask;                                /* [dim] */
    float *encoder_position, *decoder_position;            /* [buffer + positions, dim] */
    float *feature_position;                               /* [positions, dim] */
    sp_masked_map tokens, between;                         /* into the encoder; from it into the decoder */
    sp_masked_norm tokens_norm;
    sp_masked_stack encoder, decoder;
    sp_head *head;
    const sp_device_ops *device; /* NULL: the processor */
    sp_device_masked *on_device;
    size_t parameters, packed_bytes; /* without the head's */
    sp_arena arena;
};

SP_CHECK sp_status sp_masked_load(sp_masked *m, const sp_tensors *tensors, sp_error *err);
void sp_masked_free(sp_masked *m);

#endif
