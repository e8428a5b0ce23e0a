#include "eval/eigen.h"

#include <float.h>
#include <math.h>
#include <string.h>

/* Jacobi converges quadratically at the end; matrices of a thousand rows take about ten sweeps. */
enum { MOST_SWEEPS = 60 };

static double squares(const double *a, size_t n, int diagonal)
{
    double sum = 0;
    for (size_t i = 0; i < n; i++)
        for (size_t j = 0; j < n; j++)
            if ((i == j) == diagonal) sum += a[i * n + j] * a[i * n + j];
    return sum;
}

/* (x, y) = (c x - s y, s x + c y) for two rows. */
static void rotate(double *x, double *y, size_t n, double c, double s)
{
    for (size_t k = 0; k < n; k++) {
        double before = x[k];
        x[k] = c * before - s * y[k];
        y[k] = s * before + c * y[k];
    }
}

/* Makes a[p][q] zero: rows p and q turn, then columns p and q. */
static void annihilate(double *a, size_t n, size_t p, size_t q, double *vectors)
{
    double apq = a[p * n + q];
    if (apq == 0) return;
    double theta = (a[q * n + q] - a[p * n + p]) / (2 * apq);
    double t = (theta >= 0 ? 1 : -1) / (fabs(theta) + sqrt(theta * theta + 1));
    double c = 1 / sqrt(t * t + 1), s = t * c;
    rotate(a + p * n, a + q * n, n, c, s);
    for (size_t k = 0; k < n; k++) {
        double x = a[k * n + p], y = a[k * n + q];
        a[k * n + p] = c * x - s * y;
        a[k * n + q] = s * x + c * y;
    }
    a[p * n + q] = a[q * n + p] = 0;
    if (vectors) rotate(vectors + p * n, vectors + q * n, n, c, s);
}

sp_status sp_eigen(double *a, size_t n, double *values, double *vectors, sp_error *err)
{
    if (vectors) {
        memset(vectors, 0, n * n * sizeof *vectors);
        for (size_t i = 0; i < n; i++) vectors[i * n + i] = 1;
    }
    double scale = squares(a, n, 0) + squares(a, n, 1);
    if (!isfinite(scale))
        return SP_FAIL(err, SP_EFORMAT, "a matrix of %zu rows holds values that are not numbers: its data is damaged",
                       n);
    for (int sweep = 0; sweep < MOST_SWEEPS && squares(a, n, 0) > DBL_EPSILON * DBL_EPSILON * scale; sweep++)
        for (size_t p = 0; p + 1 < n; p++)
            for (size_t q = p + 1; q < n; q++) annihilate(a, n, p, q, vectors);
    for (size_t i = 0; i < n; i++) values[i] = a[i * n + i];
    return SP_OK;
}
