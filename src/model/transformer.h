#ifndef SP_TRANSFORMER_H
#define SP_TRANSFORMER_H
/* The one decoder-only transformer: pre-norm blocks, grouped-query attention with RoPE tables, SwiGLU, image head.
 *
 *     sp_transformer *transformer;     // weights, read-only, shared
 *     SP_TRY(sp_transformer_open(&transformer, &config, tensors, ops, bf16, err));
 *     sp_context *context;             // KV and scratch of one image in the making
 *     SP_TRY(sp_context_open(&context, transformer, pool, max_rows, 1, err));
 *     sp_model model = sp_context_model(context);   // what the decode loop drives: model/model.h
 *
 * tensors must outlive the transformer, whose embedding tables stay in the mapped file. */
#include "io/tensors.h"
#include "kernels/device.h"
#include "model/config.h"
#include "model/model.h"

typedef struct sp_transformer sp_transformer;
typedef struct sp_context sp_context;

/* bf16: products of rows rounded to bf16 with bf16 weights, sums in float; false: float throughout. */
SP_CHECK sp_status sp_transformer_open(sp_transformer **out, const sp_model_config *config, const sp_tensors *tensors,
                                       const sp_ops *ops, bool bf16, sp_error *err);
void sp_transformer_close(sp_transformer *transformer);

/* From now on passes run on the device of this number, and so do those of contexts opened later. The transformer was
 * opened with sp_device_pack_ops and bf16; its matrices leave the memory of the host. Not twice. */
SP_CHECK sp_status sp_transformer_use_device(sp_transformer *transformer, const sp_device_model_ops *device, int number,
                                             sp_error *err);
size_t sp_transformer_device_bytes(const sp_transformer *transformer); /* of the device's memory */
size_t sp_transformer_parameters(const sp_transformer *transformer);
size_t sp_transformer_bytes(const sp_transformer *transformer); /* packed weights in memory */

/* max_window: the most rows of a window, a stream. max_pictures: in the making at a time. */
SP_CHECK sp_status sp_context_open(sp_context **out, const sp_transformer *transformer, sp_pool *pool,
                                   size_t max_window, size_t max_pictures, sp_error *err);
void sp_context_close(sp_context *context);
size_t sp_context_bytes(const sp_context *context);
size_t sp_context_kv_bytes(const sp_context *context);
sp_model sp_context_model(sp_context *context);

/* Of a context on a device: its part of the device's memory, and the device's decode loop; else 0, and one without
 * ops. */
size_t sp_context_device_bytes(const sp_context *context);
sp_device_loop sp_context_loop(sp_context *context);

/* The picture that the context's model is of from now on; at first 0. */
void sp_context_select(sp_context *context, size_t picture);

/* The most rows of a pass over several pictures together, in one stream, on the processor. */
enum { SP_BATCH_ROWS = 256 };
size_t sp_context_rows(size_t max_window, size_t max_pictures);

/* Of a context on a device: the features of the last window [n_streams, n, dim], in the device's memory, at the same
 * place for every window; else NULL. */
const float *sp_context_device_features(const sp_context *context);

#endif
