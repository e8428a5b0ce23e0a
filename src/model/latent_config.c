#include "model/latent_config.h"

static const char *const mlps[] = {"swiglu", "silu", NULL};
static const char *const orders[] = {"scale_shift_gate", "shift_scale_gate", NULL};
static const char *const projections[] = {"none", "sphere", NULL};
static const char *const guidances[] = {"constant", "linear", NULL};

static sp_status latents(const json_t *root, const char *file, sp_model_config *c, sp_error *err)
{
    SP_TRY(sp_json_size(root, file, "latents.dim", 1, 1024, &c->latent_dim, err));
    SP_TRY(sp_json_size(root, file, "latents.grid.0", 1, 1024, &c->rows, err));
    return sp_json_size(root, file, "latents.grid.1", 1, 1024, &c->columns, err);
}

static sp_status chain(const json_t *root, const char *file, sp_head_config *h, sp_error *err)
{
    int choice;
    double value;
    SP_TRY(sp_json_choice(root, file, "head.sampler", sp_sampler_names(), -1, &choice, err));
    h->sampler = sp_sampler_find(sp_sampler_names()[choice]);
    SP_TRY(sp_json_size(root, file, "head.steps", 1, SP_MAX_CHAIN, &h->chain.steps, err));
    SP_TRY(sp_json_real_or(root, file, "head.stop", 0.5, 0.999, 0.96, &value, err));
    h->chain.stop = (float)value;
    SP_TRY(sp_json_real_or(root, file, "head.terminal_noise", 0, 1, 0, &value, err));
    h->chain.terminal_noise = (float)value;
    return SP_OK;
}

static sp_status head(const json_t *root, const char *file, sp_model_config *c, sp_error *err)
{
    sp_head_config *h = &c->diffusion;
    int choice;
    h->dim = c->latent_dim;
    h->condition = c->dim;
    SP_TRY(sp_json_size(root, file, "head.width", 1, 1 << 16, &h->width, err));
    SP_TRY(sp_json_size(root, file, "head.blocks", 1, 1024, &h->blocks, err));
    SP_TRY(sp_json_size_or(root, file, "head.groups", 1, h->blocks, h->blocks, &h->groups, err));
    SP_TRY(sp_json_size_or(root, file, "head.time_width", 2, 1 << 16, 256, &h->time_width, err));
    SP_TRY(sp_json_choice(root, file, "head.mlp", mlps, 0, &choice, err));
    h->gated = choice == 0;
    SP_TRY(sp_json_size_or(root, file, "head.hidden", 1, 1 << 18, h->gated ? h->width * 3 / 2 : h->width, &h->hidden,
                           err));
    SP_TRY(sp_json_choice(root, file, "head.modulation", orders, 0, &choice, err));
    h->shift_first = choice == 1;
    SP_TRY(sp_json_choice(root, file, "head.project", projections, 0, &choice, err));
    c->project_sphere = choice == 1;
    if (h->blocks % h->groups)
        return SP_FAIL(err, SP_EFORMAT, "%s: head.blocks %zu is not a multiple of groups %zu", file, h->blocks,
                       h->groups);
    if (h->time_width % 2)
        return SP_FAIL(err, SP_EFORMAT, "%s: head.time_width %zu is odd: expected cosines and as many sines", file,
                       h->time_width);
    return chain(root, file, h, err);
}

sp_status sp_latent_config(const json_t *root, const char *file, sp_model_config *c, sp_error *err)
{
    int choice;
    SP_TRY(latents(root, file, c, err));
    SP_TRY(head(root, file, c, err));
    SP_TRY(sp_json_bool_or(root, file, "transformer.input_norm", false, &c->input_norm, err));
    SP_TRY(sp_json_bool_or(root, file, "transformer.feature_positions", false, &c->feature_positions, err));
    SP_TRY(sp_json_choice(root, file, "sampling.guidance", guidances, 0, &choice, err));
    c->guidance = (sp_guidance)choice;
    return SP_OK;
}
