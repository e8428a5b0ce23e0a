/* pytorch-fid and clean-fid: the folder of the pictures as it is. The first reads files of these endings in the folder
 * itself; the second also those of every folder below it. Both take whatever they find: a picture too few or too many
 * changes the score and is not said. */
#include <stdbool.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>

#include "eval/layout.h"

extern const sp_layout_ops sp_layout_pytorch_fid, sp_layout_clean_fid;

typedef struct tally {
    const sp_layout_job *job;
    const char *folder;
    size_t count;
    bool below; /* folders below count */
} tally;

static sp_status fit(const sp_layout_job *job, sp_error *err)
{
    (void)job;
    (void)err;
    return SP_OK;
}

static bool is_picture(const char *name)
{
    static const char *const endings[] = {"bmp", "jpg", "jpeg", "pgm", "png", "ppm", "tif", "tiff", "webp", "npy"};
    const char *dot = strrchr(name, '.');
    for (size_t i = 0; dot && i < sizeof endings / sizeof *endings; i++)
        if (strcasecmp(dot + 1, endings[i]) == 0) return true;
    return false;
}

static sp_status visit(void *user, const char *name, sp_error *err)
{
    tally *found = user;
    char path[SP_PATH_LIMIT];
    struct stat info;
    SP_TRY(sp_layout_path(path, err, "%s/%s", found->folder, name));
    bool folder = stat(path, &info) == 0 && S_ISDIR(info.st_mode);
    if (folder && found->below)
        return SP_FAIL(err, SP_EFORMAT, "%s: a folder, whose pictures would be counted: expected pictures only", path);
    if (folder || !is_picture(name)) return SP_OK;
    found->count++;
    return sp_layout_opens(path, found->job->width, found->job->height, err);
}

static sp_status check_folder(const sp_layout_job *job, bool below, sp_error *err)
{
    char folder[SP_PATH_LIMIT], path[SP_PATH_LIMIT];
    SP_TRY(sp_layout_path(folder, err, "%s/%s", job->folder, job->setting));
    tally found = {job, folder, 0, below};
    SP_TRY(sp_layout_each(folder, visit, &found, err));
    for (size_t p = 0; p < job->n_prompts; p++)
        for (size_t i = 0; i < job->n_images; i++) {
            SP_TRY(sp_layout_picture(job, p, i, path, err));
            SP_TRY(sp_layout_opens(path, job->width, job->height, err));
        }
    size_t expected = job->n_prompts * job->n_images;
    if (found.count == expected) return SP_OK;
    return SP_FAIL(err, SP_EFORMAT, "%s: holds %zu pictures: expected %zu; take away what is not of this run", folder,
                   found.count, expected);
}

static sp_status check_flat(const sp_layout_job *job, sp_error *err) { return check_folder(job, false, err); }
static sp_status check_below(const sp_layout_job *job, sp_error *err) { return check_folder(job, true, err); }

const sp_layout_ops sp_layout_pytorch_fid = {.name = "pytorch-fid", .fit = fit, .write = fit, .check = check_flat};
const sp_layout_ops sp_layout_clean_fid = {.name = "clean-fid", .fit = fit, .write = fit, .check = check_below};
