#ifndef SP_MASKED_CONFIG_H
#define SP_MASKED_CONFIG_H
/* The part of config.json that a masked family has in place of "transformer" and the prompt (docs/models/mar.md).
 * Inside src/model only. */
#include "io/json.h"
#include "model/config.h"

SP_CHECK sp_status sp_masked_config(const json_t *root, const char *file, sp_model_config *config, sp_error *err);

#endif
