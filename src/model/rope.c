#include "model/rope.h"

#include <math.h>

static void fill(double position, double base, size_t n, double step, float *cosine, float *sine)
{
    for (size_t i = 0; i < n; i++) {
        double angle = position * pow(base, -step * (double)i);
        cosine[i] = (float)cos(angle);
        sine[i] = (float)sin(angle);
    }
}

void sp_rope_tables(const sp_model_config *config, float *cosine, float *sine)
{
    size_t half = config->head_dim / 2, prefix = config->prefix_length;
    double base = (double)config->rope_base, dim = (double)config->head_dim;
    double origin = (double)config->rope_origin;
    for (size_t row = 0; row < prefix + config->rows * config->columns; row++, cosine += half, sine += half) {
        if (config->rope == SP_ROPE_1D) {
            fill((double)row, base, half, 2.0 / dim, cosine, sine);
        } else if (row < prefix) {
            for (size_t i = 0; i < half; i++) {
                cosine[i] = config->rope_prefix == SP_PREFIX_ZERO ? 0.0f : 1.0f;
                sine[i] = 0.0f;
            }
        } else {
            size_t cell = row - prefix;
            double y = (double)(cell / config->columns) + origin, x = (double)(cell % config->columns) + origin;
            bool swap = config->rope_columns_first;
            fill(swap ? x : y, base, half / 2, 4.0 / dim, cosine, sine);
            fill(swap ? y : x, base, half / 2, 4.0 / dim, cosine + half / 2, sine + half / 2);
        }
    }
}
