#ifndef SP_EIGEN_H
#define SP_EIGEN_H
/* Eigenvalues of symmetric matrices: reflections leave three diagonals, and counts of signs bisect for each eigenvalue
 * (Golub and Van Loan, Matrix Computations, sections 8.3.1 and 8.4.1). About 4/3 n^3 operations, and an error of a few
 * roundings of the largest eigenvalue, whatever the size of the others. */
#include "base/error.h"

/* a [n, n]: its lower triangle is read, and destroyed; values [n] ascend. SP_EFORMAT when a holds something that is not
 * a number. */
SP_CHECK sp_status sp_eigenvalues(double *a, size_t n, double *values, sp_error *err);

#endif
