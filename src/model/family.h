#ifndef SP_FAMILY_H
#define SP_FAMILY_H
/* A model family: how a checkpoint names the tensors of the one transformer core. models.def lists them; a family is
 * one file with one table. */
#include <stdbool.h>
#include <stddef.h>

/* What the core needs. Per-layer names hold one %zu. A family gives either the fused form or its parts. */
typedef enum {
    SP_SLOT_PREFIX,          /* [prefix_vocab, dim] */
    SP_SLOT_PREFIX_POSITION, /* [prefix_length, dim] when config says so */
    SP_SLOT_CODES,           /* [code_row + n_codes or more, dim] */
    SP_SLOT_ATTENTION_NORM,  /* [dim] */
    SP_SLOT_Q,               /* [heads head_dim, dim] */
    SP_SLOT_K,               /* [kv_heads head_dim, dim] */
    SP_SLOT_V,               /* the same */
    SP_SLOT_QKV,             /* rows q, k, v of one tensor */
    SP_SLOT_Q_NORM,          /* [heads, head_dim] or [head_dim], with qk_norm */
    SP_SLOT_K_NORM,
    SP_SLOT_Q_NORM_BIAS,     /* with layer norm, optional */
    SP_SLOT_K_NORM_BIAS,
    SP_SLOT_O,               /* [dim, heads head_dim] */
    SP_SLOT_FFN_NORM,        /* [dim] */
    SP_SLOT_GATE,            /* [ffn_dim, dim] */
    SP_SLOT_UP,              /* [ffn_dim, dim] */
    SP_SLOT_DOWN,            /* [dim, ffn_dim] */
    SP_SLOT_NORM,            /* [dim] */
    SP_SLOT_HEAD,            /* [code_row + n_codes or more, dim], or [..,
                                                                       head_hidden] after an MLP head's first layer */
    SP_SLOT_HEAD_BIAS,       /* MLP head: [n_codes] */
    SP_SLOT_HEAD_HIDDEN,     /* MLP head: [head_hidden, dim] */
    SP_SLOT_HEAD_HIDDEN_BIAS,
    SP_SLOT_JOIN,            /* drafter: [dim, 2 dim] over the token's row of codes and the feature before it */
    SP_SLOT_JOIN_BIAS,       /* drafter: [dim] */
    SP_SLOT_GATE_UP,         /* rows gate, up of one tensor */
    SP_SLOT_LATENTS,         /* continuous tokens: [dim, latent_dim] in place of the codes */
    SP_SLOT_LATENTS_BIAS,    /* [dim], optional */
    SP_SLOT_INPUT_NORM,      /* [dim], of prefix and tokens before the first layer, when config says so */
    SP_SLOT_FEATURE_POSITION, /* [rows columns, dim] added to the features, when config says so */
    /* Diffusion head of width w; blocks and modulation hold one %zu. Each has a bias under its name with .weight
     * replaced by .bias. */
    SP_SLOT_DIFFUSION_TIME_IN,          /* [w, time_width] */
    SP_SLOT_DIFFUSION_TIME_OUT,         /* [w, w] */
    SP_SLOT_DIFFUSION_CONDITION,        /* [w, dim] */
    SP_SLOT_DIFFUSION_INPUT,            /* [w, latent_dim] */
    SP_SLOT_DIFFUSION_MODULATION,       /* of a group: [3 w, w] */
    SP_SLOT_DIFFUSION_NORM,             /* of a block: [w] */
    SP_SLOT_DIFFUSION_UP,               /* of a block: [hidden, w], gated [2 hidden, w] */
    SP_SLOT_DIFFUSION_DOWN,             /* of a block: [w, hidden] */
    SP_SLOT_DIFFUSION_FINAL_MODULATION, /* [2 w, w] */
    SP_SLOT_DIFFUSION_OUTPUT,           /* [latent_dim, w], learned deviations [2 latent_dim, w] */
    SP_N_SLOTS
} sp_slot;

typedef struct sp_family {
    const char *name;
    bool from_text; /* prompts are text; else class numbers */
    bool masked;    /* model/masked.h, which has names of its own, instead of the core */
    const char *slots[SP_N_SLOTS];
} sp_family;

const sp_family *sp_family_find(const char *name); /* or NULL */
const char *sp_family_names(void);                 /* for messages: "specular, llamagen" */

#endif
