#ifndef SP_PROGRESS_H
#define SP_PROGRESS_H
/* Progress on standard error: a bar on a terminal, lines, JSON lines, or nothing.
 *
 *     sp_progress_view view;
 *     sp_progress_open(&view, "auto", n_pictures, quiet);
 *     request.progress = sp_progress_step;                 // also stops the picture after SIGINT or SIGTERM
 *     request.user = &view;
 *     for (...) { sp_generate(...); sp_progress_done(&view, "red-heart.png"); }
 *     sp_progress_close(&view);                            // takes the bar away */
#include <stdbool.h>
#include <time.h>

#include "specular.h"

typedef enum { SP_PROGRESS_NONE, SP_PROGRESS_BAR, SP_PROGRESS_PLAIN, SP_PROGRESS_JSON } sp_progress_mode;

typedef struct sp_progress_view {
    sp_progress_mode mode;
    bool colour, drawn;
    size_t pictures, done;
    double started, shown; /* seconds */
} sp_progress_view;

/* name: auto, plain, json or none. quiet leaves only json. */
void sp_progress_open(sp_progress_view *view, const char *name, size_t pictures, bool quiet);

/* A sp_progress_call; user is the view. */
bool sp_progress_step(void *user, const sp_progress *progress);

/* A picture is done; label names it. */
void sp_progress_done(sp_progress_view *view, const char *label);
void sp_progress_close(sp_progress_view *view);

#endif
