#ifndef SP_WEIGHTS_H
#define SP_WEIGHTS_H
/* The tensors of a transformer, found through a family's names and packed for a back end. Inside src/model only. */
#include "base/arena.h"
#include "kernels/device.h"
#include "model/family.h"
#include "model/transformer.h"

typedef struct sp_layer {
    float *attention_norm, *ffn_norm;             /* [dim]; a drafter has no attention_norm */
    float *q_norm, *k_norm;                       /* [heads, head_dim], [kv_heads, head_dim], not used without
                                                   * qk_norm */
    float *q_norm_bias, *k_norm_bias;             /* the same shapes, or NULL */
    sp_weight qkv, o, gate_up, down;
} sp_layer;

struct sp_transformer {
    sp_model_config config;
    const sp_ops *ops;
    bool bf16;
    const sp_tensor *prefix, *prefix_position, *codes; /* tables in the mapped file */
    sp_layer *layers;
    float *norm;
    sp_weight head, head_hidden;
    float *head_bias, *head_hidden_bias; /* NULL without an MLP head */
    const sp_tensor *feature_position;   /* a table in the mapped file; NULL without */
    sp_weight latents;                   /* float arithmetic */
    float *latents_bias, *input_norm;    /* zeros where there is none; read when config says so */
    sp_weight join;                      /* of a drafter, which has no prefix, norm or head */
    float *join_bias;
    float *cosine, *sine;                /* [positions, head_dim / 2] */
    const sp_device_model_ops *device;   /* NULL: passes run on the processor */
    sp_device_model *on_device;
    int device_number;
    size_t parameters, packed_bytes;
    sp_arena arena; /* norms, tables, layers */
};

SP_CHECK sp_status sp_weights_load(sp_transformer *t, const sp_tensors *tensors, sp_error *err);

/* The codes, the join and the layers of a drafter, under the names of family. */
SP_CHECK sp_status sp_weights_load_drafter(sp_transformer *t, const sp_family *family, const sp_tensors *tensors,
                                           sp_error *err);
/* From now on a drafter's passes run on the device of its target, which is there and outlives it, by the head that is
 * there; its matrices leave the memory of the host. In transformer_device.c. */
SP_CHECK sp_status sp_drafter_use_device(sp_transformer *drafter, const sp_transformer *target, sp_error *err);
void sp_weights_free(sp_transformer *t);

/* One row of a table as floats [width]. */
void sp_table_row(const sp_tensor *table, size_t row, size_t width, float *out);

#endif
