#ifndef SP_DEVICE_H
#define SP_DEVICE_H
/* What a device offers: one table of functions in a shared object of its own, which the library loads when a device is
 * asked for, so that one build serves machines with and without one (src/device.c).
 *
 *     const sp_device_ops *device;                                       // of libspecular-cuda.so
 *     SP_TRY(device->models->open(&model, number, &plan, err));          // weights; plan is borrowed
 *     SP_TRY(device->models->context_open(&context, model, rows, 0, 1, err));  // KV and scratch of a picture in work
 *     SP_TRY(device->models->pass(context, &rows, logits, NULL, err));
 *
 * Functions fail with SP_EDEVICE when the device has no memory, is lost, or is not there. A model is read-only and
 * shared by threads; a context is used by one thread at a time. Products are of numbers rounded to bf16, sums are
 * float; a row has the same bits whatever rows it is computed among. */
#include "kernels/device_codec.h"
#include "kernels/device_head.h"
#include "kernels/device_loop.h"
#include "kernels/device_masked.h"
#include "kernels/kernels.h"

enum { SP_DEVICE_VERSION = 3 }; /* of this header; a table of another version is not used */

/* bf16 rows [n, k] in host memory, as the pack of sp_device_pack leaves them; rows NULL: there is none. */
typedef struct sp_device_matrix {
    const uint16_t *rows;
    size_t n, k;
} sp_device_matrix;

/* [rows, dim] as stored; data NULL: there is none. */
typedef struct sp_device_table {
    const void *data;
    sp_dtype dtype;
    size_t rows;
} sp_device_table;

typedef struct sp_device_block {
    const float *attention_norm, *ffn_norm; /* [dim]; attention_norm NULL: none */
    const float *q_norm, *k_norm;           /* [heads, head_dim], [kv_heads, head_dim], or NULL */
    const float *q_norm_bias, *k_norm_bias; /* the same shapes, or NULL */
    sp_device_matrix qkv, o, gate_up, down;
} sp_device_block;

typedef struct sp_device_model sp_device_model;
typedef struct sp_device_context sp_device_context;

/* A transformer as src/model/transformer.h has it. All pointers are host memory, not kept.
 *
 * With join it is a drafting model as src/model/eagle.h has it: one block, without a norm before or after it, whose
 * rows are join [embedding | feature] + join_bias. It has no prefix ids and no head: that of head_of, which must
 * outlive it, reads its features. Positions are counted from its first row. */
typedef struct sp_device_plan {
    size_t dim, n_blocks, heads, kv_heads, head_dim, ffn_dim, n_codes;
    size_t n_prefix, n_positions; /* rows of the prefix, tokens of a picture */
    float eps;
    bool layer_norm, rope_adjacent; /* layer_norm: of heads, else RMS */
    size_t code_row, prefix_lines;  /* row of code 0; rows of a prefix id: 1, or one for each position of the prefix */
    sp_device_table codes, prefix, prefix_position;
    size_t latent_dim;                   /* of a continuous token; 0: tokens are codes */
    const float *latents, *latents_bias; /* what it is fed as, in float: [dim, latent_dim], [dim] */
    sp_device_table feature_position;    /* [n_positions, dim] added to the features of the picture's rows */
    const float *cosine, *sine; /* [n_prefix + n_positions, head_dim / 2] */
    const float *input_norm;    /* [dim], or NULL */
    const sp_device_block *blocks;
    const float *norm; /* [dim]; NULL: none */
    sp_device_matrix head, head_hidden;
    const float *head_bias, *head_hidden_bias; /* NULL without head_hidden */
    sp_device_matrix join;                     /* [dim, 2 dim]; rows NULL: not a drafting model */
    const float *join_bias;                    /* [dim] */
    const sp_device_model *head_of;            /* with a linear head, on the same device */
} sp_device_plan;

enum { SP_DEVICE_STREAMS = 2 };

/* Rows of a pass in host memory, a window of n rows for each stream, one after another. token: a code, or ~id of the
 * prefix; of a model with continuous tokens any number from 0 on stands for the row of latents, which are the same in
 * every stream. parent [n] NULL: a chain, slot is position; else the row that a row follows, the same in every
 * stream.
 *
 * A drafting model keeps a tree in its context, of nodes 0 .. max_window - 1. A chain is joined with features; with
 * logits its last row becomes node 0, and they are of that row alone, [n_streams, n_codes]. With parent, row j is
 * node[j], whose slot is that of node 0 + node[j]; parent [max_window] says which node a node follows, and a row is
 * joined with the feature of that one. */
typedef struct sp_device_rows {
    size_t n_streams, n;
    const int32_t *token, *position, *slot, *parent;
    const float *latents; /* [n, latent_dim], or NULL when no row is fed one */
    const int32_t *node;   /* [n], of a drafting model with parent, the same in every stream */
    const float *const *features; /* [n_streams, n], of a drafting model without parent: dim floats each, in memory of
                                   * the host or of the device */
} sp_device_rows;

typedef struct sp_device_model_ops {
    sp_status (*open)(sp_device_model **out, int device, const sp_device_plan *plan, sp_error *err);
    size_t (*bytes)(const sp_device_model *model); /* of device memory */
    void (*close)(sp_device_model *model);
    /* max_pictures: in the making at a time. */
    sp_status (*context_open)(sp_device_context **out, const sp_device_model *model, size_t max_window,
                              size_t code_dim, size_t max_pictures, sp_error *err);
    size_t (*context_bytes)(const sp_device_context *context);
    size_t (*context_kv_bytes)(const sp_device_context *context);
    void (*context_close)(sp_device_context *context);
    /* The picture that pass, follow and move are of from now on; at first 0. */
    void (*select)(sp_device_context *context, size_t picture);
    /* logits [n_streams, n, n_codes] and features [n_streams, n, dim] in host memory, either may be NULL; with
     * continuous tokens there are no logits. */
    sp_status (*pass)(sp_device_context *context, const sp_device_rows *rows, float *logits, float *features,
                      sp_error *err);
    /* [n_streams, n, dim] of the last pass in device memory, at the same place for every pass. */
    const float *(*features)(const sp_device_context *context);
    /* The prefix pass is over: token [n_streams] is what the first row of the picture is fed. */
    sp_status (*follow)(sp_device_context *context, const int32_t *token, size_t n_streams, sp_error *err);
    /* Keys and values of slots from[i], which ascend and are at least first + i, go to first + i of a stream. */
    sp_status (*move)(sp_device_context *context, size_t stream, const int32_t *from, size_t first, size_t n,
                      sp_error *err);
    /* The decode loop of this context; without ops for continuous tokens and drafting models. */
    sp_device_loop (*loop)(sp_device_context *context);
} sp_device_model_ops;

typedef struct sp_device_ops {
    int version;
    const char *name; /* "cuda" */
    /* Whether the device of this number is there and can be used. */
    sp_status (*check)(int device, sp_error *err);
    const sp_device_model_ops *models;
    const sp_device_codec_ops *codecs;
    const sp_device_head_ops *heads;
    const sp_device_masked_ops *masked;
} sp_device_ops;

/* The one function that the shared object exports, under the name SP_DEVICE_ENTRY. */
typedef const sp_device_ops *sp_device_entry(void);
#define SP_DEVICE_ENTRY "sp_device_functions"

/* The operations of the processor, but pack leaves bf16 rows for a device to take; in ops.c. */
const sp_ops *sp_device_pack_ops(void);
sp_op_pack sp_device_pack;

#endif
