/* SphereAR (Ke et al., arXiv 2509.24335), class-conditional with continuous tokens: a class is a row of 16 prefix rows,
 * one RMS norm over prefix and tokens, learned positions on the features (docs/models/spherear.md). */
#include "model/family.h"

extern const sp_family sp_family_spherear;

const sp_family sp_family_spherear = {
    .name = "spherear",
    .slots = {
        [SP_SLOT_PREFIX] = "cls_embedding.weight",
        [SP_SLOT_LATENTS] = "proj_in.weight",
        [SP_SLOT_LATENTS_BIAS] = "proj_in.bias",
        [SP_SLOT_INPUT_NORM] = "emb_norm.weight",
        [SP_SLOT_ATTENTION_NORM] = "layers.%zu.attention_norm.weight",
        [SP_SLOT_QKV] = "layers.%zu.attention.wqkv.weight",
        [SP_SLOT_O] = "layers.%zu.attention.wo.weight",
        [SP_SLOT_FFN_NORM] = "layers.%zu.ffn_norm.weight",
        [SP_SLOT_GATE_UP] = "layers.%zu.feed_forward.w1.weight",
        [SP_SLOT_DOWN] = "layers.%zu.feed_forward.w2.weight",
        [SP_SLOT_NORM] = "norm.weight",
        [SP_SLOT_FEATURE_POSITION] = "pos_for_diff.weight",
        [SP_SLOT_DIFFUSION_TIME_IN] = "head.net.time_embed.mlp.0.weight",
        [SP_SLOT_DIFFUSION_TIME_OUT] = "head.net.time_embed.mlp.2.weight",
        [SP_SLOT_DIFFUSION_CONDITION] = "head.net.cond_embed.weight",
        [SP_SLOT_DIFFUSION_INPUT] = "head.net.input_proj.weight",
        [SP_SLOT_DIFFUSION_MODULATION] = "head.net.ada_ln_blocks.%zu.weight",
        [SP_SLOT_DIFFUSION_NORM] = "head.net.res_blocks.%zu.norm.weight",
        [SP_SLOT_DIFFUSION_UP] = "head.net.res_blocks.%zu.w1.weight",
        [SP_SLOT_DIFFUSION_DOWN] = "head.net.res_blocks.%zu.w2.weight",
        [SP_SLOT_DIFFUSION_FINAL_MODULATION] = "head.net.final_layer.ada_ln_modulation.weight",
        [SP_SLOT_DIFFUSION_OUTPUT] = "head.net.final_layer.linear.weight",
    },
};
