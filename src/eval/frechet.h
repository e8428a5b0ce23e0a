#ifndef SP_FRECHET_H
#define SP_FRECHET_H
/* Frechet distance between Gaussians fitted to two sets of features (Heusel et al. 2017, equation 6):
 *
 *     |m_a - m_b|^2 + tr(A + B - 2 (A B)^1/2)
 *
 * m are means, A and B covariances with divisor n - 1. It depends on the features and on the number of pictures: small
 * sets are further apart than large ones of the same law, so compare only sets of the same size. */
#include "base/error.h"

/* a [n_a, width], b [n_b, width], two rows each at least. */
SP_CHECK sp_status sp_frechet(const float *a, size_t n_a, const float *b, size_t n_b, size_t width, double *distance,
                              sp_error *err);

#endif
