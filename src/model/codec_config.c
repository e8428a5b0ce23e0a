#include "model/codec_config.h"

#include <stdio.h>
#include <string.h>

static const char *const attentions[] = {"middle", "lowest", "encoder", NULL};
static const char *const name_styles[] = {"order", "levels", NULL};

enum { PATH = 64 };

/* The path of a key in the codec's section. */
static const char *at(const sp_model_config *c, const char *key, char path[PATH])
{
    snprintf(path, PATH, "%s.%s", c->latent_dim ? "kl" : "vq", key);
    return path;
}

static sp_status levels(const json_t *root, const char *file, sp_model_config *c, sp_error *err)
{
    sp_codec_config *v = &c->codec;
    char path[PATH];
    v->n_levels = json_array_size(sp_json_at(root, at(c, "channel_mult", path)));
    if (v->n_levels < 1 || v->n_levels > SP_VQ_MAX_LEVELS)
        return SP_FAIL(err, SP_EFORMAT, "%s: %s has %zu entries: expected a list of 1 to %d", file, path, v->n_levels,
                       SP_VQ_MAX_LEVELS);
    for (size_t i = 0; i < v->n_levels; i++) {
        char key[48];
        snprintf(key, sizeof key, "channel_mult.%zu", i);
        SP_TRY(sp_json_size(root, file, at(c, key, path), 1, 64, &v->channel_mult[i], err));
    }
    return SP_OK;
}

static sp_status codebook(const json_t *root, const char *file, sp_model_config *c, sp_error *err)
{
    sp_codec_config *v = &c->codec;
    SP_TRY(sp_json_size(root, file, "vq.codebook.0", 2, 1 << 22, &v->n_codes, err));
    SP_TRY(sp_json_size(root, file, "vq.codebook.1", 1, 4096, &v->code_dim, err));
    SP_TRY(sp_json_bool_or(root, file, "vq.l2_normalised", false, &v->l2_normalised, err));
    if (v->n_codes == c->n_codes) return SP_OK;
    return SP_FAIL(err, SP_EFORMAT, "%s: vq.codebook has %zu codes and codes.count is %zu: expected the same", file,
                   v->n_codes, c->n_codes);
}

static sp_status picture(const json_t *root, const char *file, sp_model_config *c, sp_error *err)
{
    size_t factor = (size_t)1 << (c->codec.n_levels - 1), width, height;
    char path[PATH];
    SP_TRY(sp_json_size_or(root, file, at(c, "image_size.0", path), 1, 16384, c->rows * factor, &height, err));
    SP_TRY(sp_json_size_or(root, file, at(c, "image_size.1", path), 1, 16384, c->columns * factor, &width, err));
    if (height == c->rows * factor && width == c->columns * factor) return SP_OK;
    return SP_FAIL(err, SP_EFORMAT, "%s: %s is %zu x %zu: a grid of %zu x %zu with %zu levels gives %zu x %zu", file,
                   at(c, "image_size", path), height, width, c->rows, c->columns, c->codec.n_levels, c->rows * factor,
                   c->columns * factor);
}

sp_status sp_codec_config_read(const json_t *root, const char *file, sp_model_config *c, sp_error *err)
{
    sp_codec_config *v = &c->codec;
    char path[PATH];
    int choice;
    double value;
    v->rows = c->rows;
    v->columns = c->columns;
    if (c->latent_dim && !sp_json_at(root, "kl")) return SP_OK;
    snprintf(v->kind, sizeof v->kind, "%s", c->latent_dim ? "kl" : "vqgan");
    SP_TRY(sp_json_size(root, file, at(c, "channels", path), 1, 4096, &v->channels, err));
    SP_TRY(levels(root, file, c, err));
    SP_TRY(sp_json_size(root, file, at(c, "blocks_per_level", path), 1, 16, &v->blocks_per_level, err));
    SP_TRY(sp_json_choice(root, file, at(c, "attention", path), attentions, c->latent_dim ? 0 : -1, &choice, err));
    v->attention = (sp_vq_attention)choice;
    SP_TRY(sp_json_choice(root, file, at(c, "names", path), name_styles, 0, &choice, err));
    v->names = (sp_vq_names)choice;
    SP_TRY(sp_json_size(root, file, at(c, "z_channels", path), 1, 4096, &v->z_channels, err));
    SP_TRY(sp_json_size_or(root, file, at(c, "group_norm_groups", path), 1, 1024, 32, &v->groups, err));
    SP_TRY(sp_json_real_or(root, file, at(c, "group_norm_eps", path), 0, 1, 1e-6, &value, err));
    v->group_norm_eps = (float)value;
    if (!c->latent_dim) {
        SP_TRY(codebook(root, file, c, err));
        return picture(root, file, c, err);
    }
    v->code_dim = c->latent_dim;
    SP_TRY(sp_json_real_or(root, file, "latents.scale", 1e-6, 1e6, 1, &value, err));
    v->latent_scale = (float)value;
    return picture(root, file, c, err);
}
