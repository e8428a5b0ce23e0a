#ifndef SP_CODEC_CONFIG_H
#define SP_CODEC_CONFIG_H
/* The codec's part of config.json: "vq", or "kl" of models with continuous tokens, which may do without. Inside
 * src/model only; the grid and the codes or latents are read before it. */
#include "io/json.h"
#include "model/config.h"

SP_CHECK sp_status sp_codec_config_read(const json_t *root, const char *file, sp_model_config *config, sp_error *err);

#endif
