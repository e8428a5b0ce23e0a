#include "eval/chart.h"

#include <math.h>
#include <string.h>

enum {
    WIDTH = 620, HEIGHT = 380, LEFT = 64, RIGHT = 20, TOP = 16, BOTTOM = 48, LABEL_HEIGHT = 14, LETTER = 7,
    MOST_LABELS = 256, BAR_WIDTH = 300, BAR_HEIGHT = 150, LEFT_OF_BARS = 44
};

typedef struct range {
    double low, high, step;
} range;

static void include(range *r, double value)
{
    if (!isfinite(value)) return;
    r->low = fmin(r->low, value);
    r->high = fmax(r->high, value);
}

static void include_interval(range *r, const sp_interval *v, bool minor)
{
    include(r, v->value);
    if (!v->bounded || minor) return;
    include(r, v->low);
    include(r, v->high);
}

/* Ends and steps of 1, 2 or 5 times a power of ten, about five of them. */
static range rounded(range r)
{
    double span = r.high - r.low;
    if (!(span > 1e-9)) span = r.high != 0 ? fabs(r.high) * 0.2 : 1;
    double middle = (r.low + r.high) / 2, power = pow(10, floor(log10(span / 5))), rest = span / 5 / power;
    double step = (rest > 5 ? 10 : rest > 2 ? 5 : rest > 1 ? 2 : 1) * power;
    range out = {floor((middle - span * 0.55) / step) * step, ceil((middle + span * 0.55) / step) * step, step};
    if (r.low >= 0 && out.low < 0) out.low = 0;
    return out;
}

static double at(const range *r, double value, double from, double to)
{
    return from + (value - r->low) / (r->high - r->low) * (to - from);
}

static double x_of(const range *r, double value) { return at(r, value, LEFT, WIDTH - RIGHT); }
static double y_of(const range *r, double value) { return at(r, value, HEIGHT - BOTTOM, TOP); }

static void open_svg(sp_text *out, const char *title, int width, int height)
{
    sp_text_format(out, "<svg viewBox=\"0 0 %d %d\" width=\"%d\" height=\"%d\" role=\"img\"><title>", width, height,
                   width, height);
    sp_text_html(out, title);
    sp_text_add(out, "</title>\n");
}

static void line(sp_text *out, const char *style, double x1, double y1, double x2, double y2)
{
    sp_text_format(out, "<line class=\"%s\" x1=\"%.1f\" y1=\"%.1f\" x2=\"%.1f\" y2=\"%.1f\"/>\n", style, x1, y1, x2,
                   y2);
}

static void draw_axes(sp_text *out, const sp_chart_axes *axes, const range *x, const range *y)
{
    for (int i = 0; i <= (int)((x->high - x->low) / x->step + 0.5); i++) {
        double value = x->low + i * x->step, place = x_of(x, value);
        line(out, "grid", place, TOP, place, HEIGHT - BOTTOM);
        sp_text_format(out, "<text x=\"%.1f\" y=\"%d\" text-anchor=\"middle\">%.6g</text>\n", place,
                       HEIGHT - BOTTOM + 17, fabs(value) < x->step * 1e-6 ? 0 : value);
    }
    for (int i = 0; i <= (int)((y->high - y->low) / y->step + 0.5); i++) {
        double value = y->low + i * y->step, place = y_of(y, value);
        line(out, "grid", LEFT, place, WIDTH - RIGHT, place);
        sp_text_format(out, "<text x=\"%d\" y=\"%.1f\" text-anchor=\"end\">%.6g</text>\n", LEFT - 7, place + 4,
                       fabs(value) < y->step * 1e-6 ? 0 : value);
    }
    line(out, "axis", LEFT, HEIGHT - BOTTOM, WIDTH - RIGHT, HEIGHT - BOTTOM);
    line(out, "axis", LEFT, TOP, LEFT, HEIGHT - BOTTOM);
    sp_text_format(out, "<text x=\"%d\" y=\"%d\" text-anchor=\"middle\">", (LEFT + WIDTH - RIGHT) / 2, HEIGHT - 8);
    sp_text_html(out, axes->x);
    sp_text_format(out, "</text>\n<text transform=\"translate(15 %d) rotate(-90)\" text-anchor=\"middle\">",
                   (TOP + HEIGHT - BOTTOM) / 2);
    sp_text_html(out, axes->y);
    sp_text_add(out, "</text>\n");
}

/* A different shape a series, for eyes and printers without its colour. */
static void draw_mark(sp_text *out, const sp_chart_point *p, double x, double y)
{
    sp_text_format(out, "<path class=\"s%zu%s\" transform=\"translate(%.1f %.1f) scale(%s)\" d=\"",
                   p->series % SP_CHART_SERIES, p->minor ? " minor" : "", x, y, p->minor ? "0.6" : "1");
    static const char *const shapes[] = {
        "M-5 0a5 5 0 1 0 10 0a5 5 0 1 0 -10 0z", "M-5 -5h10v10h-10z", "M0 -6l6 11h-12z", "M0 -7l6 7l-6 7l-6 -7z",
        "M0 6l6 -11h-12z", "M-6 -2h4v-4h4v4h4v4h-4v4h-4v-4h-4z", "M-6 -3l3 -3h6l3 3v6l-3 3h-6l-3 -3z",
        "M-6 0l12 -6v12z"};
    sp_text_format(out, "%s\">", shapes[p->series % SP_CHART_SERIES]);
}

static void describe(sp_text *out, const sp_chart_axes *axes, const sp_chart_point *p)
{
    sp_text_add(out, "<title>");
    sp_text_html(out, p->label);
    sp_text_format(out, ": %.4g", p->x.value);
    if (p->x.bounded) sp_text_format(out, " (%.4g to %.4g)", p->x.low, p->x.high);
    sp_text_add(out, " ");
    sp_text_html(out, axes->x);
    sp_text_format(out, ", %.4g", p->y.value);
    if (p->y.bounded) sp_text_format(out, " (%.4g to %.4g)", p->y.low, p->y.high);
    sp_text_add(out, " ");
    sp_text_html(out, axes->y);
    sp_text_add(out, "</title></path>\n");
}

static void draw_bars_of_error(sp_text *out, const sp_chart_point *p, const range *x, const range *y)
{
    double px = x_of(x, p->x.value), py = y_of(y, p->y.value);
    if (p->minor) return;
    if (p->x.bounded && p->x.high > p->x.low) line(out, "error", x_of(x, p->x.low), py, x_of(x, p->x.high), py);
    if (p->y.bounded && p->y.high > p->y.low) line(out, "error", px, y_of(y, p->y.low), px, y_of(y, p->y.high));
}

typedef struct box {
    double left, top, right;
} box;

typedef struct labels {
    box placed[MOST_LABELS];
    size_t count;
} labels;

static bool is_free(const labels *all, box b)
{
    if (b.top < TOP - 4 || b.top + LABEL_HEIGHT > HEIGHT - BOTTOM + 2) return false;
    for (size_t i = 0; i < all->count; i++) {
        const box *o = &all->placed[i];
        if (b.left < o->right && o->left < b.right && fabs(b.top - o->top) < LABEL_HEIGHT) return false;
    }
    return true;
}

/* Beside its mark, on the side with more room, moved up or down until it meets no other label. */
static void draw_label(sp_text *out, labels *all, const char *label, double x, double y)
{
    double width = (double)strlen(label) * LETTER;
    bool left = x + 10 + width > WIDTH;
    box b = {left ? x - 10 - width : x + 10, y - LABEL_HEIGHT / 2.0, left ? x - 10 : x + 10 + width};
    double wanted = b.top;
    for (int n = 0; n < 40 && !is_free(all, b); n++)
        b.top = wanted + (n % 2 ? -1 : 1) * (n / 2 + 1) * LABEL_HEIGHT / 2.0;
    if (all->count < MOST_LABELS) all->placed[all->count++] = b;
    if (fabs(b.top - wanted) > LABEL_HEIGHT)
        line(out, "grid", x, y, left ? b.right : b.left, b.top + LABEL_HEIGHT / 2.0);
    sp_text_format(out, "<text x=\"%.1f\" y=\"%.1f\"%s>", left ? b.right : b.left, b.top + LABEL_HEIGHT - 3,
                   left ? " text-anchor=\"end\"" : "");
    sp_text_html(out, label);
    sp_text_add(out, "</text>\n");
}

void sp_chart_points(sp_text *out, const sp_chart_axes *axes, const sp_chart_point *points, size_t n_points)
{
    range x = {INFINITY, -INFINITY, 1}, y = x;
    for (size_t i = 0; i < n_points; i++) {
        if (!points[i].x.known || !points[i].y.known) continue;
        include_interval(&x, &points[i].x, points[i].minor);
        include_interval(&y, &points[i].y, points[i].minor);
    }
    if (x.low > x.high) return;
    x = rounded(x);
    y = rounded(y);
    labels all = {.count = 0};
    open_svg(out, axes->title, WIDTH, HEIGHT);
    draw_axes(out, axes, &x, &y);
    for (size_t i = 0; i < n_points; i++) {
        const sp_chart_point *p = &points[i], *next = i + 1 < n_points ? p + 1 : NULL;
        if (!p->x.known || !p->y.known) continue;
        double px = x_of(&x, p->x.value), py = y_of(&y, p->y.value);
        if (all.count < MOST_LABELS) all.placed[all.count++] = (box){px - 6, py - LABEL_HEIGHT / 2.0, px + 6};
        draw_bars_of_error(out, p, &x, &y);
        if (axes->joined && next && next->series == p->series && next->x.known && next->y.known) {
            sp_text_format(out, "<line class=\"s%zu joined\" x1=\"%.1f\" y1=\"%.1f\" x2=\"%.1f\" y2=\"%.1f\"/>\n",
                           p->series % SP_CHART_SERIES, px, py, x_of(&x, next->x.value), y_of(&y, next->y.value));
        }
        draw_mark(out, p, px, py);
        describe(out, axes, p);
    }
    for (size_t i = 0; i < n_points; i++) {
        const sp_chart_point *p = &points[i];
        bool last = i + 1 == n_points || points[i + 1].series != p->series;
        if (p->x.known && p->y.known && !p->minor && (!axes->joined || last))
            draw_label(out, &all, p->label, x_of(&x, p->x.value), y_of(&y, p->y.value));
    }
    sp_text_add(out, "</svg>\n");
}

void sp_chart_bars(sp_text *out, const char *title, const sp_interval *shares, size_t n, size_t series)
{
    size_t first = n > 1 && !(shares[0].value > 0) ? 1 : 0;
    double highest = 0, base = BAR_HEIGHT - 34, left = LEFT_OF_BARS;
    for (size_t i = first; i < n; i++) highest = fmax(highest, shares[i].bounded ? shares[i].high : shares[i].value);
    if (n <= first || highest <= 0) return;
    double step = (BAR_WIDTH - left - 6) / (double)(n - first), scale = (base - 10) / highest;
    size_t every = 1 + (n - first) / 12;
    open_svg(out, title, BAR_WIDTH, BAR_HEIGHT);
    sp_text_format(out, "<text x=\"%.0f\" y=\"14\" text-anchor=\"end\">%.0f%%</text>\n", left - 5, 100 * highest);
    for (size_t i = first; i < n; i++) {
        double height = shares[i].value * scale, x = left + (double)(i - first) * step;
        sp_text_format(out, "<rect class=\"s%zu\" x=\"%.1f\" y=\"%.1f\" width=\"%.1f\" height=\"%.1f\"><title>%zu "
                       "tokens: %.3g%% of the passes</title></rect>\n", series % SP_CHART_SERIES, x + step * 0.1,
                       base - height, step * 0.8, height, i, 100 * shares[i].value);
        if (shares[i].bounded && shares[i].high > shares[i].low)
            line(out, "error", x + step / 2, base - shares[i].low * scale, x + step / 2, base - shares[i].high * scale);
        if ((i - first) % every == 0)
            sp_text_format(out, "<text x=\"%.1f\" y=\"%.0f\" text-anchor=\"middle\">%zu</text>\n", x + step / 2,
                           base + 15, i);
    }
    line(out, "axis", left, base, BAR_WIDTH, base);
    sp_text_format(out, "<text x=\"%d\" y=\"%d\" text-anchor=\"middle\">tokens settled in a pass</text>\n</svg>\n",
                   (BAR_WIDTH + LEFT_OF_BARS) / 2, BAR_HEIGHT - 4);
}
