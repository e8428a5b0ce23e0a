#include "kernels/ref/ref.h"

#include "base/arena.h"
#include "base/size.h"

/* Layout: floats [n, 3, 3, k], so that a tap is one run of channels. */
bool sp_ref_pack_conv3x3(sp_weight *out, const void *weights, sp_dtype dtype, size_t n, size_t k, bool round_rows)
{
    size_t count;
    *out = (sp_weight){.n = n, .k = k, .dtype = dtype, .round_rows = round_rows};
    if (!sp_size_mul(n, k, &count) || !sp_size_mul(count, 9, &count)) return false;
    float *data = sp_alloc(count, sizeof *data);
    if (!data) return false;
    for (size_t output = 0; output < n; output++)
        for (size_t channel = 0; channel < k; channel++)
            for (size_t tap = 0; tap < 9; tap++)
                data[(output * 9 + tap) * k + channel] =
                    sp_load_float(weights, dtype, (output * k + channel) * 9 + tap);
    out->data = data;
    out->bytes = count * sizeof *data;
    return true;
}

size_t sp_ref_conv3x3_scratch(const sp_weight *w, sp_plane plane, sp_conv_mode mode, int n_threads)
{
    (void)w, (void)plane, (void)mode, (void)n_threads;
    return 0;
}

/* Row (or column) of the input under row `at` of the padded picture of `size` rows; false in the padding. */
static bool source(sp_conv_mode mode, size_t at, size_t size, size_t *index)
{
    if (mode == SP_CONV_STRIDE2) return *index = at, at < size;
    if (mode == SP_CONV_SAME) return *index = at - 1, at >= 1 && at <= size;
    return *index = (at - 1) / 2, at >= 1 && at <= 2 * size;
}

static double dot(const float *x, const float *weights, size_t k, bool round_rows)
{
    double sum = 0;
    for (size_t i = 0; i < k; i++) {
        float value = round_rows ? sp_bf16_to_f32(sp_f32_to_bf16(x[i])) : x[i];
        sum += (double)value * (double)weights[i];
    }
    return sum;
}

void sp_ref_conv3x3(sp_pool *pool, const sp_weight *w, const float *bias, const float *x, sp_plane plane,
                    sp_conv_mode mode, const float *residual, float *y, void *scratch)
{
    (void)pool, (void)scratch;
    sp_plane out = sp_conv_output(plane, mode, w->n);
    size_t stride = mode == SP_CONV_STRIDE2 ? 2 : 1;
    const float *weights = w->data;
    for (size_t at = 0; at < out.height * out.width * w->n; at++) {
        size_t output = at % w->n, column = at / w->n % out.width, row = at / w->n / out.width;
        double sum = (double)bias[output];
        for (size_t tap = 0; tap < 9; tap++) {
            size_t r, c;
            if (!source(mode, row * stride + tap / 3, plane.height, &r)) continue;
            if (!source(mode, column * stride + tap % 3, plane.width, &c)) continue;
            sum += dot(x + (r * plane.width + c) * w->k, weights + (output * 9 + tap) * w->k, w->k, w->round_rows);
        }
        if (residual) sum += (double)residual[at];
        y[at] = (float)sum;
    }
}
