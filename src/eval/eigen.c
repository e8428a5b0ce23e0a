#include "eval/eigen.h"

#include <float.h>
#include <math.h>
#include <string.h>

#include "base/arena.h"

static double dot(const double *x, const double *y, size_t n)
{
    double sum = 0;
    for (size_t i = 0; i < n; i++) sum += x[i] * y[i];
    return sum;
}

/* out [k] = A v for the leading k rows of a. */
static void multiply(const double *a, size_t n, size_t k, const double *v, double *out)
{
    memset(out, 0, k * sizeof *out);
    for (size_t i = 0; i < k; i++) {
        for (size_t j = 0; j < i; j++) out[j] += a[i * n + j] * v[i];
        out[i] += dot(a + i * n, v, i + 1);
    }
}

/* Turns row k before the diagonal into one number beside it, which is returned: A becomes H A H for the reflection
 * H = 1 - scale v v^T of the leading k rows, and so A - v w^T - w v^T. v takes the place of row k; w [k] is scratch. */
static double reflect(double *a, size_t n, size_t k, double *w)
{
    double *v = a + k * n, length = sqrt(dot(v, v, k));
    if (length == 0) return 0;
    double beside = v[k - 1] > 0 ? -length : length, scale = 1 / (length * (length + fabs(v[k - 1])));
    v[k - 1] -= beside;
    multiply(a, n, k, v, w);
    double half = scale * scale / 2 * dot(v, w, k);
    for (size_t i = 0; i < k; i++) w[i] = scale * w[i] - half * v[i];
    for (size_t i = 0; i < k; i++)
        for (size_t j = 0; j <= i; j++) a[i * n + j] -= v[i] * w[j] + w[i] * v[j];
    return beside;
}

/* Eigenvalues below x: negative pivots of the elimination of T - x. squares are those of the numbers beside. */
static size_t count_below(const double *diagonal, const double *squares, size_t n, double x, double least)
{
    size_t count = 0;
    double pivot = 1;
    for (size_t i = 0; i < n; i++) {
        pivot = diagonal[i] - x - (i > 0 ? squares[i] / pivot : 0);
        if (fabs(pivot) < least) pivot = -least;
        count += pivot < 0;
    }
    return count;
}

static void bisect(const double *diagonal, const double *squares, size_t n, double bound, double *values)
{
    double low = -bound, least = fmax(DBL_MIN, DBL_EPSILON * DBL_EPSILON * bound);
    for (size_t k = 0; k < n; k++) {
        double high = bound;
        while (high - low > DBL_EPSILON * bound) {
            double middle = low + (high - low) / 2;
            if (count_below(diagonal, squares, n, middle, least) > k) high = middle;
            else low = middle;
        }
        values[k] = low + (high - low) / 2;
    }
}

sp_status sp_eigenvalues(double *a, size_t n, double *values, sp_error *err)
{
    double *memory = sp_alloc(3, n * sizeof *memory), bound = 0;
    if (!memory) return SP_FAIL(err, SP_ENOMEM, "no memory for the eigenvalues of %zu rows; free some", n);
    double *diagonal = memory, *squares = diagonal + n, *scratch = squares + n;
    for (size_t k = n; k-- > 0;) {
        double beside = k > 0 ? reflect(a, n, k, scratch) : 0;
        diagonal[k] = a[k * n + k];
        squares[k] = beside * beside;
        /* No eigenvalue is further from 0 than the largest sum of a row (Gershgorin). */
        bound = fmax(bound, fabs(diagonal[k]) + fabs(beside));
        if (!isfinite(diagonal[k] + squares[k])) bound = INFINITY;
    }
    sp_status status = SP_OK;
    if (isfinite(bound)) bisect(diagonal, squares, n, 2 * bound, values);
    else
        status = SP_FAIL(err, SP_EFORMAT, "a matrix of %zu rows holds values that are not numbers: its data is damaged",
                         n);
    sp_release(memory);
    return status;
}
