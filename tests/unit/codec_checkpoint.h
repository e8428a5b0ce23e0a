#ifndef SP_CODEC_CHECKPOINT_H
#define SP_CODEC_CHECKPOINT_H
/* Codec checkpoints in memory with weights made by formula, for test_vqgan and test_kl.
 *
 *     codec_checkpoint c = make_codec_checkpoint(&config);      // of a kl codec when config.n_codes is 0
 *     tensor_data(&c.file, "quant_conv.bias", &count)[0] = ..;   // checkpoint.h
 *     SP_TEST_OK(open_codec(&codec, &c, "auto", pool, err));
 *     free_checkpoint(&c.file); */
#include "checkpoint.h"
#include "vq/codec.h"

enum { ROWS = 4, COLUMNS = 5 };

typedef struct codec_checkpoint {
    sp_codec_config config;
    checkpoint file;
} codec_checkpoint;

static inline void add_conv(checkpoint *c, const char *prefix, const char *part, size_t n, size_t k, size_t size)
{
    add_tensor(c, SP_SHAPE4(n, k, size, size), "%s%s.weight", prefix, part);
    add_tensor(c, SP_SHAPE1(n), "%s%s.bias", prefix, part);
}

static inline void add_norm(checkpoint *c, const char *prefix, const char *part, size_t channels)
{
    add_tensor(c, SP_SHAPE1(channels), "%s%s.weight", prefix, part);
    add_tensor(c, SP_SHAPE1(channels), "%s%s.bias", prefix, part);
}

static inline void add_res(checkpoint *c, const char *prefix, size_t before, size_t after)
{
    add_norm(c, prefix, ".norm1", before);
    add_conv(c, prefix, ".conv1", after, before, 3);
    add_norm(c, prefix, ".norm2", after);
    add_conv(c, prefix, ".conv2", after, after, 3);
    if (before != after) add_conv(c, prefix, ".nin_shortcut", after, before, 1);
}

static inline void add_attention(checkpoint *c, const char *prefix, size_t channels)
{
    add_norm(c, prefix, ".norm", channels);
    add_conv(c, prefix, ".q", channels, channels, 1);
    add_conv(c, prefix, ".k", channels, channels, 1);
    add_conv(c, prefix, ".v", channels, channels, 1);
    add_conv(c, prefix, ".proj_out", channels, channels, 1);
}

/* Names of a level and of its parts, by config.names. */
typedef struct names {
    char level[32];
    const char *block, *middle[3];
} names;

static inline names names_of(const sp_codec_config *v, bool decoder, size_t index, size_t level)
{
    names n = {.block = "res", .middle = {"mid.0", "mid.1", "mid.2"}};
    snprintf(n.level, sizeof n.level, "conv_blocks.%zu", index);
    if (v->names == SP_VQ_NAMES_ORDER) return n;
    n = (names){.block = "block", .middle = {"mid.block_1", "mid.attn_1", "mid.block_2"}};
    snprintf(n.level, sizeof n.level, "%s.%zu", decoder ? "up" : "down", level);
    return n;
}

static inline void add_network(checkpoint *c, const sp_codec_config *v, bool decoder)
{
    const char *side = decoder ? "decoder" : "encoder";
    size_t last = v->n_levels - 1, deepest = v->channels * v->channel_mult[last];
    size_t before = decoder ? deepest : v->channels, z = v->z_channels * (!decoder && v->n_codes == 0 ? 2 : 1);
    char name[96];
    names n = names_of(v, decoder, 0, 0);
    bool attends = v->attention == SP_VQ_ATTENTION_LOWEST || (v->attention == SP_VQ_ATTENTION_ENCODER && !decoder);
    for (size_t i = 0; i < 3; i++) {
        snprintf(name, sizeof name, "%s.%s", side, n.middle[i]);
        if (i == 1) add_attention(c, name, deepest);
        else add_res(c, name, deepest, deepest);
    }
    snprintf(name, sizeof name, "%s.conv_in", side);
    add_conv(c, name, "", before, decoder ? z : 3, 3);
    for (size_t i = 0; i <= last; i++) {
        size_t level = decoder ? last - i : i, width = v->channels * v->channel_mult[level];
        n = names_of(v, decoder, i, level);
        for (size_t block = 0; block < v->blocks_per_level + (decoder ? 1 : 0); block++) {
            snprintf(name, sizeof name, "%s.%s.%s.%zu", side, n.level, n.block, block);
            add_res(c, name, before, width);
            before = width;
            snprintf(name, sizeof name, "%s.%s.attn.%zu", side, n.level, block);
            if (attends && level == last) add_attention(c, name, width);
        }
        snprintf(name, sizeof name, "%s.%s.%s.conv", side, n.level, decoder ? "upsample" : "downsample");
        if (i < last) add_conv(c, name, "", width, width, 3);
    }
    add_norm(c, side, ".norm_out", before);
    add_conv(c, side, ".conv_out", decoder ? 3 : z, before, 3);
}

static inline int order(const void *a, const void *b)
{
    return strcmp(((const entry *)a)->name, ((const entry *)b)->name);
}

/* The same formula as codec_weights.py, for the tensor that is index-th by name. */
static inline void fill_tensor(checkpoint *c, size_t index)
{
    const entry *e = &c->entries[index];
    size_t rank = e->shape.rank, suffix = strlen(e->name) - 6;
    bool gain = strstr(e->name, "norm") && strcmp(e->name + suffix, "weight") == 0;
    for (size_t i = 0; i < e->count; i++) {
        double v = (double)sp_test_value((uint32_t)index, i);
        if (rank == 4) v *= sqrt(3.0 / (double)(e->count / e->shape.size[0]));
        else if (rank == 1) v = gain ? 1.0 + 0.25 * v : 0.125 * v;
        c->data[e->offset + i] = sp_f32_to_bf16((float)v);
    }
}

static inline codec_checkpoint make_codec_checkpoint(const sp_codec_config *config)
{
    codec_checkpoint out = {.config = *config};
    checkpoint *c = &out.file;
    add_network(c, config, true);
    add_network(c, config, false);
    add_conv(c, "post_quant_conv", "", config->z_channels, config->code_dim, 1);
    size_t moments = config->n_codes == 0 ? 2 : 1;
    add_conv(c, "quant_conv", "", moments * config->code_dim, moments * config->z_channels, 1);
    if (config->n_codes) add_tensor(c, SP_SHAPE2(config->n_codes, config->code_dim), "quantize.embedding.weight");
    qsort(c->entries, c->n, sizeof *c->entries, order);
    open_checkpoint(c, NULL);
    for (size_t i = 0; i < c->n; i++) fill_tensor(c, i);
    return out;
}

static inline sp_status open_codec(sp_codec **codec, const codec_checkpoint *c, const char *ops, sp_pool *pool,
                                   sp_error *err)
{
    return sp_codec_open(codec, &c->config, c->file.tensors, sp_ops_find(ops), pool, err);
}

#endif
