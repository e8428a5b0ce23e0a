#include "cli/series.h"

#include <stdlib.h>

bool sp_series_add(sp_series *series, double value)
{
    if (series->count == series->capacity) {
        size_t capacity = series->capacity > 0 ? 2 * series->capacity : 64;
        double *values = reallocarray(series->values, capacity, sizeof *values);
        if (values == NULL) return false;
        series->values = values;
        series->capacity = capacity;
    }
    series->values[series->count++] = value;
    return true;
}

static int compare(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

double sp_series_quantile(sp_series *series, double q)
{
    if (series->count == 0) return 0;
    qsort(series->values, series->count, sizeof *series->values, compare);
    double at = q * (double)(series->count - 1);
    size_t low = (size_t)at, high = low + 1 < series->count ? low + 1 : low;
    return series->values[low] + (series->values[high] - series->values[low]) * (at - (double)low);
}

void sp_series_free(sp_series *series)
{
    free(series->values);
    *series = (sp_series){0};
}
