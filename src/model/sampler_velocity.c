/* Euler-Maruyama on the reverse SDE of a velocity field, in equal steps up to a time below 1, then one step to the data
 * (SphereAR, Ke et al., arXiv 2509.24335). Time 0 is noise, 1 is data: y_t = t x + (1 - t) e, v = x - e, and the score
 * is (t v - y) / (1 - t), so that v dt + (1 - t) score dt = ((1 + t) v - y) dt. */
#include "model/sampler.h"

#include <math.h>

extern const sp_sampler sp_sampler_velocity;

static void fill(const sp_sampler_config *config, sp_sampler_step *steps)
{
    size_t last = config->steps - 1;
    double stop = (double)config->stop, dt = last ? stop / (double)last : 0;
    for (size_t k = 0; k < last; k++) {
        double t = (double)k * dt;
        steps[k] = (sp_sampler_step){.time = (float)(1000 * t), .keep = (float)(1 - dt),
                                     .weight = (float)(dt * (1 + t)), .spread = (float)sqrt(2 * (1 - t) * dt)};
    }
    steps[last] = (sp_sampler_step){.time = (float)(1000 * stop), .keep = 1, .weight = (float)(1 - stop),
                                    .spread = config->terminal_noise};
}

const sp_sampler sp_sampler_velocity = {.name = "velocity", .fill = fill};
