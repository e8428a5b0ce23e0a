#include "eval/frechet.h"

#include <math.h>
#include <string.h>

#include "base/arena.h"
#include "base/size.h"
#include "eval/eigen.h"

/* Mean [width] and covariance [width, width] of rows x [n, width]; centred [width] is scratch. */
static void fit(const float *x, size_t n, size_t width, double *mean, double *covariance, double *centred)
{
    memset(mean, 0, width * sizeof *mean);
    memset(covariance, 0, width * width * sizeof *covariance);
    for (size_t r = 0; r < n; r++)
        for (size_t i = 0; i < width; i++) mean[i] += (double)x[r * width + i] / (double)n;
    for (size_t r = 0; r < n; r++) {
        for (size_t i = 0; i < width; i++) centred[i] = (double)x[r * width + i] - mean[i];
        for (size_t i = 0; i < width; i++)
            for (size_t j = 0; j <= i; j++) covariance[i * width + j] += centred[i] * centred[j] / (double)(n - 1);
    }
    for (size_t i = 0; i < width; i++)
        for (size_t j = i + 1; j < width; j++) covariance[i * width + j] = covariance[j * width + i];
}

static double trace(const double *a, size_t n)
{
    double sum = 0;
    for (size_t i = 0; i < n; i++) sum += a[i * n + i];
    return sum;
}

/* out = W B W^T, which is symmetric; half is scratch; all [n, n]. */
static void congruent(const double *w, const double *b, size_t n, double *half, double *out)
{
    for (size_t i = 0; i < n; i++)
        for (size_t j = 0; j < n; j++) {
            double sum = 0;
            for (size_t k = 0; k < n; k++) sum += w[i * n + k] * b[j * n + k];
            half[i * n + j] = sum;
        }
    for (size_t i = 0; i < n; i++)
        for (size_t j = 0; j <= i; j++) {
            double sum = 0;
            for (size_t k = 0; k < n; k++) sum += half[i * n + k] * w[j * n + k];
            out[i * n + j] = out[j * n + i] = sum;
        }
}

/* tr (A B)^1/2. With A = V^T L V the product has the eigenvalues of W B W^T, W = L^1/2 V, which is symmetric and not
 * negative. Rounding leaves small negative eigenvalues where there is no variance. */
static sp_status trace_of_root(double *a, const double *b, size_t n, double *values, double *vectors, double *half,
                               double *sum, sp_error *err)
{
    SP_TRY(sp_eigen(a, n, values, vectors, err));
    for (size_t k = 0; k < n; k++)
        for (size_t i = 0; i < n; i++) vectors[k * n + i] *= sqrt(fmax(values[k], 0));
    congruent(vectors, b, n, half, a);
    SP_TRY(sp_eigen(a, n, values, NULL, err));
    *sum = 0;
    for (size_t k = 0; k < n; k++) *sum += sqrt(fmax(values[k], 0));
    return SP_OK;
}

sp_status sp_frechet(const float *a, size_t n_a, const float *b, size_t n_b, size_t width, double *distance,
                     sp_error *err)
{
    size_t count = 0;
    if (n_a < 2 || n_b < 2)
        return SP_FAIL(err, SP_EARG, "Frechet distance of %zu and %zu pictures: expected two or more of each", n_a,
                       n_b);
    SP_TRY(sp_size_product(&count, err, "covariances", 4, width, width + 1, 1));
    double *memory = sp_alloc(count, sizeof *memory);
    if (!memory) return SP_FAIL(err, SP_ENOMEM, "no memory for covariances of %zu features; free some", width);
    size_t square = width * width;
    double *first = memory, *second = first + square, *vectors = second + square, *half = vectors + square;
    double *mean_a = half + square, *mean_b = mean_a + width, *values = mean_b + width, *centred = values + width;
    double between = 0, root = 0;
    fit(a, n_a, width, mean_a, first, centred);
    fit(b, n_b, width, mean_b, second, centred);
    for (size_t i = 0; i < width; i++) between += (mean_a[i] - mean_b[i]) * (mean_a[i] - mean_b[i]);
    double sum = between + trace(first, width) + trace(second, width);
    sp_status status = trace_of_root(first, second, width, values, vectors, half, &root, err);
    sp_release(memory);
    *distance = fmax(sum - 2 * root, 0);
    return status;
}
