/* The VQGAN of LlamaGen, Janus and the sample model. Whole pictures: GroupNorm and attention look at all of one, so
 * tiles would not meet. docs/models/specular.md has the names of the tensors. */
#include <math.h>
#include <string.h>

#include "base/size.h"
#include "vq/network.h"

extern const sp_codec_ops sp_codec_vqgan;

typedef struct vqgan {
    sp_codec_config config;
    sp_vq_network decoder, encoder; /* the encoder has no layers when the checkpoint has none */
    float *codes;                   /* [n_codes, code_dim], normalised if that is asked */
    float *offsets;                 /* [n_codes] -|code|^2 / 2, NULL when the codes are normalised */
    sp_weight codebook;             /* codes, for the nearest one; f32 always: near codes are one bf16 apart */
    sp_vq_map quant, post_quant;
    size_t weight_bytes;
    sp_arena parameters, activations;
    sp_vq_run run;
} vqgan;

/* Positions whose scores against all codes exist at once. */
enum { SCORE_ROWS = 16 };

static void take_parameters(vqgan *g)
{
    const sp_codec_config *c = &g->config;
    sp_arena *a = &g->parameters;
    g->codes = sp_arena_take(a, c->n_codes * c->code_dim, sizeof(float));
    g->post_quant.bias = sp_arena_take(a, c->z_channels, sizeof(float));
    g->quant.bias = sp_arena_take(a, c->code_dim, sizeof(float));
    if (!c->l2_normalised) g->offsets = sp_arena_take(a, c->n_codes, sizeof(float));
    sp_vq_network_take(&g->decoder, a);
    sp_vq_network_take(&g->encoder, a);
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
    SP_TRY(sp_vq_network_load(loader, &g->decoder, err));
    if (g->encoder.n == 0) return SP_OK;
    SP_TRY(sp_vq_matrix_load(loader, "quant_conv", c->code_dim, c->z_channels, &g->quant, err));
    return sp_vq_network_load(loader, &g->encoder, err);
}

static sp_status make_room(vqgan *g, sp_error *err)
{
    const sp_codec_config *c = &g->config;
    size_t positions = c->rows * c->columns, floats = positions * c->code_dim;
    size_t widest = c->code_dim > c->z_channels ? c->code_dim : c->z_channels;
    size_t scratch = sp_vq_matrix_scratch(&g->run, widest);
    if (g->encoder.n && floats < SCORE_ROWS * c->n_codes) floats = SCORE_ROWS * c->n_codes;
    SP_TRY(sp_vq_network_fit(&g->decoder, &g->run, &floats, &scratch, err));
    SP_TRY(sp_vq_network_fit(&g->encoder, &g->run, &floats, &scratch, err));
    return sp_vq_run_open(&g->run, &g->activations, floats, scratch, err);
}

static void close(void *state)
{
    vqgan *g = state;
    sp_vq_network_free(&g->decoder);
    sp_vq_network_free(&g->encoder);
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
    SP_TRY(sp_vq_check(config, err));
    if (config->n_codes < 1 || config->n_codes > 1 << 22)
        return SP_FAIL(err, SP_EFORMAT, "vq: n_codes is %zu: expected 1 to %d", config->n_codes, 1 << 22);
    vqgan *g = sp_alloc(1, sizeof *g);
    if (!g) return SP_FAIL(err, SP_ENOMEM, "vq: no memory");
    g->config = *config;
    g->run = (sp_vq_run){.ops = ops, .pool = pool, .groups = config->groups, .eps = config->group_norm_eps};
    SP_GO(sp_vq_network_plan(&g->decoder, config, SP_VQ_DECODER, err));
    if (sp_tensors_find(tensors, "encoder.conv_in.weight"))
        SP_GO(sp_vq_network_plan(&g->encoder, config, SP_VQ_ENCODER, err));
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
    sp_vq_network_run(&g->decoder, &g->run);
    sp_vq_network_output(&g->decoder, &g->run, pixels);
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

static sp_status encode(void *state, const float *pixels, int32_t *tokens, sp_error *err)
{
    vqgan *g = state;
    SP_TRY(sp_vq_network_read(&g->encoder, &g->run, pixels, err));
    size_t positions = g->config.rows * g->config.columns;
    sp_vq_matrix_run(&g->run, &g->quant, g->run.buffer[0], positions, g->run.buffer[1], SP_GEMM_SET);
    return nearest(g, g->run.buffer[1], tokens, err);
}

static sp_status features(void *state, const float *pixels, float *out, sp_error *err)
{
    vqgan *g = state;
    SP_TRY(sp_vq_network_read(&g->encoder, &g->run, pixels, err));
    sp_vq_network_average(&g->encoder, &g->run, out);
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
