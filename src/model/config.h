#ifndef SP_CONFIG_H
#define SP_CONFIG_H
/* config.json of a checkpoint: every flag of the transformer core, the codec and the sampling defaults
 * (docs/FORMATS.md). All sizes are range-checked here, so that what follows can compute with them. */
#include "base/error.h"
#include "model/head.h"
#include "vq/codec.h"

typedef enum { SP_QK_NORM_NONE = 0, SP_QK_NORM_LAYER, SP_QK_NORM_RMS } sp_qk_norm;
typedef enum { SP_ROPE_1D = 0, SP_ROPE_2D } sp_rope_kind;

/* Rows of the prefix under 2-D RoPE: not rotated, or q = k = 0 as in LlamaGen's table of zeros. Under 1-D RoPE a
 * prefix is rotated like the rest. */
typedef enum { SP_PREFIX_IDENTITY = 0, SP_PREFIX_ZERO } sp_rope_prefix;

/* The scale of guidance at position i of n: cfg_scale, or 1 + (cfg_scale - 1) i / n. */
typedef enum { SP_GUIDANCE_CONSTANT = 0, SP_GUIDANCE_LINEAR } sp_guidance;
typedef enum { SP_HEAD_LINEAR = 0, SP_HEAD_MLP } sp_head_kind;

typedef struct sp_model_config {
    char family[32]; /* a name of models.def */

    size_t dim, layers, heads, kv_heads, head_dim, ffn_dim;
    float norm_eps;
    sp_qk_norm qk_norm;
    sp_rope_kind rope;
    float rope_base;
    bool rope_adjacent; /* pairs (2j, 2j+1); else (j, j + head_dim / 2) */
    sp_rope_prefix rope_prefix;
    bool rope_columns_first; /* 2-D: the first half of the pairs turns by the column */
    float rope_origin;       /* 2-D: row and column of the first token */

    size_t prefix_vocab;    /* rows of the prefix table: text tokens, or classes and the null class */
    size_t prefix_length;   /* rows of a full prefix; a class has as many in its row of the table */
    bool prefix_positions;  /* learned positions are added to the prefix */
    bool from_text;
    int32_t pad_id;         /* text: fills the left of a short prompt; all pads is the null prompt */
    size_t n_classes;
    int32_t null_class;

    bool masked;            /* full attention, any order (model/masked.h); layers are the encoder's */
    size_t decoder_layers, buffer; /* masked: rows of the class before the tokens */
    size_t passes;          /* masked: in which a picture is drawn */

    size_t latent_dim;      /* of a continuous token; 0: tokens are codes */
    bool input_norm;        /* an RMS norm of prefix and tokens before the first layer */
    bool feature_positions; /* learned positions are added to the features */
    sp_head_config diffusion;
    bool project_sphere;    /* a token is the last state scaled to length sqrt(latent_dim) */
    sp_guidance guidance;

    size_t n_codes, rows, columns;
    size_t code_row; /* first row of the codes in their table and head, when those are slices of a larger one */
    sp_head_kind head;
    size_t head_hidden; /* of an MLP head */

    sp_codec_config codec;
    float cfg_scale, temperature, top_p;
    int top_k;
} sp_model_config;

/* Reads FOLDER/config.json; SP_EUNSUPPORTED for a family or flag this build does not know. */
SP_CHECK sp_status sp_model_config_load(const char *folder, sp_model_config *out, sp_error *err);

/* From text, for tests; name is for messages. */
SP_CHECK sp_status sp_model_config_parse(const char *name, const char *text, size_t size, sp_model_config *out,
                                         sp_error *err);

#endif
