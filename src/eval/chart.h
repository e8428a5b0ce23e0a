#ifndef SP_CHART_H
#define SP_CHART_H
/* Charts as inline SVG, with a title and a description for those who do not see them. Colours are the classes s0 to s7
 * and the lines' class `axis` of the page's style sheet; each series has its own mark too. */
#include "eval/bootstrap.h"
#include "eval/text.h"

enum { SP_CHART_SERIES = 8 };

typedef struct sp_chart_point {
    sp_interval x, y;
    const char *label;
    size_t series; /* its colour and mark, modulo SP_CHART_SERIES */
    bool minor;    /* a small mark, without a label and without bars of error */
} sp_chart_point;

typedef struct sp_chart_axes {
    const char *title, *x, *y;
    bool joined; /* a line joins the points of a series that follow each other; only the last of them has its label */
} sp_chart_axes;

/* Points whose x or y is not known are left out. */
void sp_chart_points(sp_text *out, const sp_chart_axes *axes, const sp_chart_point *points, size_t n_points);

/* Bars for shares [n] of 0 .. n - 1; the first is left out when it is 0. */
void sp_chart_bars(sp_text *out, const char *title, const sp_interval *shares, size_t n, size_t series);

#endif
