#include "eval/page.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/arena.h"
#include "eval/chart.h"

static const char style[] =
    ":root{color-scheme:light dark;--ink:#1c1e21;--paper:#fff;--soft:#5c6066;--rule:#d9dce0;--band:#f4f5f7;"
    "--c0:#5f6670;--c1:#0072b2;--c2:#d55e00;--c3:#008f68;--c4:#b5468b;--c5:#a97b00;--c6:#2f9fd8;--c7:#6a51c7}\n"
    "@media(prefers-color-scheme:dark){:root{--ink:#e8eaed;--paper:#16181b;--soft:#a3a8af;--rule:#383c42;"
    "--band:#1f2226;--c0:#a3a9b3;--c1:#4ba9e6;--c2:#f08a4b;--c3:#3fc79a;--c4:#e08cc0;--c5:#e0b23c;--c6:#86cdf2;"
    "--c7:#a996f0}}\n"
    "body{font:16px/1.5 system-ui,sans-serif;color:var(--ink);background:var(--paper);max-width:84rem;margin:0 auto;"
    "padding:1.5rem}\n"
    "h1{font-size:1.6rem;margin:0}h2{font-size:1.2rem;margin:2.2rem 0 .3rem}p{max-width:48rem;margin:.4rem 0}"
    "small,.note{color:var(--soft)}\n"
    ".wide{overflow-x:auto}.charts{display:flex;flex-wrap:wrap;gap:1.2rem 2rem}figure{margin:0;max-width:100%}"
    "figcaption{font-weight:600;margin-bottom:.2rem}\n"
    "table{border-collapse:collapse;font-variant-numeric:tabular-nums}th,td{padding:.3rem .7rem;text-align:right;"
    "border-bottom:1px solid var(--rule);white-space:nowrap;vertical-align:top}"
    "thead th{vertical-align:bottom;white-space:normal}"
    "th[scope=row]{text-align:left;position:sticky;left:0;background:var(--paper)}tbody tr:nth-child(even)>*{"
    "background:var(--band)}td small{display:block}\n"
    ".pictures th[scope=row]{white-space:normal;width:10rem;font-weight:400}.pictures td,.pictures thead th{"
    "text-align:center}.pictures tbody tr>*{background:none}.pictures td{font-size:.8rem;color:var(--soft)}\n"
    ".picture,.map{width:128px;height:auto;border-radius:4px}.map{width:64px;image-rendering:pixelated;"
    "margin-top:.3rem}\n"
    "svg{max-width:100%;height:auto;font:12px system-ui,sans-serif}svg text{fill:var(--ink);paint-order:stroke;"
    "stroke:var(--paper);stroke-width:3px;stroke-linejoin:round}.axis{stroke:var(--soft)}"
    ".grid{stroke:var(--rule)}.error{stroke:var(--ink);stroke-width:1.2;opacity:.5}"
    ".minor{opacity:.65}.joined{stroke-width:1.5}\n";

/* Classes s0 to s7 colour marks, bars and lines. */
static void add_style(sp_text *out)
{
    sp_text_add(out, "<style>\n");
    sp_text_add(out, style);
    for (int i = 0; i < SP_CHART_SERIES; i++)
        sp_text_format(out, ".s%d{fill:var(--c%d);stroke:var(--c%d)}", i, i, i);
    sp_text_add(out, "\n</style>\n");
}

size_t sp_page_series(const sp_evaluation *e, size_t setting)
{
    size_t series = 0;
    for (size_t s = 0; s < e->n_settings; s++) {
        size_t first = 0;
        while (strcmp(e->settings[first].method, e->settings[s].method) != 0) first++;
        if (first == s && strcmp(e->settings[s].method, e->settings[setting].method) == 0) return series;
        series += first == s;
    }
    return series;
}

static void add_number(sp_text *out, double value, int digits)
{
    if (value != 0 && fabs(value) >= pow(10, digits)) sp_text_format(out, "%.0f", value);
    else sp_text_format(out, "%.*g", digits, fabs(value) < 1e-9 ? 0 : value);
}

static void add_cell(sp_text *out, const sp_interval *v, int digits)
{
    sp_text_add(out, "<td>");
    if (v->known) add_number(out, v->value, digits);
    if (v->known && v->bounded) {
        sp_text_add(out, "<small>");
        add_number(out, v->low, digits);
        sp_text_add(out, " – ");
        add_number(out, v->high, digits);
        sp_text_add(out, "</small>");
    }
    sp_text_add(out, "</td>");
}

static void add_heading(sp_text *out, const char *name, const char *help)
{
    sp_text_format(out, "<th scope=\"col\" title=\"%s\">", help);
    for (const char *c = name; *c; c++) sp_text_format(out, "%c", *c == '_' ? ' ' : *c);
    sp_text_add(out, "</th>");
}

/* Columns that no setting has are left out: those of the reference without one. */
static void add_table(const sp_page *page, sp_text *out)
{
    const sp_evaluation *e = page->evaluation;
#define SP_FIGURE(name, digits, help) bool has_##name = false;
#include "eval/outcome.def"
#undef SP_FIGURE
    for (size_t s = 0; s < e->n_settings; s++) {
#define SP_FIGURE(name, digits, help) has_##name |= page->outcomes[s].name.known;
#include "eval/outcome.def"
#undef SP_FIGURE
    }
    sp_text_add(out, "<div class=\"wide\"><table><thead><tr><th scope=\"row\">setting</th>"
                "<th scope=\"col\">tokens</th>");
#define SP_FIGURE(name, digits, help) \
    if (has_##name) add_heading(out, #name, help);
#include "eval/outcome.def"
#undef SP_FIGURE
    sp_text_add(out, "</tr></thead>\n<tbody>\n");
    for (size_t s = 0; s < e->n_settings; s++) {
        sp_text_add(out, "<tr><th scope=\"row\">");
        sp_text_html(out, e->settings[s].name);
        sp_text_format(out, "</th><td>%s</td>", sp_exactness_name(e->settings[s].exactness));
#define SP_FIGURE(name, digits, help) \
    if (has_##name) add_cell(out, &page->outcomes[s].name, digits);
#include "eval/outcome.def"
#undef SP_FIGURE
        sp_text_add(out, "</tr>\n");
    }
    sp_text_add(out, "</tbody></table></div>\n<details><summary>What the columns are</summary><dl>");
#define SP_FIGURE(name, digits, help) sp_text_add(out, "<dt>" #name "</dt><dd>" help "</dd>\n");
#include "eval/outcome.def"
#undef SP_FIGURE
    sp_text_add(out, "</dl></details>\n");
}

static void add_figure(sp_text *out, const sp_chart_axes *axes, const sp_chart_point *points, size_t n)
{
    sp_text_add(out, "<figure><figcaption>");
    sp_text_html(out, axes->title);
    sp_text_add(out, "</figcaption>\n");
    sp_chart_points(out, axes, points, n);
    sp_text_add(out, "</figure>\n");
}

static void add_scatters(const sp_page *page, sp_chart_point *points, sp_text *out)
{
    const sp_evaluation *e = page->evaluation;
    sp_chart_axes nll = {"Speed and likelihood", "speed-up over plain decoding", "nats a token above plain decoding",
                         false};
    sp_chart_axes frechet = {"Passes and likeness", "step compression", "Frechet distance from plain decoding", false};
    sp_chart_axes network = {"Passes and likeness, by the features of --features", "step compression",
                             "Frechet distance from plain decoding", false};
    for (size_t s = 0; s < e->n_settings; s++)
        points[s] = (sp_chart_point){page->outcomes[s].speedup, page->outcomes[s].nll_excess, e->settings[s].name,
                                     sp_page_series(e, s), *e->settings[s].option != 0};
    sp_text_add(out, "<div class=\"charts\">\n");
    add_figure(out, &nll, points, e->n_settings);
    for (size_t s = 0; s < e->n_settings; s++) {
        points[s].x = page->outcomes[s].step_compression;
        points[s].y = page->outcomes[s].frechet;
    }
    add_figure(out, &frechet, points, e->n_settings);
    for (size_t s = 0; s < e->n_settings; s++) points[s].y = page->outcomes[s].network_frechet;
    if (points[0].y.known) add_figure(out, &network, points, e->n_settings);
    sp_text_add(out, "</div>\n");
}

/* Settings of one swept option that have a number for its value. */
static size_t collect(const sp_page *page, const char *option, bool speed, sp_chart_point *points)
{
    const sp_evaluation *e = page->evaluation;
    size_t n = 0;
    for (size_t s = 0; s < e->n_settings; s++) {
        const sp_setting *setting = &e->settings[s];
        char *end;
        double value = strtod(setting->value, &end);
        if (strcmp(setting->option, option) != 0 || end == setting->value || *end) continue;
        points[n++] = (sp_chart_point){{.value = value, .known = true},
                                       speed ? page->outcomes[s].speedup : page->outcomes[s].step_compression,
                                       setting->method, sp_page_series(e, s), false};
    }
    return n;
}

static void add_sweeps(const sp_page *page, sp_chart_point *points, sp_text *out)
{
    const sp_evaluation *e = page->evaluation;
    bool any = false;
    for (size_t s = 0; s < e->n_settings; s++) {
        const char *option = e->settings[s].option;
        size_t first = 0;
        while (strcmp(e->settings[first].option, option) != 0) first++;
        if (*option == 0 || first != s || collect(page, option, true, points) == 0) continue;
        if (!any) sp_text_add(out, "<h2>Sweeps</h2>\n");
        any = true;
        sp_text_add(out, "<div class=\"charts\">\n");
        for (int speed = 0; speed < 2; speed++) {
            char title[SP_SETTING_NAME];
            snprintf(title, sizeof title, "%s by %s", speed ? "Speed-up" : "Step compression", option);
            sp_chart_axes axes = {title, option,
                                  speed ? "speed-up over plain decoding" : "step compression", true};
            add_figure(out, &axes, points, collect(page, option, speed, points));
        }
        sp_text_add(out, "</div>\n");
    }
}

static void add_histograms(const sp_page *page, sp_text *out)
{
    const sp_evaluation *e = page->evaluation;
    sp_text_add(out, "<h2>Tokens settled in a pass</h2>\n<div class=\"charts\">\n");
    for (size_t s = 0; s < e->n_settings; s++) {
        sp_text_add(out, "<figure><figcaption>");
        sp_text_html(out, e->settings[s].name);
        sp_text_add(out, "</figcaption>\n");
        sp_chart_bars(out, e->settings[s].name, page->outcomes[s].histogram, page->outcomes[s].histogram_count,
                      sp_page_series(e, s));
        sp_text_add(out, "</figure>\n");
    }
    sp_text_add(out, "</div>\n");
}

static bool has_sweep(const sp_evaluation *e)
{
    for (size_t s = 0; s < e->n_settings; s++)
        if (*e->settings[s].option) return true;
    return false;
}

static sp_status add_body(const sp_page *page, sp_chart_point *points, sp_text *out, sp_error *err)
{
    sp_text_add(out, "<h1>Speed and quality of ");
    sp_text_html(out, page->model);
    sp_text_add(out, "</h1>\n<p>");
    sp_text_html(out, page->conditions);
    sp_text_add(out, "</p>\n<p class=\"note\">Small figures and error bars are 95 % intervals over prompts "
                "(bootstrap). <em>identical</em>: the tokens of plain decoding with the same seed; <em>exact</em>: "
                "tokens of the same law; <em>relaxed</em>: of another law.</p>\n");
    sp_text_add(out, "<h2>Speed against quality</h2>\n");
    if (has_sweep(page->evaluation))
        sp_text_add(out, "<p class=\"note\">Small marks are settings of a sweep; point at one for its name.</p>\n");
    add_scatters(page, points, out);
    sp_text_add(out, "<h2>Figures</h2>\n");
    add_table(page, out);
    add_sweeps(page, points, out);
    add_histograms(page, out);
    sp_text_add(out, "<h2>The same prompts and seeds</h2>\n<p class=\"note\">Beside each picture the pass in which "
                "each token was settled: dark early, bright late.</p>\n");
    return sp_page_pictures(page, out, err);
}

sp_status sp_page_write(const sp_page *page, const char *path, sp_error *err)
{
    sp_text out = {0};
    sp_chart_point *points = sp_alloc(page->evaluation->n_settings, sizeof *points);
    if (!points) return SP_FAIL(err, SP_ENOMEM, "no memory for the charts of %s; free some", path);
    sp_text_add(&out, "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n"
                "<meta name=\"viewport\" content=\"width=device-width\">\n<title>specular eval: ");
    sp_text_html(&out, page->model);
    sp_text_add(&out, "</title>\n");
    add_style(&out);
    sp_text_add(&out, "</head>\n<body>\n<main>\n");
    sp_status status = add_body(page, points, &out, err);
    sp_text_add(&out, "</main>\n</body>\n</html>\n");
    if (status == SP_OK) status = sp_text_write(&out, path, err);
    sp_text_free(&out);
    sp_release(points);
    return status;
}
