#include "eval/manifold.h"

#include <math.h>

#include "base/arena.h"

/* Sums that do not wait for each other: nearly all the time of an evaluation by wide features is here. */
static double distance(const float *a, const float *b, size_t width)
{
    enum { SUMS = 8 };
    double sums[SUMS] = {0}, sum = 0;
    size_t i = 0;
    for (; i + SUMS <= width; i += SUMS)
        for (size_t k = 0; k < SUMS; k++)
            sums[k] += ((double)a[i + k] - (double)b[i + k]) * ((double)a[i + k] - (double)b[i + k]);
    for (; i < width; i++) sum += ((double)a[i] - (double)b[i]) * ((double)a[i] - (double)b[i]);
    for (size_t k = 0; k < SUMS; k++) sum += sums[k];
    return sum;
}

/* Squared distance of each member to its k-th nearest other member. */
static void find_radii(const float *set, size_t n, size_t width, double *radii)
{
    for (size_t i = 0; i < n; i++) {
        double nearest[SP_MANIFOLD_NEIGHBOURS];
        for (size_t k = 0; k < SP_MANIFOLD_NEIGHBOURS; k++) nearest[k] = INFINITY;
        for (size_t j = 0; j < n; j++) {
            double d = i == j ? INFINITY : distance(set + i * width, set + j * width, width);
            for (size_t k = 0; k < SP_MANIFOLD_NEIGHBOURS; k++)
                if (d < nearest[k]) {
                    double farther = nearest[k];
                    nearest[k] = d;
                    d = farther;
                }
        }
        radii[i] = nearest[SP_MANIFOLD_NEIGHBOURS - 1];
    }
}

/* Share of points that some ball of the set holds. */
static double covered(const float *set, const double *radii, size_t n, const float *points, size_t n_points,
                      size_t width)
{
    size_t inside = 0;
    for (size_t i = 0; i < n_points; i++) {
        size_t j = 0;
        while (j < n && distance(points + i * width, set + j * width, width) > radii[j]) j++;
        inside += j < n;
    }
    return (double)inside / (double)n_points;
}

sp_status sp_manifold(const float *real, size_t n_real, const float *made, size_t n_made, size_t width,
                      double *precision, double *recall, sp_error *err)
{
    size_t n = n_real > n_made ? n_real : n_made;
    if (n_real <= SP_MANIFOLD_NEIGHBOURS || n_made <= SP_MANIFOLD_NEIGHBOURS)
        return SP_FAIL(err, SP_EARG, "precision and recall of %zu and %zu pictures: expected more than %d of each",
                       n_real, n_made, (int)SP_MANIFOLD_NEIGHBOURS);
    double *radii = sp_alloc(n, sizeof *radii);
    if (!radii) return SP_FAIL(err, SP_ENOMEM, "no memory for the distances of %zu pictures; free some", n);
    find_radii(real, n_real, width, radii);
    *precision = covered(real, radii, n_real, made, n_made, width);
    find_radii(made, n_made, width, radii);
    *recall = covered(made, radii, n_made, real, n_real, width);
    sp_release(radii);
    return SP_OK;
}
