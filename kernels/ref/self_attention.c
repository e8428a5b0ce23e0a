#include "kernels/ref/ref.h"

size_t sp_ref_self_attention_scratch(size_t n, size_t width, int n_threads)
{
    (void)width, (void)n_threads;
    return n * sizeof(double);
}

void sp_ref_self_attention(sp_pool *pool, const float *q, const float *k, const float *v, size_t n, size_t width,
                           float scale, float *out, void *scratch)
{
    (void)pool;
    double *weight = scratch;
    for (size_t row = 0; row < n; row++) {
        double top = -INFINITY, total = 0;
        for (size_t key = 0; key < n; key++) {
            double dot = 0;
            for (size_t i = 0; i < width; i++) dot += (double)q[row * width + i] * (double)k[key * width + i];
            weight[key] = dot * (double)scale;
            top = fmax(top, weight[key]);
        }
        for (size_t key = 0; key < n; key++) total += weight[key] = exp(weight[key] - top);
        for (size_t i = 0; i < width; i++) {
            double sum = 0;
            for (size_t key = 0; key < n; key++) sum += weight[key] * (double)v[key * width + i];
            out[row * width + i] = (float)(sum / total);
        }
    }
}
