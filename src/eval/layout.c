#include "eval/layout.h"

#include <dirent.h>
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/arena.h"
#include "base/file.h"
#include "io/image.h"

#define SP_LAYOUT(name) extern const sp_layout_ops sp_layout_##name;
#include "eval/layouts.def"
#undef SP_LAYOUT

static const sp_layout_ops *const layouts[] = {
#define SP_LAYOUT(name) &sp_layout_##name,
#include "eval/layouts.def"
#undef SP_LAYOUT
    NULL};

const sp_layout_ops *const *sp_layout_all(void) { return layouts; }

const sp_layout_ops *sp_layout_find(const char *name)
{
    for (const sp_layout_ops *const *layout = layouts; *layout; layout++)
        if (strcmp((*layout)->name, name) == 0) return *layout;
    return NULL;
}

sp_status sp_layout_path(char *path, sp_error *err, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    int length = vsnprintf(path, SP_PATH_LIMIT, format, arguments);
    va_end(arguments);
    if (length >= 0 && length < SP_PATH_LIMIT) return SP_OK;
    return SP_FAIL(err, SP_EOUTPUT, "%.80s...: the path is too long; use a shorter --output-dir", path);
}

sp_status sp_layout_picture(const sp_layout_job *job, size_t prompt, size_t image, char *path, sp_error *err)
{
    if (job->n_images == 1)
        return sp_layout_path(path, err, "%s/%s/%s.png", job->folder, job->setting, job->ids[prompt]);
    return sp_layout_path(path, err, "%s/%s/%s-%zu.png", job->folder, job->setting, job->ids[prompt], image);
}

sp_status sp_layout_folder(const sp_layout_job *job, char *path, sp_error *err)
{
    SP_TRY(sp_layout_path(path, err, "%s/layouts", job->folder));
    SP_TRY(sp_folder_make(path, err));
    SP_TRY(sp_layout_path(path, err, "%s/layouts/%s", job->folder, job->layout));
    SP_TRY(sp_folder_make(path, err));
    SP_TRY(sp_layout_path(path, err, "%s/layouts/%s/%s", job->folder, job->layout, job->setting));
    return sp_folder_make(path, err);
}

sp_status sp_layout_copy(const char *from, const char *to, sp_error *err)
{
    sp_bytes bytes;
    SP_TRY(sp_file_read(from, (size_t)1 << 31, &bytes, err));
    sp_status status = sp_file_write(to, bytes.data, bytes.size, err);
    sp_bytes_free(&bytes);
    return status;
}

sp_status sp_layout_read(const char *path, size_t width, size_t height, uint8_t **rgb, sp_error *err)
{
    sp_image image;
    *rgb = NULL;
    SP_TRY(sp_png_read(path, 1, &image, err));
    if (image.width != width || image.height != height) {
        sp_status status = SP_FAIL(err, SP_EFORMAT, "%s: is %zu x %zu: expected %zu x %zu, the size of the model's "
                                   "pictures; scale it", path, image.width, image.height, width, height);
        sp_image_free(&image);
        return status;
    }
    *rgb = image.rgb;
    image.rgb = NULL;
    sp_image_free(&image);
    return SP_OK;
}

sp_status sp_layout_opens(const char *path, size_t width, size_t height, sp_error *err)
{
    uint8_t *rgb;
    SP_TRY(sp_layout_read(path, width, height, &rgb, err));
    sp_release(rgb);
    return SP_OK;
}

sp_status sp_layout_each(const char *folder, sp_layout_visit *visit, void *user, sp_error *err)
{
    DIR *list = opendir(folder);
    if (!list)
        return SP_FAIL_ERRNO(err, SP_EFORMAT, errno, "%s: %s: expected a folder that can be read", folder,
                             strerror(errno));
    sp_status status = SP_OK;
    for (struct dirent *entry; status == SP_OK && (entry = readdir(list)) != NULL;)
        if (entry->d_name[0] != '.') status = visit(user, entry->d_name, err);
    closedir(list);
    return status;
}
