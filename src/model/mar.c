/* MAR (Li et al., arXiv 2406.11838), class-conditional: masked, so its transformer is model/masked.h, which has its
 * names; here are those of the head (docs/models/mar.md). */
#include "model/family.h"

extern const sp_family sp_family_mar;

const sp_family sp_family_mar = {
    .name = "mar",
    .masked = true,
    .slots = {
        [SP_SLOT_DIFFUSION_TIME_IN] = "diffloss.net.time_embed.mlp.0.weight",
        [SP_SLOT_DIFFUSION_TIME_OUT] = "diffloss.net.time_embed.mlp.2.weight",
        [SP_SLOT_DIFFUSION_CONDITION] = "diffloss.net.cond_embed.weight",
        [SP_SLOT_DIFFUSION_INPUT] = "diffloss.net.input_proj.weight",
        [SP_SLOT_DIFFUSION_MODULATION] = "diffloss.net.res_blocks.%zu.adaLN_modulation.1.weight",
        [SP_SLOT_DIFFUSION_NORM] = "diffloss.net.res_blocks.%zu.in_ln.weight",
        [SP_SLOT_DIFFUSION_UP] = "diffloss.net.res_blocks.%zu.mlp.0.weight",
        [SP_SLOT_DIFFUSION_DOWN] = "diffloss.net.res_blocks.%zu.mlp.2.weight",
        [SP_SLOT_DIFFUSION_FINAL_MODULATION] = "diffloss.net.final_layer.adaLN_modulation.1.weight",
        [SP_SLOT_DIFFUSION_OUTPUT] = "diffloss.net.final_layer.linear.weight",
    },
};
