#ifndef SP_SAMPLER_H
#define SP_SAMPLER_H
/* Samplers of diffusion heads as tables of Gaussian steps. samplers.def lists them; a sampler is one file that fills
 * the table. With y_k the state, g the head's guided output, v its second half where there is one (the conditional
 * stream's, one number a dimension), and T the temperature, step k is
 *
 *     mean = keep y_k + weight g
 *     deviation = T spread exp(f high + (1 - f) low),   f = (v + 1) / 2; f = 0 without a second half
 *     y_(k+1) = mean + deviation e,   e ~ N(0, I) */
#include <stdbool.h>
#include <stddef.h>

#include "base/error.h"

enum { SP_MAX_CHAIN = 1000 }; /* steps */

typedef struct sp_sampler_step {
    float time; /* the argument of the head's time embedding */
    float keep, weight;
    float spread;    /* 0: the step adds no noise */
    float low, high; /* logarithms of deviations */
} sp_sampler_step;

/* What config.json says of a sampler; each reads what it knows. */
typedef struct sp_sampler_config {
    size_t steps;         /* of the chain, 1 to SP_MAX_CHAIN */
    float stop;           /* velocity: time of the last step, above 0 and below 1 */
    float terminal_noise; /* deviation of the last step; 0: none */
} sp_sampler_config;

typedef struct sp_sampler {
    const char *name;
    bool learns_deviation; /* the head's output has a second half */
    void (*fill)(const sp_sampler_config *config, sp_sampler_step *steps); /* [config.steps] out */
} sp_sampler;

const sp_sampler *sp_sampler_find(const char *name); /* or NULL */
const char *const *sp_sampler_names(void);           /* NULL at the end */

#endif
