/* DPG-Bench: one PNG a prompt, named by the prompt's id, four pictures in a grid of two by two. Its evaluator only
 * prints "Failed" for files that are missing or of another shape, and scores the rest. */
#include <string.h>

#include "base/arena.h"
#include "eval/layout.h"
#include "specular.h"

extern const sp_layout_ops sp_layout_dpg_bench;

enum { SIDE = 2 };

static sp_status fit(const sp_layout_job *job, sp_error *err)
{
    if (job->n_images == SIDE * SIDE) return SP_OK;
    return SP_FAIL(err, SP_EARG, "--layout dpg-bench: %zu pictures a prompt: expected four; use --seeds 4",
                   job->n_images);
}

static sp_status fill(const sp_layout_job *job, size_t prompt, uint8_t *grid, sp_error *err)
{
    char path[SP_PATH_LIMIT];
    size_t row = job->width * 3;
    for (size_t i = 0; i < SIDE * SIDE; i++) {
        uint8_t *rgb, *corner = grid + (i / SIDE * job->height * SIDE + i % SIDE) * row;
        SP_TRY(sp_layout_picture(job, prompt, i, path, err));
        SP_TRY(sp_layout_read(path, job->width, job->height, &rgb, err));
        for (size_t y = 0; y < job->height; y++) memcpy(corner + y * SIDE * row, rgb + y * row, row);
        sp_release(rgb);
    }
    return SP_OK;
}

static sp_status write(const sp_layout_job *job, sp_error *err)
{
    char folder[SP_PATH_LIMIT], path[SP_PATH_LIMIT];
    SP_TRY(sp_layout_folder(job, folder, err));
    uint8_t *grid = sp_alloc(SIDE * job->width * 3, SIDE * job->height);
    if (!grid) return SP_FAIL(err, SP_ENOMEM, "no memory for four pictures; free some");
    sp_status status = SP_OK;
    for (size_t p = 0; p < job->n_prompts && status == SP_OK; p++) {
        status = fill(job, p, grid, err);
        if (status == SP_OK) status = sp_layout_path(path, err, "%s/%s.png", folder, job->ids[p]);
        if (status == SP_OK)
            status = sp_picture_write(path, grid, SIDE * job->width, SIDE * job->height, NULL, 0, err);
    }
    sp_release(grid);
    return status;
}

static sp_status check(const sp_layout_job *job, sp_error *err)
{
    char path[SP_PATH_LIMIT];
    for (size_t p = 0; p < job->n_prompts; p++) {
        SP_TRY(sp_layout_path(path, err, "%s/layouts/dpg-bench/%s/%s.png", job->folder, job->setting, job->ids[p]));
        SP_TRY(sp_layout_opens(path, SIDE * job->width, SIDE * job->height, err));
    }
    return SP_OK;
}

const sp_layout_ops sp_layout_dpg_bench = {.name = "dpg-bench", .fit = fit, .write = write, .check = check};
