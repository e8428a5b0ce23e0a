#ifndef SP_DIVERGENCE_H
#define SP_DIVERGENCE_H
/* Distances between counted laws. */
#include <stddef.h>
#include <stdint.h>

/* Jensen-Shannon divergence in bits, 0 to 1, of two histograms [n]; 0 when one of them is empty. */
double sp_jensen_shannon(const uint64_t *a, const uint64_t *b, size_t n);

/* Kolmogorov-Smirnov distance, at the bins' edges, between a histogram [n] of equal bins over [0, 1] and the uniform
 * law. */
double sp_uniform_distance(const uint64_t *bins, size_t n);

/* How much of the mean total variation between the laws that tokens were drawn from and the target's the ranks show:
 * the distance above less 1.358 / sqrt(count), not below 0. Ranks of exact rules give 0 nineteen times of twenty
 * (Massart 1990). count is the sum of the bins. */
double sp_variation_at_least(const uint64_t *bins, size_t n);

#endif
