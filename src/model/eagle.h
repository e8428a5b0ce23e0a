#ifndef SP_EAGLE_H
#define SP_EAGLE_H
/* A drafting model of one layer over a transformer's features, in the form of EAGLE (Li et al., arXiv 2401.15077) and
 * with the files of the LANTERN repository (docs/FORMATS.md): the token's embedding and the feature before it are
 * joined, go through one layer without a norm in front, and give the feature of the token, which the transformer's own
 * head reads.
 *
 *     sp_eagle *eagle;                 // weights, read-only, shared
 *     SP_TRY(sp_eagle_open(&eagle, "samples/emoji/drafter", transformer, fingerprint, err));
 *     sp_eagle_context *context;       // KV and scratch of one image in the making
 *     SP_TRY(sp_eagle_context_open(&context, eagle, pool, max_window, err));
 *     sp_draft_model draft = sp_eagle_model(context, of_transformer);   // the transformer's context of that image */
#include "model/draft_model.h"
#include "model/transformer.h"

typedef struct sp_eagle sp_eagle;
typedef struct sp_eagle_context sp_eagle_context;

/* folder holds config.json and model.safetensors. SP_EFORMAT when it does not belong to the target: other sizes, or a
 * target_fingerprint in its config.json that is not fingerprint. It runs where the target runs, in its arithmetic, and
 * reads its head; the target must outlive it. */
SP_CHECK sp_status sp_eagle_open(sp_eagle **out, const char *folder, const sp_transformer *target,
                                 const char *fingerprint, sp_error *err);
void sp_eagle_close(sp_eagle *eagle);
size_t sp_eagle_parameters(const sp_eagle *eagle);
size_t sp_eagle_bytes(const sp_eagle *eagle);
size_t sp_eagle_device_bytes(const sp_eagle *eagle); /* of the device's memory */

SP_CHECK sp_status sp_eagle_context_open(sp_eagle_context **out, const sp_eagle *eagle, sp_pool *pool,
                                         size_t max_window, sp_error *err);
void sp_eagle_context_close(sp_eagle_context *context);
size_t sp_eagle_context_bytes(const sp_eagle_context *context);
size_t sp_eagle_context_device_bytes(const sp_eagle_context *context);

/* Features that target leaves on a device are read there. */
sp_draft_model sp_eagle_model(sp_eagle_context *context, const sp_context *target);

#endif
