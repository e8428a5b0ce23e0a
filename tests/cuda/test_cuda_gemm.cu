/* gemm on the device against kernels/ref: shapes of real models scaled down and odd ones; every row count from 1 to 128
 * gives a row the same bits. */
#include "tests/cuda/device_test.cuh"

#include "kernels/cuda/ops.cuh"

struct shape { size_t n, k; };

struct matrix {
    std::vector<float> values; /* what bf16 keeps */
    sp_buffer<unsigned char> tiles;
    sp_cuda_weight weight;
    matrix(shape s, uint32_t stream)
        : values(sp_test_rounded(sp_test_values(s.n * s.k, stream))), tiles(sp_cuda_weight_bytes(s.n, s.k)),
          weight{tiles.at(), s.n, s.k, sp_cuda_slices(s.n, s.k)}
    {
        sp_buffer<uint16_t> rows(sp_test_bf16(values));
        SP_TEST_CUDA(sp_cuda_pack(nullptr, rows.at(), s.n, s.k, tiles.at()));
    }
};

/* y [n_rows, n] of rows first .. of x. What lies before and after these rows is NaN, and after x there is nothing. */
static std::vector<float> product(const matrix &m, const std::vector<float> &x, size_t first, size_t n_rows,
                                  const float *bias)
{
    const sp_cuda_weight &w = m.weight;
    std::vector<uint16_t> rows(x.size(), 0x7FC0), halves = sp_test_bf16(x);
    memcpy(&rows[first * w.k], &halves[first * w.k], n_rows * w.k * sizeof rows[0]);
    sp_buffer<uint16_t> in(rows);
    sp_buffer<float> sums(static_cast<size_t>(w.slices) * n_rows * w.n), out(n_rows * w.n);
    sp_partial y;
    SP_TEST_CUDA(sp_cuda_gemm(nullptr, w, in.at(first * w.k), n_rows, sums.at(), &y));
    SP_TEST_CUDA(sp_cuda_finish(nullptr, y, bias, n_rows, w.n, out.at()));
    return out.read();
}

/* Products are exact; k sums in any order, each of them cut rather than rounded on a GPU, are off by 2 k eps of the sum
 * of sizes, and slices and bias add a few more. eps = 2^-24. */
static float product_bound(const float *x, const float *w, size_t k, float bias)
{
    double sizes = fabs(static_cast<double>(bias));
    for (size_t i = 0; i < k; i++) sizes += fabs(static_cast<double>(x[i]) * static_cast<double>(w[i]));
    return static_cast<float>((2.0 * static_cast<double>(k) + 16.0) * sizes / 16777216.0);
}

static void matches_reference(void **)
{
    static const shape shapes[] = {{96, 256}, {256, 704}, {48, 1408}, {17, 72},
                                   {1, 8},    {16, 64},   {130, 328}, {33, 512}};
    static const size_t counts[] = {1, 2, 9, 31, 40, 65, 130};
    for (const shape &s : shapes) {
        matrix m(s, 1);
        std::vector<float> bias = sp_test_values(s.n, 3);
        sp_buffer<float> shift(bias);
        for (size_t rows : counts) {
            std::vector<float> x = sp_test_rounded(sp_test_values(rows * s.k, 2)), expected(rows * s.n);
            sp_weight plain = {};
            plain.data = m.values.data();
            plain.n = s.n;
            plain.k = s.k;
            plain.bias = bias.data();
            sp_ops_find("ref")->gemm(nullptr, &plain, x.data(), s.k, rows, expected.data(), s.n, SP_GEMM_SET, nullptr);
            sp_test_close("gemm", product(m, x, 0, rows, shift.at()), expected, [&](size_t i) {
                return product_bound(&x[i / s.n * s.k], &m.values[i % s.n * s.k], s.k, bias[i % s.n]);
            });
        }
    }
}

/* The sums of a row are cut into slices in this shape, or the test would not see them differ. */
static void row_invariant(void **)
{
    static const shape shapes[] = {{40, 1024}, {16, 200}};
    const size_t most = 128;
    for (const shape &s : shapes) {
        matrix m(s, 4);
        if (s.k == 1024) assert_true(m.weight.slices > 1);
        std::vector<float> x = sp_test_rounded(sp_test_values(most * s.k, 5)), all = product(m, x, 0, most, nullptr);
        for (size_t rows = 1; rows < most; rows += rows < 18 ? 1 : 13) {
            size_t first = rows * 7 % (most - rows + 1);
            std::vector<float> some = product(m, x, first, rows, nullptr);
            sp_test_equal("rows of gemm", some.data(), &all[first * s.n], rows * s.n);
        }
    }
}

int main()
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(matches_reference), cmocka_unit_test(row_invariant)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
