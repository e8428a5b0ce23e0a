/* Rotation of query and key heads by the position's angles. A few kilobytes a row: not worth threads. */
#include "kernels/cpu/simd.h"

extern sp_op_rope SP_CPU(rope);

static void rotate_halves(float *v, const float *c, const float *s, size_t half)
{
    for (size_t j = 0; j < half; j++) {
        float a = v[j], b = v[j + half];
        v[j] = a * c[j] - b * s[j];
        v[j + half] = b * c[j] + a * s[j];
    }
}

static void rotate_pairs(float *v, const float *c, const float *s, size_t half)
{
    for (size_t j = 0; j < half; j++) {
        float a = v[2 * j], b = v[2 * j + 1];
        v[2 * j] = a * c[j] - b * s[j];
        v[2 * j + 1] = b * c[j] + a * s[j];
    }
}

void SP_CPU(rope)(sp_pool *pool, float *x, size_t stride, const float *cosine, const float *sine,
                  const int32_t *position,
                  size_t n_rows, size_t heads, size_t head_dim, bool adjacent)
{
    (void)pool;
    size_t half = head_dim / 2;
    for (size_t row = 0; row < n_rows; row++) {
        const float *c = cosine + (size_t)position[row] * half, *s = sine + (size_t)position[row] * half;
        for (size_t head = 0; head < heads; head++) {
            float *v = x + row * stride + head * head_dim;
            if (adjacent) rotate_pairs(v, c, s, half);
            else rotate_halves(v, c, s, half);
        }
    }
}
