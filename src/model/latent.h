#ifndef SP_LATENT_H
#define SP_LATENT_H
/* A model with continuous tokens: the transformer, whose features are the conditions of a diffusion head; or, when
 * config says masked, a masked one (model/masked.h) in its place.
 *
 *     sp_latent *latent;                 // weights, read-only, shared
 *     SP_TRY(sp_latent_open(&latent, &config, tensors, ops, bf16, err));
 *     sp_latent_context *context;        // KV, conditions and scratch of one image in the making
 *     SP_TRY(sp_latent_context_open(&context, latent, pool, max_window, err));
 *     sp_latent_model model = sp_latent_context_model(context);   // what the chain decoder drives; or
 *     sp_masked_model model = sp_latent_context_masked(context);  // the masked one
 *
 * tensors must outlive the model, whose tables stay in the mapped file. */
#include "model/latent_model.h"
#include "model/masked_model.h"
#include "model/transformer.h"

typedef struct sp_latent sp_latent;
typedef struct sp_latent_context sp_latent_context;

SP_CHECK sp_status sp_latent_open(sp_latent **out, const sp_model_config *config, const sp_tensors *tensors,
                                  const sp_ops *ops, bool bf16, sp_error *err);

/* The same on the device of this number, in bf16. Its contexts are there too. */
SP_CHECK sp_status sp_latent_open_on(sp_latent **out, const sp_model_config *config, const sp_tensors *tensors,
                                     const sp_device_ops *device, int number, sp_error *err);
void sp_latent_close(sp_latent *latent);
size_t sp_latent_parameters(const sp_latent *latent);
size_t sp_latent_head_parameters(const sp_latent *latent); /* of which the diffusion head */
size_t sp_latent_bytes(const sp_latent *latent); /* packed weights and tables in memory */
size_t sp_latent_device_bytes(const sp_latent *latent); /* of a device's memory */

/* max_window: the most positions of one condition call. */
SP_CHECK sp_status sp_latent_context_open(sp_latent_context **out, const sp_latent *latent, sp_pool *pool,
                                          size_t max_window, sp_error *err);
void sp_latent_context_close(sp_latent_context *context);
size_t sp_latent_context_bytes(const sp_latent_context *context);
size_t sp_latent_context_device_bytes(const sp_latent_context *context);
size_t sp_latent_context_kv_bytes(const sp_latent_context *context);
sp_latent_model sp_latent_context_model(sp_latent_context *context);  /* of a causal model */
sp_masked_model sp_latent_context_masked(sp_latent_context *context); /* of a masked one */

#endif
