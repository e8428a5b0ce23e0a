#ifndef SP_SERIES_H
#define SP_SERIES_H
/* Measurements of one kind and their order statistics. */
#include <stdbool.h>
#include <stddef.h>

typedef struct sp_series {
    double *values; /* owned */
    size_t count, capacity;
} sp_series;

/* false when memory ran out. */
bool sp_series_add(sp_series *series, double value);

/* Quantile q in [0, 1], linear between neighbours; sorts the values. 0 for no values. */
double sp_series_quantile(sp_series *series, double q);
void sp_series_free(sp_series *series);

#endif
