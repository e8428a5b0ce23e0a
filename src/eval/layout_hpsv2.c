/* HPSv2: STYLE/00000.jpg and so on, one picture a prompt, styles anime, concept-art, paintings and photo. Its evaluator
 * asks for these names; where one is missing it takes another picture without a word. Ids are STYLE-00000. */
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "base/arena.h"
#include "base/file.h"
#include "eval/layout.h"
#include "specular.h"

extern const sp_layout_ops sp_layout_hpsv2;

enum { DIGITS = 5 };

/* The style of an id and its number. */
static bool split(const char *id, const char **style, const char **number)
{
    static const char *const styles[] = {"anime", "concept-art", "paintings", "photo"};
    for (size_t i = 0; i < sizeof styles / sizeof *styles; i++) {
        size_t length = strlen(styles[i]);
        *style = styles[i];
        *number = id + length + 1;
        if (strncmp(id, styles[i], length) == 0 && id[length] == '-' && strlen(*number) == DIGITS &&
            strspn(*number, "0123456789") == DIGITS)
            return true;
    }
    return false;
}

static bool has_id(const sp_layout_job *job, const char *id)
{
    for (size_t p = 0; p < job->n_prompts; p++)
        if (strcmp(job->ids[p], id) == 0) return true;
    return false;
}

static sp_status fit(const sp_layout_job *job, sp_error *err)
{
    if (job->n_images != 1)
        return SP_FAIL(err, SP_EARG, "--layout hpsv2: %zu pictures a prompt: expected one; use --seeds 1",
                       job->n_images);
    for (size_t p = 0; p < job->n_prompts; p++) {
        const char *style, *number;
        char before[SP_PATH_LIMIT];
        if (!split(job->ids[p], &style, &number))
            return SP_FAIL(err, SP_EARG, "--layout hpsv2: id '%s': expected anime-, concept-art-, paintings- or photo- "
                           "and five digits", job->ids[p]);
        unsigned long value = strtoul(number, NULL, 10);
        if (value == 0) continue;
        SP_TRY(sp_layout_path(before, err, "%s-%05lu", style, value - 1));
        if (!has_id(job, before))
            return SP_FAIL(err, SP_EARG, "--layout hpsv2: id '%s' but no '%s': numbers of a style have no gaps",
                           job->ids[p], before);
    }
    return SP_OK;
}

static sp_status write(const sp_layout_job *job, sp_error *err)
{
    char folder[SP_PATH_LIMIT], path[SP_PATH_LIMIT], picture[SP_PATH_LIMIT];
    SP_TRY(sp_layout_folder(job, folder, err));
    for (size_t p = 0; p < job->n_prompts; p++) {
        const char *style, *number;
        uint8_t *rgb;
        split(job->ids[p], &style, &number);
        SP_TRY(sp_layout_path(path, err, "%s/%s", folder, style));
        SP_TRY(sp_folder_make(path, err));
        SP_TRY(sp_layout_path(path, err, "%s/%s/%s.jpg", folder, style, number));
        SP_TRY(sp_layout_picture(job, p, 0, picture, err));
        SP_TRY(sp_layout_read(picture, job->width, job->height, &rgb, err));
        sp_status status = sp_picture_write(path, rgb, job->width, job->height, NULL, 0, err);
        sp_release(rgb);
        SP_TRY(status);
    }
    return SP_OK;
}

/* Segments of a JPEG from its start to its picture, whose size it gives, and the end mark (ITU T.81, B.1.1.3). */
static bool read_jpeg(const sp_bytes *file, size_t *width, size_t *height)
{
    const unsigned char *data = file->data;
    if (file->size < 4 || data[0] != 0xFF || data[1] != 0xD8) return false;
    if (data[file->size - 2] != 0xFF || data[file->size - 1] != 0xD9) return false;
    for (size_t at = 2; at + 9 < file->size && data[at] == 0xFF;) {
        unsigned kind = data[at + 1];
        if (kind >= 0xC0 && kind <= 0xC2) {
            *height = (size_t)data[at + 5] << 8 | data[at + 6];
            *width = (size_t)data[at + 7] << 8 | data[at + 8];
            return true;
        }
        at += 2 + ((size_t)data[at + 2] << 8 | data[at + 3]);
    }
    return false;
}

static sp_status check(const sp_layout_job *job, sp_error *err)
{
    char path[SP_PATH_LIMIT];
    for (size_t p = 0; p < job->n_prompts; p++) {
        const char *style, *number;
        size_t width = 0, height = 0;
        sp_bytes bytes;
        split(job->ids[p], &style, &number);
        SP_TRY(sp_layout_path(path, err, "%s/layouts/hpsv2/%s/%s/%s.jpg", job->folder, job->setting, style, number));
        SP_TRY(sp_file_read(path, (size_t)1 << 31, &bytes, err));
        bool whole = read_jpeg(&bytes, &width, &height);
        sp_bytes_free(&bytes);
        if (!whole || width != job->width || height != job->height)
            return SP_FAIL(err, SP_EFORMAT, "%s: not a whole JPEG of %zu x %zu; write the layout again", path,
                           job->width, job->height);
    }
    return SP_OK;
}

const sp_layout_ops sp_layout_hpsv2 = {.name = "hpsv2", .fit = fit, .write = write, .check = check};
