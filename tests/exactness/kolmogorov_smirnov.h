#ifndef SP_KOLMOGOROV_SMIRNOV_H
#define SP_KOLMOGOROV_SMIRNOV_H
/* Kolmogorov-Smirnov: how far samples are from each other or from a normal law.
 *
 *     assert_true(ks_two(a, n, b, m) < KS_LIMIT);                      // two samples of one law
 *     assert_true(ks_normal(x, n, mean, deviation) < KS_LIMIT); */
#include "support.h"

/* Exceeded with probability 0.001 when the law is the same. */
#define KS_LIMIT 1.95

static inline int compare_numbers(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* Two samples: sqrt(nm / (n + m)) D. Sorts both. */
static inline double ks_two(double *a, size_t n, double *b, size_t m)
{
    double most = 0;
    size_t i = 0, j = 0;
    qsort(a, n, sizeof *a, compare_numbers);
    qsort(b, m, sizeof *b, compare_numbers);
    while (i < n && j < m) {
        double x = fmin(a[i], b[j]);
        while (i < n && a[i] <= x) i++;
        while (j < m && b[j] <= x) j++;
        most = fmax(most, fabs((double)i / (double)n - (double)j / (double)m));
    }
    return most * sqrt((double)n * (double)m / (double)(n + m));
}

/* One sample against N(mean, deviation^2): sqrt(n) D. Sorts it. */
static inline double ks_normal(double *x, size_t n, double mean, double deviation)
{
    double most = 0;
    qsort(x, n, sizeof *x, compare_numbers);
    for (size_t i = 0; i < n; i++) {
        double law = 0.5 * erfc(-(x[i] - mean) / deviation * M_SQRT1_2);
        most = fmax(most, fmax(law - (double)i / (double)n, (double)(i + 1) / (double)n - law));
    }
    return most * sqrt((double)n);
}

#endif
