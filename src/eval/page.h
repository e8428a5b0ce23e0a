#ifndef SP_PAGE_H
#define SP_PAGE_H
/* report.html: one file that needs no other and no network. Charts, the table of figures, histograms, and the same
 * pictures side by side with maps of the pass that settled each token. */
#include "eval/layout.h"
#include "eval/outcome.h"
#include "eval/text.h"

typedef struct sp_page {
    const sp_evaluation *evaluation;
    const sp_outcome *outcomes;
    sp_layout_job pictures; /* where they are; setting is not read */
    size_t rows, columns;   /* of the grid of tokens */
    const char *model;      /* its name */
    const char *conditions; /* a sentence: how it was run */
} sp_page;

SP_CHECK sp_status sp_page_write(const sp_page *page, const char *path, sp_error *err);

/* The part of page_pictures.c: a table of pictures and maps. */
SP_CHECK sp_status sp_page_pictures(const sp_page *page, sp_text *out, sp_error *err);

/* A number for each method in the order of the settings, so that all its settings have one colour. */
size_t sp_page_series(const sp_evaluation *evaluation, size_t setting);

#endif
