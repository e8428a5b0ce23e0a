#ifndef SP_CODEC_CHECKPOINT_H
#define SP_CODEC_CHECKPOINT_H
/* Codec checkpoints in memory with weights made by formula, for test_vqgan and test_kl.
 *
 *     checkpoint *c = make_checkpoint(&config);           // of a kl codec when config.n_codes is 0
 *     tensor_data(c, "quant_conv.bias", &count)[0] = ..;   // changes, before it is opened
 *     open_checkpoint(c, NULL);                            // c->tensors; again after every change
 *     SP_TEST_OK(open_codec(&codec, c, "auto", pool, err));
 *     free_checkpoint(c); */
#include "support.h"
#include "vq/codec.h"

enum { ROWS = 4, COLUMNS = 5, MAX_TENSORS = 400 };

typedef struct entry {
    char name[96];
    size_t rank, shape[4], count, offset;
} entry;

/* A safetensors image under construction. */
typedef struct checkpoint {
    sp_codec_config config;
    entry entries[MAX_TENSORS];
    size_t n;
    uint16_t *data; /* bf16 */
    size_t total;
    char *image;
    size_t size;
    sp_tensors *tensors;
} checkpoint;

static inline void add(checkpoint *c, size_t rank, size_t a, size_t b, size_t size, const char *format, ...)
{
    entry *e = &c->entries[c->n++];
    va_list arguments;
    assert_true(c->n <= MAX_TENSORS);
    *e = (entry){.rank = rank, .shape = {a, b, size, size}, .count = a * (rank > 1 ? b : 1) * size * size};
    va_start(arguments, format);
    vsnprintf(e->name, sizeof e->name, format, arguments);
    va_end(arguments);
}

static inline void add_conv(checkpoint *c, const char *prefix, const char *part, size_t n, size_t k, size_t size)
{
    add(c, 4, n, k, size, "%s%s.weight", prefix, part);
    add(c, 1, n, 1, 1, "%s%s.bias", prefix, part);
}

static inline void add_norm(checkpoint *c, const char *prefix, const char *part, size_t channels)
{
    add(c, 1, channels, 1, 1, "%s%s.weight", prefix, part);
    add(c, 1, channels, 1, 1, "%s%s.bias", prefix, part);
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

static inline void add_network(checkpoint *c, bool decoder)
{
    const sp_codec_config *v = &c->config;
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
    size_t suffix = strlen(e->name) - 6;
    bool gain = strstr(e->name, "norm") && strcmp(e->name + suffix, "weight") == 0;
    for (size_t i = 0; i < e->count; i++) {
        double v = (double)sp_test_value((uint32_t)index, i);
        if (e->rank == 4) v *= sqrt(3.0 / (double)(e->count / e->shape[0]));
        else if (e->rank == 1) v = gain ? 1.0 + 0.25 * v : 0.125 * v;
        c->data[e->offset + i] = sp_f32_to_bf16((float)v);
    }
}

static inline checkpoint *make_checkpoint(const sp_codec_config *config)
{
    checkpoint *c = calloc(1, sizeof *c);
    assert_non_null(c);
    c->config = *config;
    add_network(c, true);
    add_network(c, false);
    add_conv(c, "post_quant_conv", "", config->z_channels, config->code_dim, 1);
    size_t moments = config->n_codes == 0 ? 2 : 1;
    add_conv(c, "quant_conv", "", moments * config->code_dim, moments * config->z_channels, 1);
    if (config->n_codes) add(c, 2, config->n_codes, config->code_dim, 1, "quantize.embedding.weight");
    qsort(c->entries, c->n, sizeof *c->entries, order);
    for (size_t i = 0; i < c->n; c->total += c->entries[i++].count) c->entries[i].offset = c->total;
    c->data = malloc(c->total * sizeof *c->data);
    assert_non_null(c->data);
    for (size_t i = 0; i < c->n; i++) fill_tensor(c, i);
    return c;
}

/* The data of a tensor, to be changed before the checkpoint is opened. */
static inline uint16_t *tensor_data(checkpoint *c, const char *name, size_t *count)
{
    for (size_t i = 0; i < c->n; i++) {
        if (strcmp(c->entries[i].name, name) != 0) continue;
        *count = c->entries[i].count;
        return c->data + c->entries[i].offset;
    }
    fail_msg("no tensor %s", name);
    return NULL;
}

/* Parses the image, with the tensors whose names start with `without` left out. */
static inline const sp_tensors *open_checkpoint(checkpoint *c, const char *without)
{
    size_t length = 1, capacity = c->n * 200 + 64;
    sp_tensors_close(c->tensors);
    free(c->image);
    c->image = calloc(1, 8 + capacity + c->total * sizeof *c->data);
    assert_non_null(c->image);
    char *header = c->image + 8;
    header[0] = '{';
    /* What is left out keeps its bytes under another name, since a file may have no holes. */
    for (size_t i = 0; i < c->n; i++) {
        const entry *e = &c->entries[i];
        const char *out = without && strncmp(e->name, without, strlen(without)) == 0 ? "left-out." : "";
        length += (size_t)snprintf(header + length, capacity - length, "%s\"%s%s\":{\"dtype\":\"BF16\",\"shape\":[%zu",
                                   i ? "," : "", out, e->name, e->shape[0]);
        for (size_t d = 1; d < e->rank; d++)
            length += (size_t)snprintf(header + length, capacity - length, ",%zu", e->shape[d]);
        length += (size_t)snprintf(header + length, capacity - length, "],\"data_offsets\":[%zu,%zu]}", 2 * e->offset,
                                   2 * (e->offset + e->count));
    }
    header[length++] = '}';
    while (length % 8) header[length++] = ' ';
    for (int i = 0; i < 8; i++) c->image[i] = (char)(unsigned char)(length >> 8 * i & 255);
    memcpy(header + length, c->data, c->total * sizeof *c->data);
    c->size = 8 + length + c->total * sizeof *c->data;
    SP_TEST_OK(sp_tensors_parse(&c->tensors, "test.safetensors", c->image, c->size, err));
    return c->tensors;
}

static inline void free_checkpoint(checkpoint *c)
{
    sp_tensors_close(c->tensors);
    free(c->image);
    free(c->data);
    free(c);
}

static inline sp_status open_codec(sp_codec **codec, const checkpoint *c, const char *ops, sp_pool *pool, sp_error *err)
{
    return sp_codec_open(codec, &c->config, c->tensors, sp_ops_find(ops), pool, err);
}

/* Opening names the tensor that is left out, or has another shape. */
static inline void refuses_missing_and_misshapen(checkpoint *c)
{
    for (size_t i = 0; i < c->n; i++) {
        entry *e = &c->entries[i];
        sp_codec *codec;
        if (strcmp(e->name, "encoder.conv_in.weight") != 0) {
            sp_error err = {0};
            open_checkpoint(c, e->name);
            assert_int_equal(open_codec(&codec, c, "auto", NULL, &err), SP_EFORMAT);
            assert_null(codec);
            if (!strstr(err.message, e->name)) fail_msg("'%s' does not name %s", err.message, e->name);
        }
        entry kept = *e;
        sp_error err = {0};
        *e = (entry){.rank = 2, .shape = {kept.count, 1}, .count = kept.count, .offset = kept.offset};
        memcpy(e->name, kept.name, sizeof e->name);
        open_checkpoint(c, NULL);
        assert_int_equal(open_codec(&codec, c, "auto", NULL, &err), SP_EFORMAT);
        if (!strstr(err.message, e->name)) fail_msg("'%s' does not name %s", err.message, e->name);
        *e = kept;
    }
}

static inline void refuses_nan(checkpoint *c)
{
    for (size_t i = 0; i < c->n; i++) {
        const entry *e = &c->entries[i];
        uint16_t *last = &c->data[e->offset + e->count - 1], kept = *last;
        sp_error err = {0};
        sp_codec *codec;
        *last = 0x7FC0;
        open_checkpoint(c, NULL);
        assert_int_equal(open_codec(&codec, c, "auto", NULL, &err), SP_EFORMAT);
        if (!strstr(err.message, e->name)) fail_msg("'%s' does not name %s", err.message, e->name);
        *last = kept;
    }
}

#endif
