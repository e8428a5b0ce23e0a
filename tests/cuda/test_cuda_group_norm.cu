/* GroupNorm on the device against kernels/ref: the scale and shift it gives, applied to the picture.
 *
 * Tolerance. Sums of distances from a pivot: a thread adds at most 128 of them in float and the rest is double, so the
 * mean is off by 128 u D and the variance by 130 u D^2, u = 2^-24, D the largest distance from the pivot of its group;
 * relative to the deviation s that is at most 130 u (D / s)^2 of the variance, half of it of the result. */
#include "tests/cuda/device_test.cuh"

#include "kernels/cuda/group_norm.cuh"

typedef struct shape {
    size_t height, width, channels, groups;
    float mean, eps; /* mean of the picture, whose deviation is about 0.6 */
} shape;

static const shape shapes[] = {{16, 16, 128, 32, 0, 1e-6f}, {8, 8, 512, 32, 3, 1e-6f}, {33, 31, 32, 8, -40, 1e-6f},
                               {1, 1, 4, 2, 1, 1e-6f},      {5, 7, 6, 3, 0, 0.1f},     {17, 9, 21, 7, 100, 1e-5f},
                               {3, 3, 300, 4, 0, 0.5f},     {40, 16, 8, 8, 7, 1e-6f}};

static std::vector<float> picture(const shape &s)
{
    std::vector<float> x = sp_test_values(s.height * s.width * s.channels, 1);
    for (size_t i = 0; i < x.size(); i++) x[i] += s.mean * (1 + 0.1f * static_cast<float>(i % s.channels % 3));
    return x;
}

static std::vector<float2> affine_of(const shape &s, const std::vector<float> &x, const std::vector<float> &gain,
                                     const std::vector<float> &bias)
{
    sp_plane plane = {s.height, s.width, s.channels};
    size_t stride = (s.channels + 3) / 4 * 4 + 4;
    std::vector<float> rows(s.height * s.width * stride, NAN);
    for (size_t i = 0; i < x.size(); i++) rows[i / s.channels * stride + i % s.channels] = x[i];
    sp_buffer<float> in(rows), scratch(sp_cuda_group_norm_scratch(plane)), gains(gain), biases(bias);
    sp_buffer<float2> out(s.channels);
    sp_cuda_group_norm norm = {};
    norm.x = in.at();
    norm.x_stride = stride;
    norm.plane = plane;
    norm.groups = s.groups;
    norm.eps = s.eps;
    norm.gain = gains.at();
    norm.bias = biases.at();
    norm.affine = out.at();
    norm.scratch = scratch.at();
    SP_TEST_CUDA(sp_cuda_group_norm_run(nullptr, &norm));
    return out.read();
}

/* D / s of a group. */
static float spread_of(const shape &s, const std::vector<float> &x, size_t group)
{
    size_t width = s.channels / s.groups, first = group * width;
    double mean = 0, squares = 0, farthest = 0, count = static_cast<double>(s.height * s.width * width);
    for (size_t i = 0; i < x.size(); i++)
        if (i % s.channels / width == group) mean += static_cast<double>(x[i]) / count;
    for (size_t i = 0; i < x.size(); i++) {
        if (i % s.channels / width != group) continue;
        double offset = static_cast<double>(x[i]) - mean;
        squares += offset * offset;
        farthest = fmax(farthest, fabs(static_cast<double>(x[i]) - static_cast<double>(x[first])));
    }
    return static_cast<float>(farthest / sqrt(squares / count + static_cast<double>(s.eps)));
}

static void every_shape_is_ref(void **)
{
    const float u = 1 / 16777216.0f;
    for (const shape &s : shapes) {
        std::vector<float> x = picture(s), gain = sp_test_values(s.channels, 2), bias = sp_test_values(s.channels, 3);
        std::vector<float> expected(x.size()), found(x.size());
        std::vector<float2> affine = affine_of(s, x, gain, bias);
        sp_ops_find("ref")->group_norm(nullptr, x.data(), sp_plane{s.height, s.width, s.channels}, s.groups, s.eps,
                                       gain.data(), bias.data(), false, expected.data(), nullptr);
        for (size_t i = 0; i < x.size(); i++) {
            float2 a = affine[i % s.channels];
            found[i] = fmaf(x[i], a.x, a.y);
        }
        std::vector<float> spread(s.groups);
        for (size_t group = 0; group < s.groups; group++) spread[group] = spread_of(s, x, group);
        /* scale and shift are rounded once each, and so is the result; they cancel where the mean is large. */
        sp_test_close("group norm", found, expected, [&](size_t i) {
            size_t channel = i % s.channels;
            float d = spread[channel / (s.channels / s.groups)], size = fabsf(expected[i] - bias[channel]);
            float cancelling = fabsf(affine[channel].x * x[i]) + fabsf(affine[channel].y) + fabsf(bias[channel]);
            return u * (130 * d * d * (size + fabsf(gain[channel])) + 3 * cancelling);
        });
    }
}

/* The same bits every time, whatever the rest of the memory holds. */
static void repeats(void **)
{
    shape s = {33, 31, 32, 8, 2, 1e-6f};
    std::vector<float> x = picture(s), gain = sp_test_values(s.channels, 2), bias = sp_test_values(s.channels, 3);
    std::vector<float2> once = affine_of(s, x, gain, bias), again = affine_of(s, x, gain, bias);
    sp_test_equal("again", again.data(), once.data(), once.size());
}

int main()
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(every_shape_is_ref), cmocka_unit_test(repeats)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
