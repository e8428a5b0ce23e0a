/* The evaluator of ADM (guided-diffusion), which LlamaGen's class-conditional scores use: samples.npz with arr_0. */
#include "base/arena.h"
#include "eval/layout.h"
#include "eval/npz.h"

extern const sp_layout_ops sp_layout_adm;

static sp_status fit(const sp_layout_job *job, sp_error *err)
{
    (void)job;
    (void)err;
    return SP_OK;
}

static sp_status add_all(const sp_layout_job *job, sp_npz *npz, sp_error *err)
{
    char path[SP_PATH_LIMIT];
    for (size_t p = 0; p < job->n_prompts; p++)
        for (size_t i = 0; i < job->n_images; i++) {
            uint8_t *rgb;
            SP_TRY(sp_layout_picture(job, p, i, path, err));
            SP_TRY(sp_layout_read(path, job->width, job->height, &rgb, err));
            sp_status status = sp_npz_add(npz, rgb, err);
            sp_release(rgb);
            SP_TRY(status);
        }
    return SP_OK;
}

static sp_status write(const sp_layout_job *job, sp_error *err)
{
    char folder[SP_PATH_LIMIT], path[SP_PATH_LIMIT];
    sp_npz npz;
    SP_TRY(sp_layout_folder(job, folder, err));
    SP_TRY(sp_layout_path(path, err, "%s/samples.npz", folder));
    SP_TRY(sp_npz_open(&npz, path, job->n_prompts * job->n_images, job->height, job->width, err));
    sp_status status = add_all(job, &npz, err);
    if (status == SP_OK) return sp_npz_commit(&npz, err);
    sp_npz_discard(&npz);
    return status;
}

static sp_status check(const sp_layout_job *job, sp_error *err)
{
    char path[SP_PATH_LIMIT];
    sp_npz_shape shape;
    size_t expected = job->n_prompts * job->n_images;
    SP_TRY(sp_layout_path(path, err, "%s/layouts/adm/%s/samples.npz", job->folder, job->setting));
    SP_TRY(sp_npz_check(path, &shape, err));
    if (shape.count == expected && shape.height == job->height && shape.width == job->width) return SP_OK;
    return SP_FAIL(err, SP_EFORMAT, "%s: %zu pictures of %zu x %zu: expected %zu of %zu x %zu; write the layout again",
                   path, shape.count, shape.width, shape.height, expected, job->width, job->height);
}

const sp_layout_ops sp_layout_adm = {.name = "adm", .fit = fit, .write = write, .check = check};
