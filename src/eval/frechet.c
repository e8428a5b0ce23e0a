#include "eval/frechet.h"

#include <math.h>
#include <string.h>

#include "base/arena.h"
#include "base/size.h"
#include "eval/eigen.h"

/* One set: its mean [width], and rows of a factor F [rank, width] of its covariance, F^T F. */
typedef struct fitted {
    size_t rank;
    double *mean, *rows;
} fitted;

static double dot(const double *x, const double *y, size_t n)
{
    double sum = 0;
    for (size_t i = 0; i < n; i++) sum += x[i] * y[i];
    return sum;
}

static size_t smaller(size_t a, size_t b) { return a < b ? a : b; }

/* The upper triangle of a covariance [width, width] becomes its Cholesky factor. A feature that depends on those before
 * it has nothing left, or a rounding, which stays one: off the diagonal there are only roundings too. */
static void factor(double *rows, size_t width)
{
    for (size_t k = 0; k < width; k++) {
        double *row = rows + k * width, pivot = row[k];
        for (size_t i = k; i < width; i++) row[i] = pivot > 0 ? row[i] / sqrt(pivot) : 0;
        for (size_t i = k + 1; i < width && pivot > 0; i++)
            for (size_t j = i; j < width; j++) rows[i * width + j] -= row[i] * row[j];
    }
}

/* rows += x x^T, its upper triangle. */
static void add_square(const double *x, size_t width, double *rows)
{
    for (size_t i = 0; i < width; i++)
        for (size_t j = i; j < width; j++) rows[i * width + j] += x[i] * x[j];
}

/* Fewer pictures than features: the centred pictures are a factor already. scratch [width]. */
static void fit(const float *x, size_t n, size_t width, fitted *out, double *scratch)
{
    double *mean = out->mean, *rows = out->rows, root = sqrt((double)n - 1);
    memset(mean, 0, width * sizeof *mean);
    memset(rows, 0, out->rank * width * sizeof *rows);
    for (size_t r = 0; r < n; r++)
        for (size_t i = 0; i < width; i++) mean[i] += (double)x[r * width + i] / (double)n;
    for (size_t r = 0; r < n; r++) {
        double *centred = n <= width ? rows + r * width : scratch;
        for (size_t i = 0; i < width; i++) centred[i] = ((double)x[r * width + i] - mean[i]) / root;
        if (n > width) add_square(centred, width, rows);
    }
    if (n > width) factor(rows, width);
}

/* tr (A B)^1/2. For A = F^T F and B = G^T G the product has the eigenvalues of M M^T, M = F G^T: those of A B that are
 * not 0, however few pictures there are. Rounding leaves small negative ones where there is no variance. product holds
 * M, square M M^T. */
static sp_status trace_of_root(const fitted *a, const fitted *b, size_t width, double *product, double *square,
                               double *values, double *sum, sp_error *err)
{
    for (size_t i = 0; i < a->rank; i++)
        for (size_t j = 0; j < b->rank; j++)
            product[i * b->rank + j] = dot(a->rows + i * width, b->rows + j * width, width);
    for (size_t i = 0; i < a->rank; i++)
        for (size_t j = 0; j <= i; j++)
            square[i * a->rank + j] = dot(product + i * b->rank, product + j * b->rank, b->rank);
    SP_TRY(sp_eigenvalues(square, a->rank, values, err));
    *sum = 0;
    for (size_t k = 0; k < a->rank; k++) *sum += sqrt(fmax(values[k], 0));
    return SP_OK;
}

static double trace(const fitted *set, size_t width) { return dot(set->rows, set->rows, set->rank * width); }

sp_status sp_frechet(const float *a, size_t n_a, const float *b, size_t n_b, size_t width, double *distance,
                     sp_error *err)
{
    size_t count = 0;
    if (n_a < 2 || n_b < 2)
        return SP_FAIL(err, SP_EARG, "Frechet distance of %zu and %zu pictures: expected two or more of each", n_a,
                       n_b);
    if (n_a > n_b) return sp_frechet(b, n_b, a, n_a, width, distance, err);
    fitted first = {.rank = smaller(n_a, width)}, second = {.rank = smaller(n_b, width)};
    /* Two factors, two products no larger, four rows. */
    SP_TRY(sp_size_product(&count, err, "covariances", 4, second.rank + 1, width, 1));
    double *memory = sp_alloc(count, sizeof *memory);
    if (!memory) return SP_FAIL(err, SP_ENOMEM, "no memory for covariances of %zu features; free some", width);
    first.rows = memory;
    second.rows = first.rows + second.rank * width;
    double *product = second.rows + second.rank * width, *square = product + second.rank * width;
    first.mean = square + second.rank * width;
    second.mean = first.mean + width;
    double *scratch = second.mean + width, *values = scratch + width;
    double between = 0, root = 0;
    fit(a, n_a, width, &first, scratch);
    fit(b, n_b, width, &second, scratch);
    for (size_t i = 0; i < width; i++) between += pow(first.mean[i] - second.mean[i], 2);
    double sum = between + trace(&first, width) + trace(&second, width);
    sp_status status = trace_of_root(&first, &second, width, product, square, values, &root, err);
    if (status == SP_OK && !isfinite(sum))
        status = SP_FAIL(err, SP_EFORMAT, "features hold values that are not numbers: their data is damaged");
    sp_release(memory);
    *distance = fmax(sum - 2 * root, 0);
    return status;
}
