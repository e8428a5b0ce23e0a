#ifndef SP_DEVICE_HEAD_H
#define SP_DEVICE_HEAD_H
/* A diffusion head on a device (model/head.h has its equations): whole denoising chains of a window in one call, with
 * what a rule decides at each step; or single steps, for a caller that decides itself. model/head_device.c makes the
 * plan.
 *
 *     SP_TRY(heads->open(&head, number, &plan, err));                    // weights; plan is borrowed
 *     SP_TRY(heads->context_open(&context, head, max_rows, err));        // chains of a picture in the making
 *     SP_TRY(heads->condition(context, &conditions, err));
 *     SP_TRY(heads->run(context, &chains, err));                         // or
 *     SP_TRY(heads->step(context, &step, err));                          // for step = 0, 1, ..
 *
 * A head is read-only and shared by threads; a context is used by one thread at a time. Blocks are in bf16 arithmetic
 * with float sums, first and last layer in float. A chain's bits depend on its condition, its draws and the last chain
 * of its position alone. */
#include "base/dtype.h"
#include "base/error.h"
#include "base/philox.h"
#include <stdbool.h>

/* y = W x + bias; weights [n, k] by rows. */
typedef struct sp_device_linear {
    const float *weights, *bias;
    size_t n, k;
} sp_device_linear;

typedef struct sp_device_head_block {
    const float *norm, *norm_bias; /* [width] */
    sp_device_linear up, down;
} sp_device_head_block;

typedef struct sp_device_head_step {
    float keep, weight, spread, low, high; /* as sp_sampler_step */
} sp_device_head_step;

typedef struct sp_device_head_plan {
    size_t dim, outputs;  /* of a state; of the last layer: dim, or 2 dim with learned deviations */
    size_t width, hidden, blocks, groups, steps;
    bool gated, shift_first;
    sp_device_linear condition, modulation, input, output;
    const sp_device_head_block *block; /* [blocks] */
    const sp_device_head_step *step;   /* [steps] */
    const float *time;                 /* [steps, width] */
} sp_device_head_plan;

typedef struct sp_device_head_conditions {
    size_t n, n_streams;   /* the conditional stream, then when guided the free one */
    const float *features; /* [n_streams, n, condition.k], on the host or the device */
    const float *scale;    /* [n] of guidance; read with two streams */
    float temperature;
} sp_device_head_conditions;

/* Chains from their own noise, or coupled by reflection with the last ones of their positions (acceptance/
 * chain_mirror.c). Positions of a call differ by less than max_rows of the context. */
typedef struct sp_device_chains {
    size_t n;
    const int32_t *row;       /* [n] of the conditions */
    const uint32_t *position; /* [n] */
    uint64_t seed;
    uint32_t image, pass;
    sp_draw_purpose purpose;  /* of the noise of those with their own */
    bool remember;            /* they become the last ones of their positions */
    size_t n_coupled;         /* of the first of them */
    float *state;             /* [n, dim] out */
    float *mean, *deviation;  /* [n, dim] out: of the last step */
} sp_device_chains;

/* The law of one step; it has the bits that it has in run. */
typedef struct sp_device_chain_step {
    size_t n;
    const int32_t *row;      /* [n] of the conditions */
    size_t k;                /* 0 .. steps - 1 */
    const float *state;      /* [n, dim] y_k */
    float *mean, *deviation; /* [n, dim] out */
} sp_device_chain_step;

typedef struct sp_device_head sp_device_head;
typedef struct sp_device_head_context sp_device_head_context;

typedef struct sp_device_head_ops {
    sp_status (*open)(sp_device_head **out, int device, const sp_device_head_plan *plan, sp_error *err);
    size_t (*bytes)(const sp_device_head *head); /* of device memory */
    void (*close)(sp_device_head *head);
    /* max_rows: conditions of a call, a stream; also chains that are remembered. */
    sp_status (*context_open)(sp_device_head_context **out, const sp_device_head *head, size_t max_rows, sp_error *err);
    size_t (*context_bytes)(const sp_device_head_context *context);
    void (*context_close)(sp_device_head_context *context);
    sp_status (*condition)(sp_device_head_context *context, const sp_device_head_conditions *conditions,
                           sp_error *err);
    sp_status (*run)(sp_device_head_context *context, const sp_device_chains *chains, sp_error *err);
    sp_status (*step)(sp_device_head_context *context, const sp_device_chain_step *step, sp_error *err);
} sp_device_head_ops;

#endif
