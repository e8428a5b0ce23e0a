#include "kernels/ref/ref.h"

size_t sp_ref_group_norm_scratch(sp_plane plane, size_t groups, int n_threads)
{
    (void)plane, (void)groups, (void)n_threads;
    return 0;
}

/* Population variance over the pixels and the channels of a group; swish(v) = v / (1 + e^-v). */
void sp_ref_group_norm(sp_pool *pool, const float *x, sp_plane plane, size_t groups, float eps, const float *gain,
                       const float *bias, bool swish, float *y, void *scratch)
{
    (void)pool, (void)scratch;
    size_t channels = plane.channels, width = channels / groups, pixels = plane.height * plane.width;
    double count = (double)pixels * (double)width;
    for (size_t first = 0; first < channels; first += width) {
        double sum = 0, squares = 0;
        for (size_t p = 0; p < pixels; p++)
            for (size_t c = first; c < first + width; c++) sum += (double)x[p * channels + c];
        double mean = sum / count;
        for (size_t p = 0; p < pixels; p++) {
            for (size_t c = first; c < first + width; c++) {
                double offset = (double)x[p * channels + c] - mean;
                squares += offset * offset;
            }
        }
        double scale = 1.0 / sqrt(squares / count + (double)eps);
        for (size_t p = 0; p < pixels; p++) {
            for (size_t c = first; c < first + width; c++) {
                double v = ((double)x[p * channels + c] - mean) * scale * (double)gain[c] + (double)bias[c];
                y[p * channels + c] = (float)(swish ? v / (1.0 + exp(-v)) : v);
            }
        }
    }
}
