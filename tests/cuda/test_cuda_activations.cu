/* swiglu and gelu on the device against kernels/ref: any number of slices, rows alone and together. */
#include "tests/cuda/device_test.cuh"

#include "kernels/cuda/ops.cuh"

static const size_t widths[] = {2, 6, 64, 100, 704};
enum { ROWS = 5, SLICES = 3 };

/* parts [SLICES, n] that add up, in float and in order, to what is returned. The last slice is NaN when not used. */
static std::vector<float> make_parts(size_t n, int slices, float scale, std::vector<float> &parts)
{
    std::vector<float> sum(n);
    parts.assign(SLICES * n, NAN);
    for (int s = 0; s < slices; s++)
        for (size_t i = 0; i < n; i++) {
            float part = scale * sp_test_value(40 + static_cast<uint32_t>(s), i) * (i % 3 ? 1 : 30);
            parts[static_cast<size_t>(s) * n + i] = part;
            sum[i] = s ? sum[i] + part : part;
        }
    return sum;
}

/* bf16 halves a unit of 2^-8 of the result; before that e^x is off by 2 ulp (CUDA's expf; glibc's by 1) and four
 * roundings follow, all together below 10 eps, eps = 2^-24. Below e^-87 the gate is cut to zero. */
static float rounded_bound(float y) { return fabsf(y) * (1 / 256.0f + 10 / 16777216.0f) + 1e-33f; }

static void swiglu(void **)
{
    for (size_t w : widths)
        for (int slices = 1; slices <= SLICES; slices++) {
            size_t n = ROWS * w;
            std::vector<float> parts, x = make_parts(2 * n, slices, 2, parts), expected(n);
            sp_buffer<float> in(parts);
            sp_buffer<uint16_t> out(n), alone(n);
            sp_partial product = {in.at(), slices, 2 * n};
            SP_TEST_CUDA(sp_cuda_swiglu(nullptr, product, ROWS, w, out.at()));
            sp_ops_find("ref")->swiglu(nullptr, x.data(), ROWS, w, expected.data());
            sp_test_close("swiglu", sp_test_floats(out.read()), expected,
                          [&](size_t i) { return rounded_bound(expected[i]); });
            for (size_t r = 0; r < ROWS; r++) {
                sp_partial row = {in.at(2 * r * w), slices, 2 * n};
                SP_TEST_CUDA(sp_cuda_swiglu(nullptr, row, 1, w, alone.at(r * w)));
            }
            sp_test_equal("swiglu rows", out.read().data(), alone.read().data(), n);
        }
}

/* erf is off by 2 ulp of 1, so the sum of 1 and it by 3 eps of up to 2, which counts in full where they cancel; three
 * roundings follow. */
static float gelu_bound(float x, float y) { return fabsf(y) / 256.0f + (fabsf(x) * 4 + fabsf(y) * 4) / 16777216.0f; }

static void gelu(void **)
{
    for (size_t w : widths)
        for (int slices = 1; slices <= SLICES; slices++) {
            size_t n = ROWS * w;
            std::vector<float> parts, x = make_parts(n, slices, 0.3f, parts), bias = sp_test_values(w, 50);
            for (size_t i = 0; i < n; i++) x[i] += bias[i % w];
            std::vector<float> expected = x;
            sp_buffer<float> in(parts), shift(bias);
            sp_buffer<uint16_t> out(n);
            SP_TEST_CUDA(sp_cuda_gelu(nullptr, sp_partial{in.at(), slices, n}, shift.at(), ROWS, w, out.at()));
            sp_ops_find("ref")->gelu(nullptr, expected.data(), n, false);
            sp_test_close("gelu", sp_test_floats(out.read()), expected,
                          [&](size_t i) { return gelu_bound(x[i], expected[i]); });
        }
}

int main()
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(swiglu), cmocka_unit_test(gelu)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
