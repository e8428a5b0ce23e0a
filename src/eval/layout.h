#ifndef SP_LAYOUT_H
#define SP_LAYOUT_H
/* Folders as evaluators of pictures read them, made from the pictures of one setting; layouts.def lists them.
 *
 *     const sp_layout_ops *layout = sp_layout_find("geneval");
 *     SP_TRY(layout->fit(&job, err));      // SP_EARG when these prompts cannot have this layout
 *     SP_TRY(layout->write(&job, err));
 *     SP_TRY(layout->check(&job, err));    // SP_EFORMAT names the first file that the evaluator would miss or skip
 *
 * Pictures are FOLDER/SETTING/ID.png, or ID-IMAGE.png when there are several a prompt; what a layout adds goes to
 * FOLDER/layouts/LAYOUT/SETTING. */
#include <stdint.h>

#include "base/error.h"

enum { SP_PATH_LIMIT = 4096 };

typedef struct sp_layout_job {
    const char *folder, *setting;
    const char *layout;          /* its name */
    size_t n_prompts, n_images;  /* n_images a prompt */
    size_t width, height;        /* of a picture */
    const char *const *ids;      /* [n_prompts] */
    const char *const *prompts;  /* [n_prompts] */
    const char *const *metadata; /* [n_prompts] lines of --metadata, or NULL */
} sp_layout_job;

/* One line of layouts.def. */
typedef struct sp_layout_ops {
    const char *name;
    sp_status (*fit)(const sp_layout_job *job, sp_error *err);
    sp_status (*write)(const sp_layout_job *job, sp_error *err);
    sp_status (*check)(const sp_layout_job *job, sp_error *err);
} sp_layout_ops;

const sp_layout_ops *sp_layout_find(const char *name);  /* or NULL */
const sp_layout_ops *const *sp_layout_all(void);        /* NULL at the end */

/* For layouts: path [SP_PATH_LIMIT] of a picture; a path from parts. SP_EOUTPUT when it is too long. */
SP_CHECK sp_status sp_layout_picture(const sp_layout_job *job, size_t prompt, size_t image, char *path, sp_error *err);
SP_CHECK sp_status sp_layout_path(char *path, sp_error *err, const char *format, ...) SP_PRINTF(3, 4);

/* Makes FOLDER/layouts/LAYOUT/SETTING and the folders above it; path [SP_PATH_LIMIT] is it. */
SP_CHECK sp_status sp_layout_folder(const sp_layout_job *job, char *path, sp_error *err);

/* Copies a file as it is. */
SP_CHECK sp_status sp_layout_copy(const char *from, const char *to, sp_error *err);

/* The pixels of a picture of the job, which must have its size; *rgb by sp_release. */
SP_CHECK sp_status sp_layout_read(const char *path, size_t width, size_t height, uint8_t **rgb, sp_error *err);

/* That a PNG opens, all of it, and has this size. */
SP_CHECK sp_status sp_layout_opens(const char *path, size_t width, size_t height, sp_error *err);

/* Entries of a folder, without those that begin with a dot: visit is called with each name. */
typedef sp_status sp_layout_visit(void *user, const char *name, sp_error *err);
SP_CHECK sp_status sp_layout_each(const char *folder, sp_layout_visit *visit, void *user, sp_error *err);

#endif
