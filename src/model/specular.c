/* The sample models' own family: text through a learned, unrotated prefix; 2-D RoPE on the image
 * (docs/models/specular.md). With "latents" in config.json tokens are continuous. */
#include "model/family.h"

extern const sp_family sp_family_specular;

const sp_family sp_family_specular = {
    .name = "specular",
    .from_text = true,
    .slots = {
        [SP_SLOT_PREFIX] = "text.embedding.weight",
        [SP_SLOT_PREFIX_POSITION] = "text.position",
        [SP_SLOT_CODES] = "codes.embedding.weight",
        [SP_SLOT_ATTENTION_NORM] = "layers.%zu.attention_norm.weight",
        [SP_SLOT_Q] = "layers.%zu.attention.q.weight",
        [SP_SLOT_K] = "layers.%zu.attention.k.weight",
        [SP_SLOT_V] = "layers.%zu.attention.v.weight",
        [SP_SLOT_Q_NORM] = "layers.%zu.attention.q_norm.weight",
        [SP_SLOT_K_NORM] = "layers.%zu.attention.k_norm.weight",
        [SP_SLOT_Q_NORM_BIAS] = "layers.%zu.attention.q_norm.bias",
        [SP_SLOT_K_NORM_BIAS] = "layers.%zu.attention.k_norm.bias",
        [SP_SLOT_O] = "layers.%zu.attention.o.weight",
        [SP_SLOT_FFN_NORM] = "layers.%zu.ffn_norm.weight",
        [SP_SLOT_GATE] = "layers.%zu.ffn.gate.weight",
        [SP_SLOT_UP] = "layers.%zu.ffn.up.weight",
        [SP_SLOT_DOWN] = "layers.%zu.ffn.down.weight",
        [SP_SLOT_NORM] = "norm.weight",
        [SP_SLOT_HEAD] = "head.weight",
        [SP_SLOT_HEAD_BIAS] = "head.bias",
        [SP_SLOT_HEAD_HIDDEN] = "head.hidden.weight",
        [SP_SLOT_HEAD_HIDDEN_BIAS] = "head.hidden.bias",
        [SP_SLOT_LATENTS] = "latents.input.weight",
        [SP_SLOT_LATENTS_BIAS] = "latents.input.bias",
        [SP_SLOT_DIFFUSION_TIME_IN] = "head.time.0.weight",
        [SP_SLOT_DIFFUSION_TIME_OUT] = "head.time.2.weight",
        [SP_SLOT_DIFFUSION_CONDITION] = "head.condition.weight",
        [SP_SLOT_DIFFUSION_INPUT] = "head.input.weight",
        [SP_SLOT_DIFFUSION_MODULATION] = "head.modulation.%zu.weight",
        [SP_SLOT_DIFFUSION_NORM] = "head.blocks.%zu.norm.weight",
        [SP_SLOT_DIFFUSION_UP] = "head.blocks.%zu.up.weight",
        [SP_SLOT_DIFFUSION_DOWN] = "head.blocks.%zu.down.weight",
        [SP_SLOT_DIFFUSION_FINAL_MODULATION] = "head.final.modulation.weight",
        [SP_SLOT_DIFFUSION_OUTPUT] = "head.final.output.weight",
    },
};
