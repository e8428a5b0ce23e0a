/* Convolutions on the device against kernels/ref: every size, tile and way out, with and without a norm before.
 *
 * Tolerance. An output is m = size^2 k products of bf16 numbers, exact in float, and a bias and a residual. A tensor
 * core adds some at a time and cuts what falls below its sum: each addition is off by at most u = 2^-23 of what the sum
 * can be, S = sum |x w| + |bias| + |residual|, so |error| <= (m + 2) u S; ref rounds once more. With swish an input may
 * be rounded to the bf16 number beside that of ref, as sp_fast_swish is coarse: 2^-8 of each product, so of S. */
#include <stdio.h>

#include "tests/cuda/device_test.cuh"

extern "C" {
#include "base/arena.h"
}
#include "kernels/cuda/conv.cuh"

typedef struct shape {
    size_t height, width, k, n;
} shape;

/* Of real codecs cut small in area, and odd ones. */
static const shape shapes[] = {{16, 16, 32, 128}, {8, 8, 64, 96}, {8, 17, 40, 3},   {4, 5, 8, 64}, {3, 3, 5, 7},
                               {1, 1, 1, 1},      {5, 9, 33, 130}, {12, 20, 20, 70}, {2, 33, 3, 12}};

typedef struct call {
    shape s;
    int size, multiprocessors; /* of which the tile depends */
    bool upsample, norm, swish, residual;
} call;

static size_t pixels_of(const call &c) { return c.s.height * c.s.width * (c.upsample ? 4 : 1); }

/* Rows of `count` values in rows of `stride`, NaN between. */
static std::vector<float> spread(const std::vector<float> &x, size_t count, size_t stride)
{
    std::vector<float> out(x.size() / count * stride, NAN);
    for (size_t i = 0; i < x.size(); i++) out[i / count * stride + i % count] = x[i];
    return out;
}

/* What a call reads: weights are bf16 numbers, absolute all without a sign. */
typedef struct inputs {
    std::vector<float> x, weights, bias, residual, scale, shift;
} inputs;

static inputs make_inputs(const call &c, bool absolute)
{
    size_t taps = static_cast<size_t>(c.size * c.size);
    inputs in = {sp_test_values(c.s.height * c.s.width * c.s.k, 1),
                 sp_test_rounded(sp_test_values(c.s.n * c.s.k * taps, 2)),
                 sp_test_values(c.s.n, 3),
                 sp_test_values(pixels_of(c) * c.s.n, 4),
                 sp_test_values(c.s.k, 5),
                 sp_test_values(c.s.k, 6)};
    for (size_t i = 0; i < in.x.size(); i++) {
        size_t channel = i % c.s.k;
        if (c.norm) in.x[i] = fmaf(in.x[i], in.scale[channel], in.shift[channel]);
        if (c.swish) in.x[i] = in.x[i] / (1 + expf(-in.x[i]));
    }
    if (!absolute) return in;
    for (std::vector<float> *v : {&in.x, &in.weights, &in.bias, &in.residual})
        for (float &value : *v) value = fabsf(value);
    return in;
}

static std::vector<float> reference(const call &c, bool absolute)
{
    inputs in = make_inputs(c, absolute);
    std::vector<float> x = sp_test_rounded(in.x), y(pixels_of(c) * c.s.n);
    const float *residual = c.residual ? in.residual.data() : nullptr;
    if (c.size == 3) {
        const sp_ops *ref = sp_ops_find("ref");
        sp_weight w;
        assert_true(ref->pack_conv3x3(&w, in.weights.data(), SP_F32, c.s.n, c.s.k, true));
        ref->conv3x3(nullptr, &w, in.bias.data(), x.data(), sp_plane{c.s.height, c.s.width, c.s.k},
                     c.upsample ? SP_CONV_UPSAMPLE : SP_CONV_SAME, residual, y.data(), nullptr);
        sp_release(w.data);
        return y;
    }
    for (size_t i = 0; i < y.size(); i++) {
        double sum = in.bias[i % c.s.n];
        for (size_t j = 0; j < c.s.k; j++)
            sum += static_cast<double>(x[i / c.s.n * c.s.k + j]) * in.weights[i % c.s.n * c.s.k + j];
        y[i] = static_cast<float>(sum + (residual ? residual[i] : 0.0f));
    }
    return y;
}

static std::vector<uint16_t> pack(const call &c, const inputs &in)
{
    size_t size = static_cast<size_t>(c.size);
    std::vector<uint16_t> out(sp_cuda_packed_count(c.s.n, c.s.k, size));
    sp_cuda_pack_conv(in.weights.data(), SP_F32, c.s.n, c.s.k, size, out.data());
    return out;
}

/* The rows of the result, whose ends must still be NaN. */
static std::vector<float> convolve(const call &c)
{
    call plain = c;
    plain.norm = plain.swish = false;
    inputs in = make_inputs(plain, false);
    size_t k_stride = sp_cuda_stride(c.s.k), n_stride = sp_cuda_stride(c.s.n) + 4, pixels = pixels_of(c);
    std::vector<float2> affine(c.s.k);
    for (size_t i = 0; i < c.s.k; i++) affine[i] = make_float2(in.scale[i], in.shift[i]);
    sp_buffer<float> x(spread(in.x, c.s.k, k_stride)), bias(in.bias), y(pixels * n_stride);
    sp_buffer<float2> scale_shift(affine);
    sp_buffer<uint16_t> weights(pack(c, in));
    if (c.residual) y.fill(spread(in.residual, c.s.n, n_stride)); /* in place */
    sp_cuda_conv conv = {};
    conv.size = c.size;
    conv.upsample = c.upsample;
    conv.in = sp_plane{c.s.height, c.s.width, c.s.k};
    conv.n = c.s.n;
    conv.x = x.at();
    conv.x_stride = k_stride;
    conv.affine = c.norm ? scale_shift.at() : nullptr;
    conv.swish = c.swish;
    conv.weights = sp_cuda_packed(weights.at(), c.s.n);
    conv.bias = bias.at();
    conv.residual = c.residual ? y.at() : nullptr;
    conv.y = y.at();
    conv.y_stride = n_stride;
    SP_TEST_CUDA(sp_cuda_convolve(nullptr, &conv, c.multiprocessors));
    std::vector<float> rows = y.read(), out(pixels * c.s.n);
    for (size_t i = 0; i < rows.size(); i++) {
        if (i % n_stride < c.s.n) out[i / n_stride * c.s.n + i % n_stride] = rows[i];
        else if (!isnan(rows[i])) fail_msg("float %zu between rows was written", i);
    }
    return out;
}

static void check(const call &c)
{
    std::vector<float> expected = reference(c, false), magnitude = reference(c, true), found = convolve(c);
    float m = static_cast<float>(c.size * c.size) * static_cast<float>(c.s.k), u = 1 / 8388608.0f;
    char what[96];
    snprintf(what, sizeof what, "size %d%s%s [%zu, %zu, %zu] -> %zu", c.size, c.upsample ? " doubled" : "",
             c.swish ? " swish" : "", c.s.height, c.s.width, c.s.k, c.s.n);
    sp_test_close(what, found, expected,
                  [&](size_t i) { return magnitude[i] * ((m + 3) * u + (c.swish ? 1 / 256.0f : 0)); });
}

static void every_shape_is_ref(void **)
{
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++) {
        int many = i % 2 ? 1 : 1000;
        check(call{shapes[i], 3, many, false, true, i % 3 != 0, i % 2 == 0});
        check(call{shapes[i], 3, 1001 - many, true, false, false, i % 2 == 1});
        check(call{shapes[i], 1, many, false, i % 3 == 1, false, i % 3 == 0});
    }
}

/* Which tile computes an output does not change its bits: one order of its sum. */
static void tiles_do_not_show(void **)
{
    for (int size = 1; size <= 3; size += 2) {
        call c = {{12, 20, 40, 72}, size, 1, false, true, true, true};
        std::vector<float> wide = convolve(c);
        c.multiprocessors = 1000;
        sp_test_equal("small tiles", convolve(c).data(), wide.data(), wide.size());
    }
}

/* Results in bf16, by rows and transposed, and a product with such rows; what lies beyond them is left as it was. */
static void narrow_results(void **)
{
    enum { ROWS = 37, K = 20, N = 12, STRIDE = 64 };
    call c = {{1, ROWS, K, N}, 1, 1, false, false, false, false};
    inputs in = make_inputs(c, false);
    std::vector<float> expected = convolve(c);
    sp_buffer<float> x(in.x), bias(in.bias);
    sp_buffer<uint16_t> weights(pack(c, in)), rows(ROWS * STRIDE), columns(N * STRIDE);
    sp_cuda_conv conv = {};
    conv.size = 1;
    conv.in = sp_plane{1, ROWS, K};
    conv.n = N;
    conv.x = x.at();
    conv.x_stride = K;
    conv.weights = sp_cuda_packed(weights.at(), N);
    conv.bias = bias.at();
    conv.half = rows.at();
    conv.half_stride = STRIDE;
    SP_TEST_CUDA(sp_cuda_convolve(nullptr, &conv, 1));
    conv.half = columns.at();
    conv.transposed = true;
    SP_TEST_CUDA(sp_cuda_convolve(nullptr, &conv, 1));
    std::vector<uint16_t> by_row = rows.read(), by_column = columns.read();
    for (size_t i = 0; i < ROWS * STRIDE; i++) {
        bool inside = i % STRIDE < N;
        assert_int_equal(by_row[i], inside ? sp_f32_to_bf16(expected[i / STRIDE * N + i % STRIDE]) : 0xFFFF);
    }
    for (size_t i = 0; i < N * STRIDE; i++) {
        bool inside = i % STRIDE < ROWS;
        assert_int_equal(by_column[i], inside ? sp_f32_to_bf16(expected[i % STRIDE * N + i / STRIDE]) : 0xFFFF);
    }
}

int main()
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_shape_is_ref),
        cmocka_unit_test(tiles_do_not_show),
        cmocka_unit_test(narrow_results),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
