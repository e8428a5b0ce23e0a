#ifndef SP_MASKED_H
#define SP_MASKED_H
/* The masked autoencoder of MAR (Li et al., arXiv 2406.11838): an encoder over the known tokens and a decoder over all
 * positions, both of pre-norm blocks with layer norms, biases and full attention, and a diffusion head.
 *
 *     encoder rows: `buffer` rows of the class, then the known tokens in raster order, each plus its position, normed
 *     decoder rows: what the encoder made of them, and mask tokens elsewhere, each plus its position
 *     condition of a position: its decoder row, normed, plus its position
 *
 *     sp_masked *masked;               // weights, read-only, shared
 *     SP_TRY(sp_masked_open(&masked, &config, tensors, ops, bf16, err));
 *     sp_masked_context *context;      // scratch of one image in the making
 *     SP_TRY(sp_masked_context_open(&context, masked, pool, err));
 *     sp_masked_model model = sp_masked_context_model(context);   // what the decode loop drives: model/masked_model.h
 *
 * tensors must outlive the model, whose tables stay in the mapped file. */
#include "io/tensors.h"
#include "kernels/device.h"
#include "model/config.h"
#include "model/masked_model.h"

typedef struct sp_masked sp_masked;
typedef struct sp_masked_context sp_masked_context;

/* bf16: products of rows rounded to bf16 with bf16 weights, sums in float; false: float throughout. */
SP_CHECK sp_status sp_masked_open(sp_masked **out, const sp_model_config *config, const sp_tensors *tensors,
                                  const sp_ops *ops, bool bf16, sp_error *err);
void sp_masked_close(sp_masked *masked);

/* From now on passes and chains run on the device of this number, and so do those of contexts opened later. The model
 * was opened with sp_device_pack_ops and bf16; its matrices leave the memory of the host. Not twice; on failure the
 * model can only be closed. */
SP_CHECK sp_status sp_masked_use_device(sp_masked *masked, const sp_device_ops *device, int number, sp_error *err);
size_t sp_masked_device_bytes(const sp_masked *masked); /* of the device's memory */
size_t sp_masked_parameters(const sp_masked *masked);
size_t sp_masked_head_parameters(const sp_masked *masked); /* of which the diffusion head */
size_t sp_masked_bytes(const sp_masked *masked); /* packed weights in memory */

SP_CHECK sp_status sp_masked_context_open(sp_masked_context **out, const sp_masked *masked, sp_pool *pool,
                                          sp_error *err);
void sp_masked_context_close(sp_masked_context *context);
size_t sp_masked_context_bytes(const sp_masked_context *context);
size_t sp_masked_context_device_bytes(const sp_masked_context *context); /* of the device's memory */
sp_masked_model sp_masked_context_model(sp_masked_context *context);

/* The features of the last condition call, [n_streams, n, dim], unless they are on a device; for tests. */
const float *sp_masked_features(const sp_masked_context *context);

#endif
