/* The VQGAN of LlamaGen, Janus and the sample model. Whole pictures: GroupNorm and attention look at all of one, so
 * tiles would not meet. docs/models/specular.md has the names of the tensors. */
#include <math.h>
#include <string.h>

#include "base/size.h"
#include "vq/vqgan_layers.h"

extern const sp_codec_ops sp_codec_vqgan;

typedef struct network {
    sp_vq_layer *layers;
    size_t n;
} network;

typedef struct vqgan {
    sp_codec_config config;
    network decoder, encoder; /* the encoder has no layers when the checkpoint has none */
    float *codes;             /* [n_codes, code_dim], normalised if that is asked */
    float *offsets;           /* [n_codes] -|code|^2 / 2, NULL when the codes are normalised */
    sp_weight codebook;       /* codes, for the nearest one; f32 always: near codes are one bf16 apart */
    sp_vq_map quant, post_quant;
    size_t weight_bytes;
    sp_arena parameters, activations;
    sp_vq_run run;
} vqgan;

/* Positions whose scores against all codes exist at once. */
enum { SCORE_ROWS = 16 };

static sp_status check(const sp_codec_config *c, sp_error *err)
{
    const struct { const char *name; size_t value, most; } limits[] = {
        {"rows", c->rows, 1024}, {"columns", c->columns, 1024}, {"channels", c->channels, 4096},
        {"z_channels", c->z_channels, 4096}, {"code_dim", c->code_dim, 4096}, {"n_codes", c->n_codes, 1 << 22},
        {"groups", c->groups, 1024}, {"blocks_per_level", c->blocks_per_level, 16},
    };
    for (size_t i = 0; i < sizeof limits / sizeof *limits; i++)
        if (limits[i].value < 1 || limits[i].value > limits[i].most)
            return SP_FAIL(err, SP_EFORMAT, "vq: %s is %zu: expected 1 to %zu", limits[i].name, limits[i].value,
                           limits[i].most);
    for (size_t i = 0; i < c->n_levels; i++) {
        size_t mult = c->channel_mult[i];
        if (mult < 1 || mult > 64)
            return SP_FAIL(err, SP_EFORMAT, "vq: channel_mult %zu is %zu: expected 1 to 64", i, mult);
        if (c->channels * mult % c->groups != 0)
            return SP_FAIL(err, SP_EFORMAT, "vq: level %zu has %zu channels: expected a multiple of the %zu groups",
                           i, c->channels * mult, c->groups);
    }
    return SP_OK;
}

static sp_status plan(network *net, const sp_codec_config *c, sp_vq_side side, sp_error *err)
{
    net->n = sp_vq_plan(c, side, NULL);
    net->layers = sp_alloc(net->n, sizeof *net->layers);
    if (!net->layers) return SP_FAIL(err, SP_ENOMEM, "vq: no memory for the list of its layers");
    sp_vq_plan(c, side, net->layers);
    return SP_OK;
}

static void take_parameters(vqgan *g)
{
    const sp_codec_config *c = &g->config;
    sp_arena *a = &g->parameters;
    g->codes = sp_arena_take(a, c->n_codes * c->code_dim, sizeof(float));
    g->post_quant.bias = sp_arena_take(a, c->z_channels, sizeof(float));
    g->quant.bias = sp_arena_take(a, c->code_dim, sizeof(float));
    if (!c->l2_normalised) g->offsets = sp_arena_take(a, c->n_codes, sizeof(float));
    for (size_t i = 0; i < g->decoder.n; i++) sp_vq_layer_take(&g->decoder.layers[i], a);
    for (size_t i = 0; i < g->encoder.n; i++) sp_vq_layer_take(&g->encoder.layers[i], a);
}

static sp_status load_codes(vqgan *g, sp_vq_loader *loader, sp_error *err)
{
    const sp_codec_config *c = &g->config;
    const sp_tensor *t;
    SP_TRY(sp_tensors_get(loader->tensors, "quantize.embedding.weight", SP_SHAPE2(c->n_codes, c->code_dim), &t, err));
    SP_TRY(sp_tensor_floats(t, g->codes, err));
    for (size_t i = 0; i < c->n_codes; i++) {
        float *code = g->codes + i * c->code_dim;
        double squares = 0;
        for (size_t d = 0; d < c->code_dim; d++) squares += (double)code[d] * (double)code[d];
        double norm = fmax(sqrt(squares), 1e-12);
        for (size_t d = 0; c->l2_normalised && d < c->code_dim; d++) code[d] = (float)((double)code[d] / norm);
        if (g->offsets) g->offsets[i] = (float)(-0.5 * squares);
    }
    if (g->encoder.n == 0) return SP_OK;
    if (!loader->ops->pack(&g->codebook, g->codes, SP_F32, c->n_codes, c->code_dim, false))
        return SP_FAIL(err, SP_ENOMEM, "vq: no memory for %zu codes; close other programs", c->n_codes);
    loader->bytes += g->codebook.bytes;
    return SP_OK;
}

static sp_status load(vqgan *g, sp_vq_loader *loader, sp_error *err)
{
    const sp_codec_config *c = &g->config;
    take_parameters(g);
    SP_TRY(sp_arena_commit(&g->parameters, "codec norms and codes", err));
    take_parameters(g);
    SP_TRY(load_codes(g, loader, err));
    SP_TRY(sp_vq_matrix_load(loader, "post_quant_conv", c->z_channels, c->code_dim, &g->post_quant, err));
    for (size_t i = 0; i < g->decoder.n; i++) SP_TRY(sp_vq_layer_load(loader, &g->decoder.layers[i], err));
    if (g->encoder.n == 0) return SP_OK;
    SP_TRY(sp_vq_matrix_load(loader, "quant_conv", c->code_dim, c->z_channels, &g->quant, err));
    for (size_t i = 0; i < g->encoder.n; i++) SP_TRY(sp_vq_layer_load(loader, &g->encoder.layers[i], err));
    return SP_OK;
}

/* One set of buffers serves every layer of both networks. */
static sp_status make_room(vqgan *g, sp_error *err)
{
    const sp_codec_config *c = &g->config;
    size_t positions = c->rows * c->columns, floats = positions * c->code_dim;
    size_t widest = c->code_dim > c->z_channels ? c->code_dim : c->z_channels;
    size_t scratch = sp_vq_matrix_scratch(&g->run, widest);
    if (g->encoder.n && floats < SCORE_ROWS * c->n_codes) floats = SCORE_ROWS * c->n_codes;
    for (size_t i = 0; i < g->decoder.n + g->encoder.n; i++) {
        const sp_vq_layer *layer = i < g->decoder.n ? &g->decoder.layers[i] : &g->encoder.layers[i - g->decoder.n];
        size_t own, bytes = sp_vq_layer_scratch(&g->run, layer);
        SP_TRY(sp_vq_layer_floats(layer, &own, err));
        if (own > floats) floats = own;
        if (bytes > scratch) scratch = bytes;
    }
    for (int pass = 0; pass < 2; pass++) {
        for (size_t i = 0; i < 3; i++) g->run.buffer[i] = sp_arena_take(&g->activations, floats, sizeof(float));
        g->run.scratch = sp_arena_take(&g->activations, scratch, 1);
        if (pass == 0) SP_TRY(sp_arena_commit(&g->activations, "codec activations", err));
    }
    return SP_OK;
}

static void close_network(network *net)
{
    for (size_t i = 0; net->layers && i < net->n; i++) sp_vq_layer_free(&net->layers[i]);
    sp_release(net->layers);
}

static void close(void *state)
{
    vqgan *g = state;
    close_network(&g->decoder);
    close_network(&g->encoder);
    sp_release(g->codebook.data);
    sp_release(g->quant.weight.data);
    sp_release(g->post_quant.weight.data);
    sp_arena_free(&g->parameters);
    sp_arena_free(&g->activations);
    sp_release(g);
}

static sp_status open(void **state, const sp_codec_config *config, const sp_tensors *tensors, const sp_ops *ops,
                      sp_pool *pool, sp_error *err)
{
    sp_status status;
    sp_vq_loader loader = {tensors, ops, config->bf16, 0};
    *state = NULL;
    SP_TRY(check(config, err));
    vqgan *g = sp_alloc(1, sizeof *g);
    if (!g) return SP_FAIL(err, SP_ENOMEM, "vq: no memory");
    g->config = *config;
    g->run = (sp_vq_run){.ops = ops, .pool = pool, .groups = config->groups, .eps = config->group_norm_eps};
    SP_GO(plan(&g->decoder, config, SP_VQ_DECODER, err));
    if (sp_tensors_find(tensors, "encoder.conv_in.weight")) SP_GO(plan(&g->encoder, config, SP_VQ_ENCODER, err));
    SP_GO(load(g, &loader, err));
    SP_GO(make_room(g, err));
    g->weight_bytes = loader.bytes;
    *state = g;
    return SP_OK;
out:
    close(g);
    return status;
}

static sp_status decode(void *state, const int32_t *tokens, float *pixels, sp_error *err)
{
    (void)err;
    vqgan *g = state;
    size_t positions = g->config.rows * g->config.columns, width = g->config.code_dim;
    float *codes = g->run.buffer[1];
    for (size_t i = 0; i < positions; i++)
        memcpy(codes + i * width, g->codes + (size_t)tokens[i] * width, width * sizeof *codes);
    sp_vq_matrix_run(&g->run, &g->post_quant, codes, positions, g->run.buffer[0], SP_GEMM_SET);
    for (size_t i = 0; i < g->decoder.n; i++) sp_vq_layer_run(&g->run, &g->decoder.layers[i]);
    sp_plane out = g->decoder.layers[g->decoder.n - 1].out;
    memcpy(pixels, g->run.buffer[0], out.height * out.width * out.channels * sizeof *pixels);
    return SP_OK;
}

/* argmin |z - e|^2 = argmax z e - |e|^2 / 2. Codes of length 1 need no offset, nor z a length. */
static sp_status nearest(vqgan *g, const float *z, int32_t *tokens, sp_error *err)
{
    const sp_codec_config *c = &g->config;
    size_t positions = c->rows * c->columns;
    float *scores = g->run.buffer[2];
    for (size_t row = 0; row < positions; row += SCORE_ROWS) {
        size_t rows = positions - row < SCORE_ROWS ? positions - row : SCORE_ROWS;
        g->run.ops->gemm(g->run.pool, &g->codebook, z + row * c->code_dim, c->code_dim, rows, scores, c->n_codes,
                         SP_GEMM_SET, g->run.scratch);
        for (size_t r = 0; r < rows; r++) {
            tokens[row + r] = g->run.ops->argmax(scores + r * c->n_codes, g->offsets, c->n_codes);
            if (tokens[row + r] < 0)
                return SP_FAIL(err, SP_EFORMAT, "vq: the code at position %zu came out as NaN: expected numbers; the "
                               "weights overflow, fetch them again", row + r);
        }
    }
    return SP_OK;
}

/* The encoder's output [positions, z_channels] in buffer[0]. */
static sp_status run_encoder(vqgan *g, const float *pixels, sp_error *err)
{
    if (g->encoder.n == 0)
        return SP_FAIL(err, SP_EUNSUPPORTED, "vq: this checkpoint cannot encode: it has no 'encoder.conv_in.weight'");
    sp_plane in = g->encoder.layers[0].in;
    memcpy(g->run.buffer[0], pixels, in.height * in.width * in.channels * sizeof *pixels);
    for (size_t i = 0; i < g->encoder.n; i++) sp_vq_layer_run(&g->run, &g->encoder.layers[i]);
    return SP_OK;
}

static sp_status encode(void *state, const float *pixels, int32_t *tokens, sp_error *err)
{
    vqgan *g = state;
    SP_TRY(run_encoder(g, pixels, err));
    size_t positions = g->config.rows * g->config.columns;
    sp_vq_matrix_run(&g->run, &g->quant, g->run.buffer[0], positions, g->run.buffer[1], SP_GEMM_SET);
    return nearest(g, g->run.buffer[1], tokens, err);
}

static sp_status features(void *state, const float *pixels, float *out, sp_error *err)
{
    vqgan *g = state;
    SP_TRY(run_encoder(g, pixels, err));
    size_t positions = g->config.rows * g->config.columns, width = g->config.z_channels;
    for (size_t c = 0; c < width; c++) {
        double sum = 0;
        for (size_t i = 0; i < positions; i++) sum += (double)g->run.buffer[0][i * width + c];
        out[c] = (float)(sum / (double)positions);
    }
    return SP_OK;
}

static const float *codes(const void *state) { return ((const vqgan *)state)->codes; }

static size_t bytes(const void *state)
{
    const vqgan *g = state;
    return g->weight_bytes + g->parameters.bytes + g->activations.bytes;
}

const sp_codec_ops sp_codec_vqgan = {
    .name = "vqgan", .open = open, .decode = decode, .encode = encode, .features = features, .codes = codes,
    .bytes = bytes, .close = close,
};
