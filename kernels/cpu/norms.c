/* Row-wise norms. One row is one order of sums: lanes by index modulo SP_LANES, then the lanes together. */
#include "kernels/cpu/moment.h"

#include <math.h>

extern sp_op_rms_norm SP_CPU(rms_norm);
extern sp_op_layer_norm SP_CPU(layer_norm);

/* y = (x - shift) * scale * gain + bias */
static void affine(const float *x, float shift, float scale, const float *gain, const float *bias, size_t width,
                   float *y)
{
    sp_vec centre = sp_vec_set(shift), factor = sp_vec_set(scale);
    for (size_t i = 0; i < width; i += SP_LANES) {
        size_t live = width - i < SP_LANES ? width - i : SP_LANES;
        sp_vec v = sp_vec_mul(sp_vec_sub(sp_vec_load_n(x + i, live), centre), factor);
        v = sp_vec_mul(v, sp_vec_load_n(gain + i, live));
        if (bias) v = sp_vec_add(v, sp_vec_load_n(bias + i, live));
        sp_vec_store_n(y + i, v, live);
    }
}

void SP_CPU(rms_norm)(sp_pool *pool, const float *x, const float *gain, float eps, size_t n_rows, size_t width,
                      float *y)
{
    (void)pool;
    for (size_t row = 0; row < n_rows; row++) {
        const float *in = x + row * width;
        float scale = 1.0f / sqrtf(sp_moment(in, 0, width, 2) / (float)width + eps);
        affine(in, 0, scale, gain, NULL, width, y + row * width);
    }
}

void SP_CPU(layer_norm)(sp_pool *pool, const float *x, const float *gain, const float *bias, float eps, size_t n_rows,
                        size_t width, size_t gain_rows, float *y)
{
    (void)pool;
    for (size_t row = 0; row < n_rows; row++) {
        const float *in = x + row * width;
        size_t offset = row % gain_rows * width;
        float mean = sp_moment(in, 0, width, 1) / (float)width;
        float scale = 1.0f / sqrtf(sp_moment(in, mean, width, 2) / (float)width + eps);
        affine(in, mean, scale, gain + offset, bias ? bias + offset : NULL, width, y + row * width);
    }
}
