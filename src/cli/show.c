#include "cli/show.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

/* Half of a usual window: a picture of 64 pixels is drawn larger than its pixels, one of 1024 smaller. */
enum { SHOWN_COLUMNS = 40, FALLBACK_COLUMNS = 80 };

static const struct {
    const char *name;
    sp_show_draw *draw;
} protocols[] = {
    {"kitty", sp_show_kitty}, {"iterm", sp_show_iterm}, {"sixel", sp_show_sixel}, {"blocks", sp_show_blocks}};

static const char *variable(const char *name)
{
    const char *value = getenv(name);
    return value != NULL ? value : "";
}

static bool starts(const char *text, const char *prefix) { return strncmp(text, prefix, strlen(prefix)) == 0; }

static const char *probe(void)
{
    const char *terminal = variable("TERM"), *program = variable("TERM_PROGRAM");
    /* A multiplexer swallows graphics, whatever the terminal outside can do. */
    if (*variable("TMUX") || starts(terminal, "tmux") || starts(terminal, "screen")) return "blocks";
    if (*variable("KITTY_WINDOW_ID") || strstr(terminal, "kitty") != NULL || strstr(terminal, "ghostty") != NULL ||
        strcmp(program, "ghostty") == 0)
        return "kitty";
    if (strcmp(program, "iTerm.app") == 0 || strcmp(program, "WezTerm") == 0 || strcmp(program, "mintty") == 0)
        return "iterm";
    if (starts(terminal, "foot") || starts(terminal, "mlterm") || starts(terminal, "contour") ||
        strstr(terminal, "sixel") != NULL)
        return "sixel";
    return "blocks";
}

static size_t window_columns(void)
{
    struct winsize window;
    if (ioctl(STDOUT_FILENO, TIOCGWINSZ, &window) == 0 && window.ws_col > 0) return window.ws_col;
    return FALLBACK_COLUMNS;
}

sp_status sp_show(const char *name, const uint8_t *rgb, size_t width, size_t height, sp_error *err)
{
    if (strcmp(name, "auto") == 0) name = isatty(STDOUT_FILENO) ? probe() : "none";
    if (strcmp(name, "none") == 0) return SP_OK;
    sp_show_picture picture = {.rgb = rgb, .width = width, .height = height, .columns = SHOWN_COLUMNS};
    size_t most = window_columns();
    if (picture.columns > most) picture.columns = most;
    picture.rows = (picture.columns * height / width + 1) / 2; /* a cell is about twice as high as wide */
    if (picture.rows == 0) picture.rows = 1;
    for (size_t i = 0; i < sizeof protocols / sizeof protocols[0]; i++) {
        if (strcmp(protocols[i].name, name) != 0) continue;
        SP_TRY(protocols[i].draw(&picture, err));
        putchar('\n');
        return SP_OK;
    }
    return SP_FAIL(err, SP_EBUG, "--show %s has no protocol", name);
}
