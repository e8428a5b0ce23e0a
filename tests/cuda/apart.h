#ifndef SP_TEST_APART_H
#define SP_TEST_APART_H
/* How far rows of two computations are from each other, for tests of what rounds on the way.
 *
 *     assert_as_near("logits", device, ref, exact, rows, width);
 *
 * The device and ref in bf16 round the same numbers and differ in the order of sums; so neither may be further from
 * float arithmetic than twice what the other is: in all, and in the worst row. */
#include "support.h"

static inline double norm_of(const float *x, const float *y, size_t count)
{
    double sum = 0;
    for (size_t i = 0; i < count; i++) {
        double difference = (double)x[i] - (y ? (double)y[i] : 0);
        sum += difference * difference;
    }
    return sqrt(sum);
}

/* Distance of rows, the whole or the worst of them, as a part of their size. */
static inline double apart(const float *x, const float *y, size_t rows, size_t width, bool worst)
{
    double most = 0;
    if (!worst) return norm_of(x, y, rows * width) / norm_of(y, NULL, rows * width);
    for (size_t row = 0; row < rows; row++) most = fmax(most, apart(x + row * width, y + row * width, 1, width, false));
    return most;
}

static inline void assert_as_near(const char *what, const float *device, const float *ref, const float *exact,
                                  size_t rows, size_t width)
{
    for (int worst = 0; worst < 2; worst++) {
        double here = apart(ref, exact, rows, width, worst), there = apart(device, exact, rows, width, worst);
        if (!(there <= 2 * here && here <= 2 * there && here > 0))
            fail_msg("%s are %.4g from float arithmetic, ref in bf16 %.4g", what, there, here);
    }
}

#endif
