#ifndef SP_RESAMPLE_H
#define SP_RESAMPLE_H
/* A picture as a network takes it: of the network's size, a plane a colour, (value / 255 - mean) / deviation.
 *
 *     sp_raster to = {.width = 299, .height = 299, .mean = {0.5f, 0.5f, 0.5f}, .deviation = {0.5f, 0.5f, 0.5f}};
 *     SP_TRY(sp_resample(rgb, 64, 64, &to, planes, err));
 *
 * A pixel is the mean of those it covers, under a triangle: bilinear between the centres of pixels where the picture
 * grows, two of the network's pixels wide where it shrinks. Beyond the edges there is nothing. Sides are scaled each by
 * its own ratio, and nothing is cut off or rounded. */
#include <stdint.h>

#include "base/error.h"

typedef struct sp_raster {
    size_t width, height;
    float mean[3], deviation[3]; /* of red, green, blue in 0 to 1; deviations are above 0 */
} sp_raster;

/* rgb [height, width, 3]; planes [3, to->height, to->width]. SP_ENOMEM. */
SP_CHECK sp_status sp_resample(const uint8_t *rgb, size_t width, size_t height, const sp_raster *to, float *planes,
                               sp_error *err);

#endif
