/* Sixel: bands of six rows, one run-length coded line a colour a band. The palette is a fixed 6 x 6 x 6 cube, which
 * every sixel terminal holds; Floyd and Steinberg's error diffusion hides its steps. */
#include <stdio.h>
#include <string.h>

#include "base/arena.h"
#include "cli/show.h"

enum { LEVELS = 6, COLOURS = LEVELS * LEVELS * LEVELS, LEAST_WIDTH = 256 };

/* Errors of the row in work and of the next, in sixteenths, with a pixel of margin at both ends. */
typedef struct diffusion {
    int *here, *below; /* [(width + 2) * 3] */
} diffusion;

static int nearest_level(int value)
{
    int level = (value * (LEVELS - 1) + 127) / 255;
    return level < 0 ? 0 : level >= LEVELS ? LEVELS - 1 : level;
}

static void quantise_row(const uint8_t *rgb, size_t width, size_t zoom, diffusion *errors, uint8_t *indices)
{
    for (size_t x = 0; x < width; x++) {
        int index = 0;
        for (size_t c = 0; c < 3; c++) {
            size_t at = (x + 1) * 3 + c;
            int value = rgb[x / zoom * 3 + c] + errors->here[at] / 16;
            int level = nearest_level(value), error = value - level * 255 / (LEVELS - 1);
            index = index * LEVELS + level;
            errors->here[at + 3] += 7 * error;
            errors->below[at - 3] += 3 * error;
            errors->below[at] += 5 * error;
            errors->below[at + 3] += error;
        }
        indices[x] = (uint8_t)index;
    }
}

static void put_run(int sixel, size_t count)
{
    if (count > 3) printf("!%zu", count);
    for (size_t i = 0; i < (count > 3 ? 1 : count); i++) putchar(63 + sixel);
}

/* indices [6, width]; rows beyond the picture hold COLOURS, which is no colour. */
static void put_band(const uint8_t *indices, size_t width)
{
    bool used[COLOURS + 1] = {false};
    for (size_t i = 0; i < 6 * width; i++) used[indices[i]] = true;
    bool first = true;
    for (int colour = 0; colour < COLOURS; colour++) {
        if (!used[colour]) continue;
        printf("%s#%d", first ? "" : "$", colour);
        first = false;
        size_t run = 0;
        int previous = 0;
        for (size_t x = 0; x < width; x++) {
            int sixel = 0;
            for (size_t row = 0; row < 6; row++) sixel |= (indices[row * width + x] == colour) << row;
            if (x > 0 && sixel != previous) {
                put_run(previous, run);
                run = 0;
            }
            previous = sixel;
            run++;
        }
        put_run(previous, run);
    }
    putchar('-');
}

static void put_palette(void)
{
    for (int i = 0; i < COLOURS; i++)
        printf("#%d;2;%d;%d;%d", i, i / (LEVELS * LEVELS) * 100 / (LEVELS - 1),
               i / LEVELS % LEVELS * 100 / (LEVELS - 1), i % LEVELS * 100 / (LEVELS - 1));
}

sp_status sp_show_sixel(const sp_show_picture *picture, sp_error *err)
{
    size_t zoom = picture->width < LEAST_WIDTH ? (LEAST_WIDTH + picture->width - 1) / picture->width : 1;
    size_t width = picture->width * zoom, height = picture->height * zoom, margin = (width + 2) * 3;
    int *errors = sp_alloc(2 * margin, sizeof *errors);
    uint8_t *band = sp_alloc(width, 6);
    if (errors == NULL || band == NULL) {
        sp_release(errors);
        sp_release(band);
        return SP_FAIL(err, SP_ENOMEM, "no memory to show a picture; leave out --show");
    }
    diffusion state = {errors, errors + margin};
    printf("\033Pq\"1;1;%zu;%zu", width, height);
    put_palette();
    for (size_t y = 0; y < height; y += 6) {
        memset(band, COLOURS, 6 * width);
        for (size_t row = 0; row < 6 && y + row < height; row++) {
            const uint8_t *rgb = picture->rgb + (y + row) / zoom * picture->width * 3;
            quantise_row(rgb, width, zoom, &state, band + row * width);
            int *done = state.here;
            state.here = state.below;
            state.below = memset(done, 0, margin * sizeof *done);
        }
        put_band(band, width);
    }
    fputs("\033\\", stdout);
    sp_release(errors);
    sp_release(band);
    return SP_OK;
}
