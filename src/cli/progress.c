#include "cli/progress.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "cli/interrupt.h"

/* A terminal shows ten states a second at no cost that can be measured; a pass may take less than a millisecond. */
static const double interval_s = 0.1;

static double now_s(void) { return sp_clock_ms() * 1e-3; }

void sp_progress_open(sp_progress_view *view, const char *name, size_t pictures, bool quiet)
{
    *view = (sp_progress_view){.mode = SP_PROGRESS_NONE, .pictures = pictures, .started = now_s()};
    const char *terminal = getenv("TERM"), *no_colour = getenv("NO_COLOR");
    bool dumb = terminal == NULL || strcmp(terminal, "dumb") == 0;
    view->colour = no_colour == NULL || *no_colour == '\0';
    if (strcmp(name, "json") == 0)
        view->mode = SP_PROGRESS_JSON;
    else if (strcmp(name, "plain") == 0 && !quiet)
        view->mode = SP_PROGRESS_PLAIN;
    else if (strcmp(name, "auto") == 0 && !quiet && !dumb && isatty(STDERR_FILENO))
        view->mode = SP_PROGRESS_BAR;
}

/* Seconds left, from the pictures done and the part of those in work; negative while nothing is known. */
static double seconds_left(const sp_progress_view *view, double part, double now)
{
    double done = fmin((double)view->done + part, (double)view->pictures);
    return done > 0 ? (now - view->started) / done * ((double)view->pictures - done) : -1;
}

static const char *time_text(double seconds, char *text, size_t size)
{
    if (seconds < 0)
        snprintf(text, size, "?");
    else if (seconds < 60)
        snprintf(text, size, "%.0f s", ceil(seconds));
    else if (seconds < 3600)
        snprintf(text, size, "%d:%02d min", (int)(seconds / 60), (int)fmod(seconds, 60));
    else
        snprintf(text, size, "%.0f:%02d h", floor(seconds / 3600), (int)(fmod(seconds, 3600) / 60));
    return text;
}

static double part_of(const sp_progress *progress)
{
    return progress->tokens_total > 0 ? (double)progress->tokens_done / (double)progress->tokens_total : 0;
}

/* Of pictures that are drawn together this one stands for all. */
static double part_of_all(const sp_progress *progress) { return part_of(progress) * (double)progress->together; }

static void draw_bar(sp_progress_view *view, const sp_progress *progress, double now)
{
    enum { WIDTH = 30 };
    char bar[WIDTH + 1], left[32];
    size_t filled = (size_t)(part_of(progress) * WIDTH);
    memset(bar, '-', WIDTH);
    memset(bar, '#', filled < WIDTH ? filled : WIDTH);
    bar[WIDTH] = '\0';
    const char *on = view->colour ? "\033[32m" : "", *off = view->colour ? "\033[0m" : "";
    fprintf(stderr, "\r\033[K%zu/%zu [%s%s%s] %zu/%zu tokens, %.2f a pass, %s left", view->done + 1, view->pictures, on,
            bar, off, progress->tokens_done, progress->tokens_total,
            progress->passes > 0 ? (double)progress->tokens_done / (double)progress->passes : 0.0,
            time_text(seconds_left(view, part_of_all(progress), now), left, sizeof left));
    view->drawn = true;
}

static void clear_bar(sp_progress_view *view)
{
    if (view->drawn) fputs("\r\033[K", stderr);
    view->drawn = false;
}

bool sp_progress_step(void *user, const sp_progress *progress)
{
    sp_progress_view *view = user;
    bool go_on = sp_interrupt_signal() == 0;
    if (view->mode != SP_PROGRESS_BAR && view->mode != SP_PROGRESS_JSON) return go_on;
    double now = now_s();
    if (now - view->shown < interval_s) return go_on;
    view->shown = now;
    if (view->mode == SP_PROGRESS_BAR)
        draw_bar(view, progress, now);
    else
        fprintf(stderr, "{\"event\":\"pass\",\"picture\":%zu,\"pictures\":%zu,\"tokens_done\":%zu,\"tokens_total\":%zu,"
                "\"passes\":%zu,\"seconds\":%.3f,\"seconds_left\":%.3f}\n", view->done + 1, view->pictures,
                progress->tokens_done, progress->tokens_total, progress->passes, now - view->started,
                fmax(seconds_left(view, part_of_all(progress), now), 0));
    return go_on;
}

/* Labels come from prompts and ids: what JSON cannot hold as it is does not get through. */
static void print_safe(const char *text)
{
    for (; *text != '\0'; text++) {
        bool safe = (unsigned char)*text >= 32 && *text != 127 && *text != '"' && *text != '\\';
        fputc(safe ? *text : '?', stderr);
    }
}

void sp_progress_done(sp_progress_view *view, const char *label)
{
    double now = now_s();
    char left[32];
    view->done++;
    clear_bar(view);
    if (view->mode == SP_PROGRESS_PLAIN) {
        fprintf(stderr, "%zu/%zu ", view->done, view->pictures);
        print_safe(label);
        fprintf(stderr, ", %s left\n", time_text(seconds_left(view, 0, now), left, sizeof left));
    } else if (view->mode == SP_PROGRESS_JSON) {
        fprintf(stderr, "{\"event\":\"picture\",\"picture\":%zu,\"pictures\":%zu,\"file\":\"", view->done,
                view->pictures);
        print_safe(label);
        fprintf(stderr, "\",\"seconds\":%.3f,\"seconds_left\":%.3f}\n", now - view->started,
                fmax(seconds_left(view, 0, now), 0));
    }
}

void sp_progress_close(sp_progress_view *view) { clear_bar(view); }
