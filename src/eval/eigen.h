#ifndef SP_EIGEN_H
#define SP_EIGEN_H
/* Eigenvalues and eigenvectors of small symmetric matrices by cyclic Jacobi rotations (Golub and Van Loan, Matrix
 * Computations, section 8.5): slow beyond a thousand rows, accurate to the last digits, and short. */
#include "base/error.h"

/* a [n, n] symmetric, destroyed; values [n] in no order; row k of vectors [n, n] belongs to values[k], NULL if they are
 * not wanted. SP_EFORMAT when a holds something that is not a number. */
SP_CHECK sp_status sp_eigen(double *a, size_t n, double *values, double *vectors, sp_error *err);

#endif
