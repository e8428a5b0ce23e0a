/* The KL autoencoder of latent diffusion (Rombach et al., arXiv 2112.10752), as MAR and the continuous sample model use
 * it: the networks of a VQGAN with a Gaussian between them instead of a codebook. A token is latent_scale times the
 * mean; the variance is for training. docs/models/kl.md has the names of the tensors. */
#include <math.h>

#include "vq/network.h"

extern const sp_codec_ops sp_codec_kl;

typedef struct kl {
    sp_codec_config config;
    sp_vq_network decoder, encoder; /* the encoder has no layers when the checkpoint has none */
    sp_vq_map quant, post_quant;
    size_t weight_bytes;
    sp_arena parameters, activations;
    sp_vq_run run;
} kl;

static void take_parameters(kl *g)
{
    const sp_codec_config *c = &g->config;
    g->post_quant.bias = sp_arena_take(&g->parameters, c->z_channels, sizeof(float));
    g->quant.bias = sp_arena_take(&g->parameters, 2 * c->code_dim, sizeof(float));
    sp_vq_network_take(&g->decoder, &g->parameters);
    sp_vq_network_take(&g->encoder, &g->parameters);
}

static sp_status load(kl *g, sp_vq_loader *loader, sp_error *err)
{
    const sp_codec_config *c = &g->config;
    take_parameters(g);
    SP_TRY(sp_arena_commit(&g->parameters, "codec norms", err));
    take_parameters(g);
    SP_TRY(sp_vq_matrix_load(loader, "post_quant_conv", c->z_channels, c->code_dim, &g->post_quant, err));
    SP_TRY(sp_vq_network_load(loader, &g->decoder, err));
    if (g->encoder.n == 0) return SP_OK;
    SP_TRY(sp_vq_matrix_load(loader, "quant_conv", 2 * c->code_dim, 2 * c->z_channels, &g->quant, err));
    return sp_vq_network_load(loader, &g->encoder, err);
}

static sp_status make_room(kl *g, sp_error *err)
{
    const sp_codec_config *c = &g->config;
    size_t widest = 2 * (c->code_dim > c->z_channels ? c->code_dim : c->z_channels);
    size_t floats = c->rows * c->columns * widest, scratch = sp_vq_matrix_scratch(&g->run, widest);
    SP_TRY(sp_vq_network_fit(&g->decoder, &g->run, &floats, &scratch, err));
    SP_TRY(sp_vq_network_fit(&g->encoder, &g->run, &floats, &scratch, err));
    return sp_vq_run_open(&g->run, &g->activations, floats, scratch, err);
}

static void close(void *state)
{
    kl *g = state;
    sp_vq_network_free(&g->decoder);
    sp_vq_network_free(&g->encoder);
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
    if (!(config->latent_scale > 0 && isfinite(config->latent_scale)))
        return SP_FAIL(err, SP_EFORMAT, "kl: the scale of latents is %g: expected a number above 0",
                       (double)config->latent_scale);
    kl *g = sp_alloc(1, sizeof *g);
    if (!g) return SP_FAIL(err, SP_ENOMEM, "kl: no memory");
    g->config = *config;
    g->run = (sp_vq_run){.ops = ops, .pool = pool, .groups = config->groups, .eps = config->group_norm_eps};
    sp_codec_config moments = *config; /* the encoder gives a mean and a log-variance */
    moments.z_channels *= 2;
    SP_GO(sp_vq_network_plan(&g->decoder, config, SP_VQ_DECODER, err));
    if (sp_tensors_find(tensors, "encoder.conv_in.weight"))
        SP_GO(sp_vq_network_plan(&g->encoder, &moments, SP_VQ_ENCODER, err));
    SP_GO(load(g, &loader, err));
    SP_GO(make_room(g, err));
    g->weight_bytes = loader.bytes;
    *state = g;
    return SP_OK;
out:
    close(g);
    return status;
}

static sp_status decode_latents(void *state, const float *latents, float *pixels, sp_error *err)
{
    (void)err;
    kl *g = state;
    size_t positions = g->config.rows * g->config.columns, count = positions * g->config.code_dim;
    float *z = g->run.buffer[1];
    for (size_t i = 0; i < count; i++) z[i] = latents[i] / g->config.latent_scale;
    sp_vq_matrix_run(&g->run, &g->post_quant, z, positions, g->run.buffer[0], SP_GEMM_SET);
    sp_vq_network_run(&g->decoder, &g->run);
    sp_vq_network_output(&g->decoder, &g->run, pixels);
    return SP_OK;
}

static sp_status encode_latents(void *state, const float *pixels, float *latents, sp_error *err)
{
    kl *g = state;
    size_t positions = g->config.rows * g->config.columns, width = g->config.code_dim;
    SP_TRY(sp_vq_network_read(&g->encoder, &g->run, pixels, err));
    const float *moments = g->run.buffer[1];
    sp_vq_matrix_run(&g->run, &g->quant, g->run.buffer[0], positions, g->run.buffer[1], SP_GEMM_SET);
    for (size_t i = 0; i < positions * width; i++)
        latents[i] = g->config.latent_scale * moments[i / width * 2 * width + i % width];
    return SP_OK;
}

static sp_status features(void *state, const float *pixels, float *out, sp_error *err)
{
    kl *g = state;
    SP_TRY(sp_vq_network_read(&g->encoder, &g->run, pixels, err));
    sp_vq_network_average(&g->encoder, &g->run, out);
    return SP_OK;
}

static size_t bytes(const void *state)
{
    const kl *g = state;
    return g->weight_bytes + g->parameters.bytes + g->activations.bytes;
}

const sp_codec_ops sp_codec_kl = {
    .name = "kl", .continuous = true, .open = open, .decode_latents = decode_latents,
    .encode_latents = encode_latents, .features = features, .bytes = bytes, .close = close,
};
