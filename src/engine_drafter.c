/* The drafting model of an engine: for codes a layer over the transformer's features, for continuous tokens a smaller
 * model of the same kind. It is read when it is first needed. */
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/arena.h"
#include "engine.h"

enum { PATH = 4096 };

/* A second model drafts the same tokens under the same prompts and noise. */
static sp_status check_draft(const sp_model_config *target, const sp_model_config *draft, const char *folder,
                             sp_error *err)
{
    if (draft->masked != target->masked)
        return SP_FAIL(err, SP_EFORMAT, "%s: draws %s, and the model does not: use a drafter of the same kind", folder,
                       draft->masked ? "in any order" : "from left to right");
    if (draft->latent_dim != target->latent_dim || draft->rows != target->rows || draft->columns != target->columns)
        return SP_FAIL(err, SP_EFORMAT, "%s: %zu x %zu latents of %zu numbers, and the model has %zu x %zu of %zu: use "
                       "a drafter of the same latents", folder, draft->rows, draft->columns, draft->latent_dim,
                       target->rows, target->columns, target->latent_dim);
    if (draft->diffusion.sampler != target->diffusion.sampler ||
        memcmp(&draft->diffusion.chain, &target->diffusion.chain, sizeof draft->diffusion.chain) != 0)
        return SP_FAIL(err, SP_EFORMAT, "%s: chains of %zu steps by '%s', and the model's are of %zu by '%s' or other "
                       "times: use a drafter with the same head.steps, sampler, stop and terminal_noise", folder,
                       draft->diffusion.chain.steps, draft->diffusion.sampler->name, target->diffusion.chain.steps,
                       target->diffusion.sampler->name);
    if (draft->from_text == target->from_text && draft->prefix_vocab == target->prefix_vocab &&
        draft->prefix_length == target->prefix_length)
        return SP_OK;
    return SP_FAIL(err, SP_EFORMAT, "%s: reads other prompts than the model: use a drafter of the same prompts",
                   folder);
}

/* Both or neither. */
static sp_status open_draft(const sp_engine *e, sp_latent **out, sp_tensors **tensors, sp_error *err)
{
    sp_model_config config;
    const char *folder = e->drafter_folder;
    SP_TRY(sp_model_config_load(folder, &config, err));
    SP_TRY(check_draft(&e->config, &config, folder, err));
    SP_TRY(sp_tensors_open(tensors, folder, err));
    sp_status status = sp_engine_open_latent(e, out, &config, *tensors, err);
    if (status == SP_OK) {
        sp_tensors_drop(*tensors);
        return SP_OK;
    }
    sp_tensors_close(*tensors);
    *tensors = NULL;
    return status;
}

static sp_status load(sp_engine *e, sp_error *err)
{
    sp_eagle *drafter = NULL;
    sp_latent *draft = NULL;
    sp_status status = SP_OK;
    if (e->latent && !atomic_load(&e->draft)) {
        status = open_draft(e, &draft, &e->draft_tensors, err);
        atomic_store(&e->draft, draft);
    } else if (!e->latent && !atomic_load(&e->drafter)) {
        status = sp_eagle_open(&drafter, e->drafter_folder, e->transformer, e->fingerprint, err);
        atomic_store(&e->drafter, drafter);
    }
    return status;
}

sp_status sp_engine_load_drafter(sp_engine *e, sp_error *err)
{
    if (!e->drafter_folder)
        return SP_FAIL(err, SP_EARG, "%.300s has no drafting model beside it; give its folder with --drafter",
                       e->path);
    pthread_mutex_lock(&e->drafter_lock);
    sp_status status = load(e, err);
    pthread_mutex_unlock(&e->drafter_lock);
    return status;
}

sp_status sp_engine_find_drafter(sp_engine *e, const char *folder, sp_error *err)
{
    char path[PATH], beside[PATH];
    const char *name = sp_engine_continuous(e) ? "draft" : "drafter";
    e->drafter_given = folder != NULL;
    if (!folder) {
        if ((size_t)snprintf(path, sizeof path, "%s/%s/config.json", e->path, name) >= sizeof path)
            return SP_FAIL(err, SP_EARG, "model: the folder's name is longer than %d bytes", PATH);
        if (access(path, F_OK) != 0) return SP_OK;
        snprintf(beside, sizeof beside, "%.*s", (int)(strlen(path) - strlen("/config.json")), path);
        folder = beside;
    }
    e->drafter_folder = sp_alloc(strlen(folder) + 1, 1);
    if (!e->drafter_folder) return SP_FAIL(err, SP_ENOMEM, "drafter: no memory");
    memcpy(e->drafter_folder, folder, strlen(folder));
    return e->drafter_given ? sp_engine_load_drafter(e, err) : SP_OK;
}

size_t sp_engine_drafter_bytes(const sp_engine *e)
{
    const sp_eagle *drafter = atomic_load(&e->drafter);
    const sp_latent *draft = atomic_load(&e->draft);
    if (draft) return sp_latent_bytes(draft) + sp_latent_device_bytes(draft);
    return drafter ? sp_eagle_bytes(drafter) + sp_eagle_device_bytes(drafter) : 0;
}

size_t sp_engine_drafter_parameters(const sp_engine *e)
{
    const sp_eagle *drafter = atomic_load(&e->drafter);
    const sp_latent *draft = atomic_load(&e->draft);
    return draft ? sp_latent_parameters(draft) : drafter ? sp_eagle_parameters(drafter) : 0;
}

void sp_engine_close_drafter(sp_engine *e)
{
    sp_eagle_close(atomic_load(&e->drafter));
    sp_latent_close(atomic_load(&e->draft));
    sp_tensors_close(e->draft_tensors);
    sp_release(e->drafter_folder);
    pthread_mutex_destroy(&e->drafter_lock);
}
