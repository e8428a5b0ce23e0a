#include "kernels/ref/ref.h"

void sp_ref_rms_norm(sp_pool *pool, const float *x, const float *gain, float eps, size_t n_rows, size_t width, float *y)
{
    (void)pool;
    for (size_t row = 0; row < n_rows; row++, x += width, y += width) {
        double squares = 0;
        for (size_t i = 0; i < width; i++) squares += (double)x[i] * (double)x[i];
        double scale = 1.0 / sqrt(squares / (double)width + (double)eps);
        for (size_t i = 0; i < width; i++) y[i] = (float)((double)x[i] * scale * (double)gain[i]);
    }
}

void sp_ref_layer_norm(sp_pool *pool, const float *x, const float *gain, const float *bias, float eps, size_t n_rows,
                       size_t width, size_t gain_rows, float *y)
{
    (void)pool;
    for (size_t row = 0; row < n_rows; row++, x += width, y += width) {
        size_t offset = row % gain_rows * width;
        double sum = 0, squares = 0;
        for (size_t i = 0; i < width; i++) sum += (double)x[i];
        double mean = sum / (double)width;
        for (size_t i = 0; i < width; i++) squares += ((double)x[i] - mean) * ((double)x[i] - mean);
        double scale = 1.0 / sqrt(squares / (double)width + (double)eps);
        for (size_t i = 0; i < width; i++) {
            double shift = bias ? (double)bias[offset + i] : 0.0;
            y[i] = (float)(((double)x[i] - mean) * scale * (double)gain[offset + i] + shift);
        }
    }
}
