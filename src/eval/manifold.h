#ifndef SP_MANIFOLD_H
#define SP_MANIFOLD_H
/* Improved precision and recall (Kynkaanniemi et al. 2019, equations 1 and 2) over features. A set covers the balls
 * around its members that reach their k-th nearest other member.
 *     precision: share of `made` that lies in what `real` covers
 *     recall: share of `real` that lies in what `made` covers  */
#include "base/error.h"

enum { SP_MANIFOLD_NEIGHBOURS = 3 };

/* real [n_real, width], made [n_made, width]; sets of at most SP_MANIFOLD_NEIGHBOURS members are refused. */
SP_CHECK sp_status sp_manifold(const float *real, size_t n_real, const float *made, size_t n_made, size_t width,
                               double *precision, double *recall, sp_error *err);

#endif
