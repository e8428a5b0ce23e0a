/* LlamaGen (Sun et al., arXiv 2406.06525), class-conditional: one class row as the prefix, 2-D RoPE with a zero row
 * for it (docs/models/llamagen.md). */
#include "model/family.h"

extern const sp_family sp_family_llamagen;

const sp_family sp_family_llamagen = {
    .name = "llamagen",
    .slots = {
        [SP_SLOT_PREFIX] = "cls_embedding.embedding_table.weight",
        [SP_SLOT_CODES] = "tok_embeddings.weight",
        [SP_SLOT_ATTENTION_NORM] = "layers.%zu.attention_norm.weight",
        [SP_SLOT_QKV] = "layers.%zu.attention.wqkv.weight",
        [SP_SLOT_O] = "layers.%zu.attention.wo.weight",
        [SP_SLOT_FFN_NORM] = "layers.%zu.ffn_norm.weight",
        [SP_SLOT_GATE] = "layers.%zu.feed_forward.w1.weight",
        [SP_SLOT_UP] = "layers.%zu.feed_forward.w3.weight",
        [SP_SLOT_DOWN] = "layers.%zu.feed_forward.w2.weight",
        [SP_SLOT_NORM] = "norm.weight",
        [SP_SLOT_HEAD] = "output.weight",
    },
};
