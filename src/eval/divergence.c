#include "eval/divergence.h"

#include <math.h>

static double total(const uint64_t *bins, size_t n)
{
    double sum = 0;
    for (size_t i = 0; i < n; i++) sum += (double)bins[i];
    return sum;
}

double sp_jensen_shannon(const uint64_t *a, const uint64_t *b, size_t n)
{
    double all_a = total(a, n), all_b = total(b, n), sum = 0;
    if (all_a == 0 || all_b == 0) return 0;
    for (size_t i = 0; i < n; i++) {
        double p = (double)a[i] / all_a, q = (double)b[i] / all_b, mean = (p + q) / 2;
        if (p > 0) sum += p * log2(p / mean) / 2;
        if (q > 0) sum += q * log2(q / mean) / 2;
    }
    return fmax(sum, 0);
}

double sp_uniform_distance(const uint64_t *bins, size_t n)
{
    double all = total(bins, n), below = 0, worst = 0;
    if (all == 0) return 0;
    for (size_t i = 0; i < n; i++) {
        below += (double)bins[i];
        worst = fmax(worst, fabs(below / all - (double)(i + 1) / (double)n));
    }
    return worst;
}

double sp_variation_at_least(const uint64_t *bins, size_t n)
{
    double all = total(bins, n);
    return all > 0 ? fmax(sp_uniform_distance(bins, n) - 1.358 / sqrt(all), 0) : 0;
}
