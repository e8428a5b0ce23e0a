#include "kernels/ref/ref.h"

void sp_ref_modulate(sp_pool *pool, const float *x, const float *gain, const float *bias, float eps,
                     const float *scale, const float *shift, size_t stride, size_t n_rows, size_t width, float *y)
{
    (void)pool;
    for (size_t row = 0; row < n_rows; row++, x += width, y += width, scale += stride, shift += stride) {
        double sum = 0, squares = 0;
        for (size_t i = 0; i < width; i++) sum += (double)x[i];
        double mean = sum / (double)width;
        for (size_t i = 0; i < width; i++) squares += ((double)x[i] - mean) * ((double)x[i] - mean);
        double factor = 1.0 / sqrt(squares / (double)width + (double)eps);
        for (size_t i = 0; i < width; i++) {
            double u = ((double)x[i] - mean) * factor;
            if (gain) u = u * (double)gain[i] + (double)bias[i];
            y[i] = (float)(u * (1.0 + (double)scale[i]) + (double)shift[i]);
        }
    }
}

void sp_ref_gate_add(sp_pool *pool, const float *x, const float *gate, size_t stride, size_t n_rows, size_t width,
                     float *y)
{
    (void)pool;
    for (size_t row = 0; row < n_rows; row++, x += width, y += width, gate += stride)
        for (size_t i = 0; i < width; i++) y[i] = (float)((double)y[i] + (double)gate[i] * (double)x[i]);
}
