#include "kernels/ref/ref.h"

static double silu(double x) { return x / (1.0 + exp(-x)); }

void sp_ref_swiglu(sp_pool *pool, const float *x, size_t n_rows, size_t width, float *y)
{
    (void)pool;
    for (size_t row = 0; row < n_rows; row++) {
        for (size_t i = 0; i < width; i++) {
            double gate = (double)x[2 * row * width + i], up = (double)x[(2 * row + 1) * width + i];
            y[row * width + i] = (float)(silu(gate) * up);
        }
    }
}

void sp_ref_silu(sp_pool *pool, const float *x, const float *bias, size_t n_rows, size_t width, float *y)
{
    (void)pool;
    for (size_t row = 0; row < n_rows; row++)
        for (size_t i = 0; i < width; i++)
            y[row * width + i] = (float)silu((double)x[row * width + i] + (bias ? (double)bias[i] : 0.0));
}

void sp_ref_gelu(sp_pool *pool, float *x, size_t count, bool tanh_form)
{
    (void)pool;
    for (size_t i = 0; i < count; i++) {
        double v = (double)x[i];
        double cube = 0.79788456080286536 * (v + 0.044715 * v * v * v);
        x[i] = (float)(0.5 * v * (1.0 + (tanh_form ? tanh(cube) : erf(v * 0.70710678118654752))));
    }
}
