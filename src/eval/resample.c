#include "eval/resample.h"

#include <math.h>

#include "base/arena.h"
#include "base/size.h"

/* A line of one colour: n_in numbers, step_in apart, become n_out. */
static void resample_line(const float *in, size_t n_in, size_t step_in, float *out, size_t n_out, size_t step_out)
{
    double ratio = (double)n_in / (double)n_out, reach = fmax(ratio, 1);
    for (size_t i = 0; i < n_out; i++) {
        double centre = ((double)i + 0.5) * ratio, sum = 0, weights = 0;
        for (size_t x = centre > reach ? (size_t)(centre - reach) : 0; x < n_in && (double)x < centre + reach; x++) {
            double weight = fmax(1 - fabs((double)x + 0.5 - centre) / reach, 0);
            sum += weight * (double)in[x * step_in];
            weights += weight;
        }
        out[i * step_out] = (float)(sum / weights);
    }
}

sp_status sp_resample(const uint8_t *rgb, size_t width, size_t height, const sp_raster *to, float *planes,
                      sp_error *err)
{
    size_t bytes = 0, plane = to->width * to->height;
    SP_TRY(sp_size_product(&bytes, err, "a picture", height, 3 * width + to->width, sizeof(float), 1));
    float *memory = sp_alloc(1, bytes);
    if (!memory) return SP_FAIL(err, SP_ENOMEM, "no memory to scale a picture of %zu x %zu; free some", width, height);
    float *lines = memory + 3 * width * height;
    for (size_t i = 0; i < 3 * width * height; i++) memory[i] = (float)rgb[i] / 255;
    for (size_t c = 0; c < 3; c++) {
        float *out = planes + c * plane;
        for (size_t y = 0; y < height; y++)
            resample_line(memory + y * width * 3 + c, width, 3, lines + y * to->width, to->width, 1);
        for (size_t x = 0; x < to->width; x++)
            resample_line(lines + x, height, to->width, out + x, to->height, to->width);
        for (size_t i = 0; i < plane; i++) out[i] = (out[i] - to->mean[c]) / to->deviation[c];
    }
    sp_release(memory);
    return SP_OK;
}
