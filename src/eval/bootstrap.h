#ifndef SP_BOOTSTRAP_H
#define SP_BOOTSTRAP_H
/* 95 % confidence intervals over prompts by the percentile bootstrap (Efron 1979): prompts are drawn with replacement,
 * all pictures of a prompt together, SP_RESAMPLES times; the interval is from the 2.5 % to the 97.5 % quantile of the
 * statistic. Draws are Philox of a fixed seed, so the same measurements give the same interval.
 *
 *     sp_ratio_data data = {passes, pictures};
 *     SP_TRY(sp_bootstrap(sp_ratio, &data, n_prompts, &nfe, err));  */
#include <stdbool.h>

#include "base/error.h"

enum { SP_RESAMPLES = 1000 };

typedef struct sp_interval {
    double value, low, high;
    bool known;    /* value is; a setting without the measurement has none */
    bool bounded;  /* low and high are, which takes two prompts */
} sp_interval;

/* The statistic over the prompts chosen [n_chosen], which may repeat. */
typedef double sp_statistic(const void *data, const size_t *chosen, size_t n_chosen);

/* Sum of a over sum of b, values a prompt. */
typedef struct sp_ratio_data {
    const double *a, *b;
} sp_ratio_data;
sp_statistic sp_ratio;

/* Median of per_prompt values a prompt, over the median of others unless that is NULL. */
typedef struct sp_median_data {
    const double *values, *others; /* [n_prompts, per_prompt] */
    size_t per_prompt;
    double *scratch; /* [n_prompts * per_prompt] */
} sp_median_data;
sp_statistic sp_median;

SP_CHECK sp_status sp_bootstrap(sp_statistic *statistic, const void *data, size_t n_prompts, sp_interval *out,
                                sp_error *err);

#endif
