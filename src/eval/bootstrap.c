#include "eval/bootstrap.h"

#include <stdint.h>
#include <stdlib.h>

#include "base/arena.h"
#include "base/philox.h"

static int ascending(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

double sp_ratio(const void *data, const size_t *chosen, size_t n_chosen)
{
    const sp_ratio_data *ratio = data;
    double a = 0, b = 0;
    for (size_t i = 0; i < n_chosen; i++) {
        a += ratio->a[chosen[i]];
        b += ratio->b[chosen[i]];
    }
    return b != 0 ? a / b : 0;
}

static double median_of(const sp_median_data *m, const double *values, const size_t *chosen, size_t n_chosen)
{
    size_t n = 0;
    for (size_t i = 0; i < n_chosen; i++)
        for (size_t k = 0; k < m->per_prompt; k++) m->scratch[n++] = values[chosen[i] * m->per_prompt + k];
    qsort(m->scratch, n, sizeof *m->scratch, ascending);
    return n % 2 ? m->scratch[n / 2] : (m->scratch[n / 2 - 1] + m->scratch[n / 2]) / 2;
}

double sp_median(const void *data, const size_t *chosen, size_t n_chosen)
{
    const sp_median_data *m = data;
    double value = median_of(m, m->values, chosen, n_chosen);
    if (!m->others) return value;
    double other = median_of(m, m->others, chosen, n_chosen);
    return other > 0 ? value / other : 0;
}

/* Quantile q of sorted values, linear between neighbours. */
static double quantile(const double *sorted, size_t n, double q)
{
    double at = q * (double)(n - 1);
    size_t low = (size_t)at, high = low + 1 < n ? low + 1 : low;
    return sorted[low] + (sorted[high] - sorted[low]) * (at - (double)low);
}

sp_status sp_bootstrap(sp_statistic *statistic, const void *data, size_t n_prompts, sp_interval *out, sp_error *err)
{
    *out = (sp_interval){0};
    if (n_prompts == 0) return SP_OK;
    size_t *chosen = sp_alloc(n_prompts, sizeof *chosen);
    if (!chosen) return SP_FAIL(err, SP_ENOMEM, "no memory for resamples of %zu prompts; free some", n_prompts);
    for (size_t i = 0; i < n_prompts; i++) chosen[i] = i;
    out->value = statistic(data, chosen, n_prompts);
    out->known = true;
    if (n_prompts > 1) {
        double values[SP_RESAMPLES];
        for (uint32_t sample = 0; sample < SP_RESAMPLES; sample++) {
            for (size_t i = 0; i < n_prompts; i++) {
                uint32_t word = sp_philox(0, sample, (uint32_t)i, SP_DRAW_RESAMPLE, 0).word[0];
                chosen[i] = (size_t)((uint64_t)word * n_prompts >> 32);
            }
            values[sample] = statistic(data, chosen, n_prompts);
        }
        qsort(values, SP_RESAMPLES, sizeof *values, ascending);
        out->low = quantile(values, SP_RESAMPLES, 0.025);
        out->high = quantile(values, SP_RESAMPLES, 0.975);
        out->bounded = true;
    }
    sp_release(chosen);
    return SP_OK;
}
