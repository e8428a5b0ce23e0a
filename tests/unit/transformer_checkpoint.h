#ifndef SP_TEST_TRANSFORMER_CHECKPOINT_H
#define SP_TEST_TRANSFORMER_CHECKPOINT_H
/* For tests: a small transformer of random weights, its checkpoint in memory and its config.
 *
 *     checkpoint c = make((shape){64, 3, 4, 176});
 *     sp_model_config config = config_of((shape){64, 3, 4, 176});
 *     SP_TEST_OK(sp_transformer_open(&t, &config, c.tensors, ops, bf16, err)); ... free_checkpoint(&c); */
#include "base/arena.h"
#include "model/transformer.h"
#include "unit/checkpoint.h"

enum { POSITIONS = 64, CODES = 48, PREFIX = 4 };

typedef struct shape {
    size_t dim, layers, heads, ffn;
} shape;

/* bf16 values of about 1/8, fast and the same everywhere. */
static inline void fill(uint16_t *out, size_t count)
{
    uint32_t stream = 1;
    for (size_t i = 0; i < count; i++) {
        stream = stream * 1664525u + 1013904223u;
        out[i] = (uint16_t)(0x3C80u + (stream >> 25 & 0x7Fu) + (stream >> 24 & 1u) * 0x8000u);
    }
}

/* A specular checkpoint of this shape with random weights. */
static inline checkpoint make(shape s)
{
    static const char *const squares[] = {"q", "k", "v", "o"};
    checkpoint c = {0};
    add_tensor(&c, SP_SHAPE2(32, s.dim), "text.embedding.weight");
    add_tensor(&c, SP_SHAPE2(CODES, s.dim), "codes.embedding.weight");
    for (size_t l = 0; l < s.layers; l++) {
        for (size_t i = 0; i < 4; i++)
            add_tensor(&c, SP_SHAPE2(s.dim, s.dim), "layers.%zu.attention.%s.weight", l, squares[i]);
        add_tensor(&c, SP_SHAPE1(s.dim), "layers.%zu.attention_norm.weight", l);
        add_tensor(&c, SP_SHAPE1(s.dim), "layers.%zu.ffn_norm.weight", l);
        add_tensor(&c, SP_SHAPE2(s.ffn, s.dim), "layers.%zu.ffn.gate.weight", l);
        add_tensor(&c, SP_SHAPE2(s.ffn, s.dim), "layers.%zu.ffn.up.weight", l);
        add_tensor(&c, SP_SHAPE2(s.dim, s.ffn), "layers.%zu.ffn.down.weight", l);
    }
    add_tensor(&c, SP_SHAPE1(s.dim), "norm.weight");
    add_tensor(&c, SP_SHAPE2(CODES, s.dim), "head.weight");
    open_checkpoint(&c, NULL);
    fill(c.data, c.total);
    return c;
}

static inline sp_model_config config_of(shape s)
{
    char text[1024];
    snprintf(text, sizeof text,
             "{\"model_type\":\"specular\",\"transformer\":{\"dim\":%zu,\"layers\":%zu,\"heads\":%zu,\"ffn_dim\":%zu,"
             "\"rope\":\"2d\",\"rope_pairs\":\"adjacent\"},\"text\":{\"vocab\":32,\"length\":%d,\"pad_id\":0,"
             "\"learned_positions\":false},\"codes\":{\"count\":%d,\"grid\":[8,8]},\"vq\":{\"channels\":32,"
             "\"channel_mult\":[1],\"blocks_per_level\":1,\"attention\":\"middle\",\"z_channels\":8,"
             "\"codebook\":[%d,8],\"group_norm_groups\":8,\"image_size\":[8,8]}}",
             s.dim, s.layers, s.heads, s.ffn, PREFIX, CODES, CODES);
    sp_model_config config;
    SP_TEST_OK(sp_model_config_parse("test", text, strlen(text), &config, err));
    return config;
}

#endif
