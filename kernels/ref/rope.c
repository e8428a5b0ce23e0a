#include "kernels/ref/ref.h"

void sp_ref_rope(sp_pool *pool, float *x, size_t stride, const float *cosine, const float *sine,
                 const int32_t *position,
                 size_t n_rows, size_t heads, size_t head_dim, bool adjacent)
{
    (void)pool;
    size_t half = head_dim / 2, step = adjacent ? 1 : half;
    for (size_t row = 0; row < n_rows; row++) {
        const float *c = cosine + (size_t)position[row] * half, *s = sine + (size_t)position[row] * half;
        for (size_t head = 0; head < heads; head++) {
            float *v = x + row * stride + head * head_dim;
            for (size_t j = 0; j < half; j++) {
                float *a = v + (adjacent ? 2 * j : j), *b = a + step;
                double first = (double)*a, second = (double)*b, cj = (double)c[j], sj = (double)s[j];
                *a = (float)(first * cj - second * sj);
                *b = (float)(second * cj + first * sj);
            }
        }
    }
}
