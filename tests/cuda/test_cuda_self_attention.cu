/* The codec's attention on the device against kernels/ref on the same bf16 numbers.
 *
 * Tolerance. q, k and v are bf16 numbers here. A score is off by width u |q| |k| scale (u = 2^-23, sums of a tensor
 * core), e^score by as much of itself and 4 u; a weight is rounded to bf16, 2^-9 of itself, and so are their sum and
 * products: out is off by (2^-8 + 2 e + (n + 8) u) of sum weight |v| <= the largest |v|, e the error of a score. */
#include "tests/cuda/device_test.cuh"

#include "kernels/cuda/self_attention.cuh"

typedef struct shape {
    size_t n, width, rows; /* rows: how many score rows fit */
} shape;

static const shape shapes[] = {{64, 128, 64}, {20, 16, 20}, {37, 12, 5}, {1, 1, 1}, {100, 40, 33}, {33, 64, 1}};

static std::vector<uint16_t> rows_of(const std::vector<float> &x, size_t count, size_t stride)
{
    std::vector<uint16_t> out(x.size() / count * stride, 0);
    for (size_t i = 0; i < x.size(); i++) out[i / count * stride + i % count] = sp_f32_to_bf16(x[i]);
    return out;
}

static std::vector<float> transposed(const std::vector<float> &x, size_t columns)
{
    size_t rows = x.size() / columns;
    std::vector<float> out(x.size());
    for (size_t i = 0; i < x.size(); i++) out[i % columns * rows + i / columns] = x[i];
    return out;
}

static std::vector<float> attend(const shape &s, const std::vector<float> &q, const std::vector<float> &k,
                                 const std::vector<float> &v, bool in_place)
{
    sp_cuda_self_attention a = {};
    a.n = s.n;
    a.width = s.width;
    a.stride = sp_cuda_stride(s.width);
    a.key_stride = sp_cuda_chunks(s.width) * SP_CUDA_CHUNK;
    a.value_stride = sp_cuda_chunks(s.n) * SP_CUDA_CHUNK;
    std::vector<float> queries(s.n * a.stride, NAN);
    for (size_t i = 0; i < q.size(); i++) queries[i / s.width * a.stride + i % s.width] = q[i];
    sp_buffer<float> in(queries), out(s.n * a.stride), scratch(s.rows * sp_cuda_stride(s.n));
    sp_buffer<uint16_t> keys(rows_of(k, s.width, a.key_stride));
    sp_buffer<uint16_t> values(rows_of(transposed(v, s.width), s.n, a.value_stride));
    a.q = in.at();
    a.keys = keys.at();
    a.values = values.at();
    a.out = in_place ? in.at() : out.at();
    a.scratch = scratch.at();
    a.scratch_floats = scratch.count();
    SP_TEST_CUDA(sp_cuda_self_attention_run(nullptr, &a, 1));
    std::vector<float> rows = in_place ? in.read() : out.read(), result(q.size());
    for (size_t i = 0; i < result.size(); i++) result[i] = rows[i / s.width * a.stride + i % s.width];
    return result;
}

static void every_shape_is_ref(void **)
{
    const float u = 1 / 8388608.0f;
    for (const shape &s : shapes) {
        std::vector<float> q = sp_test_rounded(sp_test_values(s.n * s.width, 1)), expected(q.size());
        std::vector<float> k = sp_test_rounded(sp_test_values(q.size(), 2));
        std::vector<float> v = sp_test_rounded(sp_test_values(q.size(), 3));
        std::vector<double> scratch(s.n);
        float scale = static_cast<float>(1 / sqrt(static_cast<double>(s.width)));
        for (float &x : q) x *= 8; /* so that some keys weigh more than others */
        sp_ops_find("ref")->self_attention(nullptr, q.data(), k.data(), v.data(), s.n, s.width, scale, expected.data(),
                                           scratch.data());
        float width = static_cast<float>(s.width), score = (width + 4) * u * 8 * width * scale;
        float bound = 1 / 256.0f + 2 * score + (static_cast<float>(s.n) + 8) * u;
        std::vector<float> found = attend(s, q, k, v, false), in_place = attend(s, q, k, v, true);
        sp_test_close("self attention", found, expected, [&](size_t) { return bound; });
        sp_test_equal("in place", in_place.data(), found.data(), found.size());
    }
}

/* How many rows of scores fit at once does not show. */
static void chunks_do_not_show(void **)
{
    shape s = {70, 32, 70};
    std::vector<float> q = sp_test_values(s.n * s.width, 1), k = sp_test_values(s.n * s.width, 2);
    std::vector<float> v = sp_test_values(s.n * s.width, 3), whole = attend(s, q, k, v, false);
    s.rows = 23;
    sp_test_equal("rows of scores", attend(s, q, k, v, false).data(), whole.data(), whole.size());
}

int main()
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(every_shape_is_ref), cmocka_unit_test(chunks_do_not_show)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
