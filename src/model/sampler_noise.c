/* Ancestral sampling of a cosine schedule of 1000 steps, of which a few are taken (Nichol and Dhariwal, arXiv
 * 2102.09672, as MAR uses it): the head gives the noise of the state and, for each dimension, where between its two
 * bounds the logarithm of the variance lies. With A_i the product of 1 - beta up to step i,
 *
 *     x = y / sqrt(A_i) - sqrt(1 / A_i - 1) noise,   mean = c1 x + c2 y,
 *     c1 = beta_i sqrt(A_(i-1)) / (1 - A_i),   c2 = (1 - A_(i-1)) sqrt(1 - beta_i) / (1 - A_i)
 *
 * and the variance lies between that of the posterior, c1 (1 - A_(i-1)) / sqrt(A_(i-1)), and beta_i. */
#include "model/sampler.h"

#include <math.h>

extern const sp_sampler sp_sampler_noise;

enum { SCHEDULE = 1000 };

static double survival(double u)
{
    double c = cos((u + 0.008) / 1.008 * 3.14159265358979323846 / 2);
    return c * c;
}

/* A after the steps up to each of those taken, and which those are: evenly from 0 to the last, halves to even. */
static void space(size_t n, double *products, size_t *taken)
{
    double stride = n > 1 ? (double)(SCHEDULE - 1) / (double)(n - 1) : 1, next = 0, product = 1;
    size_t count = 0;
    for (size_t i = 0; i < SCHEDULE && count < n; i++) {
        double beta = 1 - survival((double)(i + 1) / SCHEDULE) / survival((double)i / SCHEDULE);
        product *= 1 - fmin(beta, 0.999);
        if (i != (size_t)rint(next)) continue;
        products[count] = product;
        taken[count++] = i;
        next += stride;
    }
}

static void fill(const sp_sampler_config *config, sp_sampler_step *steps)
{
    double products[SP_MAX_CHAIN];
    size_t taken[SP_MAX_CHAIN], n = config->steps;
    space(n, products, taken);
    for (size_t i = 1; i < n; i++) {
        double a = products[i], before = products[i - 1], beta = 1 - a / before;
        double c1 = beta * sqrt(before) / (1 - a), c2 = (1 - before) * sqrt(1 - beta) / (1 - a);
        steps[n - 1 - i] = (sp_sampler_step){
            .time = (float)taken[i], .keep = (float)(c1 / sqrt(a) + c2), .weight = (float)(-c1 * sqrt(1 / a - 1)),
            .spread = 1, .low = (float)(0.5 * log(beta * (1 - before) / (1 - a))), .high = (float)(0.5 * log(beta))};
    }
    /* Nothing is left before the first step: c1 = 1, c2 = 0. It adds no noise unless config says how much. */
    steps[n - 1] = (sp_sampler_step){.time = (float)taken[0], .keep = (float)(1 / sqrt(products[0])),
                                     .weight = (float)(-sqrt(1 / products[0] - 1)), .spread = config->terminal_noise};
}

const sp_sampler sp_sampler_noise = {.name = "noise", .learns_deviation = true, .fill = fill};
