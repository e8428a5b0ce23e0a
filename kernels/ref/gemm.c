#include "kernels/ref/ref.h"

size_t sp_ref_gemm_scratch(size_t n_rows, size_t k)
{
    (void)n_rows, (void)k;
    return 0;
}

void sp_ref_gemm(sp_pool *pool, const sp_weight *w, const float *x, size_t x_stride, size_t n_rows, float *y,
                 size_t y_stride, sp_gemm_mode mode, void *scratch)
{
    (void)pool, (void)scratch;
    const float *weights = w->data;
    for (size_t row = 0; row < n_rows; row++) {
        for (size_t column = 0; column < w->n; column++) {
            double sum = w->bias ? (double)w->bias[column] : 0.0;
            for (size_t i = 0; i < w->k; i++) {
                float value = x[row * x_stride + i];
                if (w->round_rows) value = sp_bf16_to_f32(sp_f32_to_bf16(value));
                sum += (double)value * (double)weights[column * w->k + i];
            }
            float *out = &y[row * y_stride + column];
            *out = mode == SP_GEMM_ADD ? *out + (float)sum : (float)sum;
        }
    }
}
