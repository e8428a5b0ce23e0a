#ifndef SP_TEST_NEARNESS_H
#define SP_TEST_NEARNESS_H
/* How far a device in bf16 is from float arithmetic, for tests in C that hold it to what kernels/ref in bf16 is. */
#include "unit/checkpoint.h"

/* Largest distance of a row from the exact one, as a part of its size. */
static inline double apart(const float *x, const float *exact, size_t rows, size_t width)
{
    double most = 0;
    for (size_t row = 0; row < rows; row++, x += width, exact += width) {
        double sum = 0, size = 0;
        for (size_t i = 0; i < width; i++) {
            sum += pow((double)x[i] - (double)exact[i], 2);
            size += pow((double)exact[i], 2);
        }
        assert_true(isfinite(sum));
        most = fmax(most, sqrt(sum / size));
    }
    return most;
}

/* As between back ends: bf16 moves a number by up to D from f32, measured on ref, and another order of sums can
 * round an activation the other way and so move it by as much again. Deviations are expf of such a number. */
static inline void near_reference(const char *what, size_t n, const float *found, const float *exact,
                                  const float *rounded)
{
    float moved = 0;
    for (size_t i = 0; i < n; i++) moved = fmaxf(moved, fabsf(exact[i] - rounded[i]));
    for (size_t i = 0; i < n; i++)
        if (!(fabsf(found[i] - exact[i]) <= 2 * moved + 1e-6f * fabsf(exact[i])))
            fail_msg("%s: number %zu is %.9g, expected %.9g within %.3g", what, i, (double)found[i], (double)exact[i],
                     2 * (double)moved);
}

/* Values of a checkpoint that is open: offset + scale * a value of its own in [-1, 1). */
static inline void fill_entry(checkpoint *c, size_t index, float offset, float scale)
{
    const entry *e = &c->entries[index];
    for (size_t j = 0; j < e->count; j++)
        c->data[e->offset + j] = sp_f32_to_bf16(offset + scale * sp_test_value((uint32_t)index, j));
}

#endif
