#ifndef SP_SHOW_H
#define SP_SHOW_H
/* Pictures in the terminal, as escape sequences on standard output. Write failures are seen when it is flushed. */
#include <stdbool.h>

#include "specular.h"

typedef struct sp_show_picture {
    const uint8_t *rgb; /* [height, width, 3] */
    size_t width, height;
    size_t columns, rows; /* character cells to cover */
} sp_show_picture;

typedef sp_status sp_show_draw(const sp_show_picture *picture, sp_error *err);
sp_show_draw sp_show_kitty, sp_show_iterm, sp_show_sixel, sp_show_blocks;

/* name: kitty, iterm, sixel, blocks, or auto, which asks TERM, TERM_PROGRAM, KITTY_WINDOW_ID and TMUX and draws nothing
 * unless standard output is a terminal. none draws nothing. */
SP_CHECK sp_status sp_show(const char *name, const uint8_t *rgb, size_t width, size_t height, sp_error *err);

#endif
