#ifndef SP_BAND_H
#define SP_BAND_H
/* How the convolutions cut a picture: into bands of output rows. A thread copies the input under a band once, padded
 * with zeros and doubled or rounded where that is asked, and then every tap of every pixel is a plain offset.
 * How a picture is cut depends on the number of threads; no sum does. */
#include <string.h>

#include "base/size.h"
#include "kernels/cpu/simd.h"

/* A band's copy stays in a second-level cache of 2 MiB beside a panel of weights; a band of fewer pixels than
 * BAND_PIXELS would read the weights more often than they can be fetched. */
enum { SP_BAND_BYTES = 1 << 20, SP_BAND_PIXELS = 256 };

typedef struct sp_band_plan {
    sp_plane in, out;
    sp_conv_mode mode;
    size_t stride;      /* input pixels between neighbouring output pixels */
    size_t width;       /* pixels of a padded row */
    size_t pixel_bytes; /* of a padded pixel */
    size_t n_bands;     /* band b makes output rows b h / n_bands .. (b + 1) h / n_bands - 1 */
    size_t bytes;       /* of a band's copy, with 16 pixels to spare for tiles that read past the last */
} sp_band_plan;

static inline sp_band_plan sp_band_cut(sp_plane in, sp_conv_mode mode, size_t n_outputs, size_t pixel_bytes,
                                       int n_threads)
{
    sp_band_plan p = {.in = in, .out = sp_conv_output(in, mode, n_outputs), .mode = mode, .pixel_bytes = pixel_bytes};
    p.stride = mode == SP_CONV_STRIDE2 ? 2 : 1;
    p.width = p.out.width * p.stride + 2;
    if (p.out.height == 0 || p.out.width == 0) return p;
    size_t fitting = SP_BAND_BYTES / (p.width * pixel_bytes), threads = (size_t)n_threads;
    size_t most = fitting > 2 + p.stride ? (fitting - 2) / p.stride : 1;
    size_t even = (p.out.height + threads - 1) / threads, least = (SP_BAND_PIXELS + p.out.width - 1) / p.out.width;
    size_t rows = even > least ? even : least;
    if (rows > most) rows = most;
    p.n_bands = (p.out.height + rows - 1) / rows;
    rows = (p.out.height + p.n_bands - 1) / p.n_bands;
    p.bytes = sp_round_up(((rows * p.stride + 2) * p.width + 16 * p.stride) * pixel_bytes, 64);
    return p;
}

/* The input row or column under padded row or column `at`; outside the picture when not below its size. */
static inline size_t sp_band_source(sp_conv_mode mode, size_t at)
{
    return mode == SP_CONV_STRIDE2 ? at : mode == SP_CONV_SAME ? at - 1 : (at - 1) / 2;
}

/* Writes a padded pixel from n channels, or zeros when from is NULL. */
typedef void sp_band_pixel(const float *from, size_t n, size_t pixel_bytes, void *to);

/* Copies the input of output rows first .. first + rows - 1. */
static inline __attribute__((always_inline)) void sp_band_copy(const sp_band_plan *p, const float *x, size_t first,
                                                               size_t rows, unsigned char *band,
                                                               sp_band_pixel *const copy)
{
    size_t top = first * p->stride, n_rows = (rows - 1) * p->stride + 3;
    for (size_t r = 0; r < n_rows; r++) {
        size_t row = sp_band_source(p->mode, top + r);
        for (size_t c = 0; c < p->width; c++, band += p->pixel_bytes) {
            size_t column = sp_band_source(p->mode, c);
            bool inside = row < p->in.height && column < p->in.width;
            const float *from = inside ? x + (row * p->in.width + column) * p->in.channels : NULL;
            copy(from, p->in.channels, p->pixel_bytes, band);
        }
    }
}

#endif
