#ifndef SP_HEAD_WEIGHTS_H
#define SP_HEAD_WEIGHTS_H
/* The tensors and tables of a diffusion head. For head.c and head_weights.c. */
#include "base/arena.h"
#include "model/head_device.h"
#include "model/loader.h"

typedef struct sp_head_block {
    float *norm, *norm_bias; /* [width] */
    sp_weight up, down;
    float *up_bias, *down_bias;
} sp_head_block;

struct sp_head {
    sp_head_config config;
    const sp_ops *ops;
    size_t modulations;        /* width of a row of modulation: 3 width a group, then 2 width of the last layer */
    size_t outputs;            /* dim, with learned deviations 2 dim */
    sp_weight condition, modulation;
    sp_weight input, output;   /* float arithmetic */
    float *condition_bias, *modulation_bias, *input_bias, *output_bias;
    sp_head_block *blocks;
    sp_sampler_step *steps;    /* [chain.steps] */
    float *time;               /* [chain.steps, width] */
    const sp_device_head_ops *device; /* NULL: the processor */
    sp_device_head *on_device;
    size_t parameters, packed_bytes;
    sp_arena arena;
};

SP_CHECK sp_status sp_head_weights_load(sp_head *head, sp_loader *loader);
void sp_head_weights_free(sp_head *head);

#endif
