#include "cli/map.h"

#include <string.h>

#include "base/arena.h"
#include "base/heat.h"
#include "base/size.h"

enum { LEAST_WIDTH = 256, STRIP = 12, DIGIT_SCALE = 2, LEGEND = 8 + STRIP + 4 + 5 * DIGIT_SCALE + 4 };

typedef struct canvas {
    uint8_t *rgb;
    size_t width, height;
} canvas;

static void fill(canvas *to, size_t x, size_t y, size_t width, size_t height, const uint8_t colour[3])
{
    for (size_t j = y; j < y + height && j < to->height; j++)
        for (size_t i = x; i < x + width && i < to->width; i++) memcpy(to->rgb + (j * to->width + i) * 3, colour, 3);
}

/* Three columns and five rows a digit, a bit a pixel, from the top left. */
static void draw_digit(canvas *to, size_t x, size_t y, int digit)
{
    static const uint16_t shapes[10] = {
        075557, 026227, 071747, 071717, 055711, 074717, 074757, 071111, 075757, 075717};
    static const uint8_t ink[3] = {230, 230, 230};
    for (unsigned bit = 0; bit < 15; bit++)
        if (shapes[digit] >> (14 - bit) & 1u)
            fill(to, x + bit % 3 * DIGIT_SCALE, y + bit / 3 * DIGIT_SCALE, DIGIT_SCALE, DIGIT_SCALE, ink);
}

static size_t count_digits(size_t value)
{
    size_t count = 1;
    while (value >= 10) {
        value /= 10;
        count++;
    }
    return count;
}

static void draw_number(canvas *to, size_t x, size_t y, size_t value)
{
    for (size_t n = count_digits(value); n > 0; n--) {
        draw_digit(to, x + (n - 1) * 4 * DIGIT_SCALE, y, (int)(value % 10));
        value /= 10;
    }
}

static void draw_legend(canvas *to, size_t top, size_t last)
{
    uint8_t colour[3];
    for (size_t x = 4; x + 4 < to->width; x++) {
        sp_heat((double)(x - 4) / (double)(to->width - 8), colour);
        fill(to, x, top + 8, 1, STRIP, colour);
    }
    size_t baseline = top + 8 + STRIP + 4, width = count_digits(last) * 4 * DIGIT_SCALE;
    draw_number(to, 4, baseline, 1);
    if (width + 4 < to->width) draw_number(to, to->width - 4 - width + DIGIT_SCALE, baseline, last);
}

sp_status sp_pass_map_write(const char *path, const int32_t *passes, size_t rows, size_t columns, sp_error *err)
{
    size_t cell = (LEAST_WIDTH + columns - 1) / columns, bytes = 0, last = 1;
    canvas to = {NULL, columns * cell, rows * cell + LEGEND};
    SP_TRY(sp_size_product(&bytes, err, "map", to.width, to.height, 3, 1));
    to.rgb = sp_alloc(bytes, 1);
    if (to.rgb == NULL) return SP_FAIL(err, SP_ENOMEM, "no memory for a map of %zu bytes; leave out --map", bytes);
    for (size_t i = 0; i < rows * columns; i++)
        if ((size_t)passes[i] > last) last = (size_t)passes[i];
    for (size_t i = 0; i < rows * columns; i++) {
        uint8_t colour[3];
        sp_heat(last > 1 ? (double)(passes[i] - 1) / (double)(last - 1) : 0, colour);
        fill(&to, i % columns * cell, i / columns * cell, cell, cell, colour);
    }
    draw_legend(&to, rows * cell, last);
    sp_status status = sp_picture_write(path, to.rgb, to.width, to.height, NULL, 0, err);
    sp_release(to.rgb);
    return status;
}
