#ifndef SP_LATENT_CONFIG_H
#define SP_LATENT_CONFIG_H
/* The part of config.json that only models with continuous tokens have: "latents", "head", "kl" and the schedule of
 * guidance. Inside src/model only; transformer and prompt are read before it. */
#include "io/json.h"
#include "model/config.h"

SP_CHECK sp_status sp_latent_config(const json_t *root, const char *file, sp_model_config *config, sp_error *err);

#endif
