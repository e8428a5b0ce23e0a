/* Text cells: each half block shows two pixels, ink above and paper below, in 24-bit colour. Under NO_COLOR each cell
 * is a character of about the same darkness instead. Pixels are means over the area that they stand for. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/show.h"

static void mean_colour(const sp_show_picture *picture, size_t column, size_t half, unsigned mean[3])
{
    size_t left = column * picture->width / picture->columns, right = (column + 1) * picture->width / picture->columns;
    size_t halves = 2 * picture->rows;
    size_t top = half * picture->height / halves, bottom = (half + 1) * picture->height / halves;
    if (right == left) right++;
    if (bottom == top) bottom++;
    size_t sum[3] = {0}, count = (right - left) * (bottom - top);
    for (size_t y = top; y < bottom; y++)
        for (size_t x = left; x < right; x++)
            for (size_t c = 0; c < 3; c++) sum[c] += picture->rgb[(y * picture->width + x) * 3 + c];
    for (size_t c = 0; c < 3; c++) mean[c] = (unsigned)(sum[c] / count);
}

static void put_character(const unsigned upper[3], const unsigned lower[3])
{
    static const char inks[] = "@%#*+=-:. ";
    unsigned light = 0;
    static const unsigned weights[3] = {299, 587, 114};
    for (size_t c = 0; c < 3; c++) light += weights[c] * (upper[c] + lower[c]) / 2;
    putchar(inks[light / 1000 * (sizeof inks - 2) / 255]);
}

sp_status sp_show_blocks(const sp_show_picture *picture, sp_error *err)
{
    (void)err;
    const char *no_colour = getenv("NO_COLOR");
    bool colour = no_colour == NULL || *no_colour == '\0';
    for (size_t row = 0; row < picture->rows; row++) {
        for (size_t column = 0; column < picture->columns; column++) {
            unsigned upper[3], lower[3];
            mean_colour(picture, column, 2 * row, upper);
            mean_colour(picture, column, 2 * row + 1, lower);
            if (colour)
                printf("\033[38;2;%u;%u;%um\033[48;2;%u;%u;%um\u2580", upper[0], upper[1], upper[2], lower[0], lower[1],
                       lower[2]);
            else
                put_character(upper, lower);
        }
        if (colour) fputs("\033[0m", stdout);
        if (row + 1 < picture->rows) putchar('\n');
    }
    return SP_OK;
}
