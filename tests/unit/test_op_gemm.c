/* pack, gemm, gemm_scratch: every back end against ref, and row invariance bit for bit. */
#include "kernels/device.h"
#include "ops.h"

typedef struct shape {
    size_t n, k;
} shape;

/* The sample model, LlamaGen-B, and odd ones. */
static const shape shapes[] = {{768, 256}, {256, 256}, {1408, 256}, {256, 704}, {1024, 256}, {768, 768},
                               {16, 256},  {1, 1},     {17, 33},   {63, 65},    {65, 31},   {100, 100},  {3, 129}};
static const size_t row_counts[] = {1, 2, 3, 5, 7, 16, 17, 32, 33, 64, 100, 128};

/* A sum of k products in float, in any order, is off by at most k eps sum |x w| (Higham, Accuracy and Stability,
 * 3.1), eps = 2^-24; bf16 products are exact in float, so rounding the rows is part of both sides. Twice that
 * for ref's own rounding, the bias and the added y. */
static void bounds(const sp_weight *reference, const float *x, size_t stride, size_t rows, float *out)
{
    const float *w = reference->data;
    for (size_t r = 0; r < rows; r++)
        for (size_t c = 0; c < reference->n; c++) {
            double sum = 2;
            for (size_t i = 0; i < reference->k; i++)
                sum += fabs((double)x[r * stride + i] * (double)w[c * reference->k + i]);
            out[r * reference->n + c] = (float)(2.0 * (double)(reference->k + 3) * sum / 16777216.0);
        }
}

static void check(const sp_ops *ops, shape s, size_t rows, sp_dtype dtype, bool round_rows, sp_gemm_mode mode,
                  int threads)
{
    size_t stride = s.k + 5, count = rows * s.n;
    float *weights = sp_test_random(s.n * s.k, 1), *x = sp_test_alloc(rows * stride); /* gaps of x stay NaN */
    uint16_t *half = malloc(s.n * s.k * sizeof *half);
    for (size_t r = 0; r < rows; r++)
        for (size_t i = 0; i < s.k; i++) x[r * stride + i] = sp_test_value(2, r * s.k + i);
    sp_test_bf16(weights, s.n * s.k, half);
    const void *stored = dtype == SP_BF16 ? (const void *)half : weights;
    sp_weight mine, reference;
    assert_true(ops->pack(&mine, stored, dtype, s.n, s.k, round_rows));
    assert_true(sp_ops_find("ref")->pack(&reference, stored, dtype, s.n, s.k, round_rows));
    assert_null(mine.bias);
    float *bias = sp_test_alloc((s.n + 63) / 64 * 64); /* NaN beyond n */
    for (size_t i = 0; i < s.n; i++) bias[i] = sp_test_value(6, i);
    if (rows % 3 != 1) mine.bias = reference.bias = bias;
    float *y = sp_test_random(count, 3), *expected = sp_test_random(count, 3), *bound = sp_test_alloc(count);
    void *scratch = sp_test_scratch(ops->gemm_scratch(rows, s.k));
    sp_pool *pool = NULL;
    SP_TEST_OK(sp_pool_open(&pool, threads, err));
    bounds(&reference, x, stride, rows, bound);
    ops->gemm(pool, &mine, x, stride, rows, y, s.n, mode, scratch);
    sp_ops_find("ref")->gemm(NULL, &reference, x, stride, rows, expected, s.n, mode, NULL);
    sp_test_close(ops->name, y, expected, count, bound, 0);
    sp_pool_close(pool);
    free(scratch);
    free(half);
    sp_release(mine.data);
    sp_release(reference.data);
    sp_test_free(weights, s.n * s.k);
    sp_test_free(x, rows * stride);
    sp_test_free(bias, (s.n + 63) / 64 * 64);
    sp_test_free(y, count);
    sp_test_free(expected, count);
    sp_test_free(bound, count);
}

static void matches_reference(void **state)
{
    (void)state;
    SP_TEST_EACH_BACKEND(ops)
        for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++)
            for (size_t r = 0; r < sizeof row_counts / sizeof *row_counts; r++) {
                if (shapes[i].n * shapes[i].k * row_counts[r] > 12000000) continue;
                check(ops, shapes[i], row_counts[r], SP_F32, false, SP_GEMM_SET, 1);
                check(ops, shapes[i], row_counts[r], SP_BF16, false, SP_GEMM_ADD, 2);
                check(ops, shapes[i], row_counts[r], SP_BF16, true, r % 2 ? SP_GEMM_ADD : SP_GEMM_SET, 3);
            }
}

/* How many rows of calls over 1 .. 128 rows have other bits than the same row computed alone. */
static size_t differing(const sp_ops *ops, shape s, sp_dtype dtype, bool round_rows, int threads)
{
    enum { ROWS = 128 };
    size_t wrong = 0, bytes = s.n * sizeof(float);
    float *weights = sp_test_random(s.n * s.k, 4), *x = sp_test_random(ROWS * s.k, 5);
    float *alone = sp_test_alloc(ROWS * s.n), *together = sp_test_alloc(ROWS * s.n);
    uint16_t *half = malloc(s.n * s.k * sizeof *half);
    sp_test_bf16(weights, s.n * s.k, half);
    float *bias = sp_test_random((s.n + 63) / 64 * 64, 7);
    sp_weight w;
    assert_true(ops->pack(&w, dtype == SP_BF16 ? (const void *)half : weights, dtype, s.n, s.k, round_rows));
    if (s.n % 2 == 0) w.bias = bias;
    void *scratch = sp_test_scratch(ops->gemm_scratch(ROWS, s.k));
    sp_pool *pool = NULL;
    SP_TEST_OK(sp_pool_open(&pool, threads, err));
    for (size_t r = 0; r < ROWS; r++)
        ops->gemm(NULL, &w, x + r * s.k, s.k, 1, alone + r * s.n, s.n, SP_GEMM_SET, scratch);
    for (size_t rows = 1; rows <= ROWS; rows += rows < 36 ? 1 : 23) {
        size_t offset = (rows * 7) % (ROWS - rows + 1); /* also as another row of the window */
        ops->gemm(pool, &w, x + offset * s.k, s.k, rows, together, s.n, SP_GEMM_SET, scratch);
        for (size_t r = 0; r < rows; r++)
            wrong += memcmp(together + r * s.n, alone + (offset + r) * s.n, bytes) != 0;
    }
    sp_pool_close(pool);
    free(scratch);
    free(half);
    sp_release(w.data);
    sp_test_free(weights, s.n * s.k);
    sp_test_free(x, ROWS * s.k);
    sp_test_free(bias, (s.n + 63) / 64 * 64);
    sp_test_free(alone, ROWS * s.n);
    sp_test_free(together, ROWS * s.n);
    return wrong;
}

static void row_invariant(void **state)
{
    (void)state;
    static const shape some[] = {{768, 256}, {256, 704}, {100, 100}, {17, 33}, {16, 48}};
    SP_TEST_EACH_BACKEND(ops)
        for (size_t i = 0; i < sizeof some / sizeof *some; i++)
            for (int threads = 1; threads <= 3; threads++) {
                if (strcmp(ops->name, "ref") == 0 && (i < 2 || threads > 1)) continue;
                assert_int_equal(differing(ops, some[i], SP_F32, false, threads), 0);
                assert_int_equal(differing(ops, some[i], SP_BF16, true, threads), 0);
            }
}

/* The wrong kernel of the field: more parts of K the fewer rows there are. */
static void split_by_row_count(sp_pool *pool, const sp_weight *w, const float *x, size_t x_stride, size_t n_rows,
                               float *y,
                               size_t y_stride, sp_gemm_mode mode, void *scratch)
{
    (void)pool, (void)mode, (void)scratch;
    size_t parts = n_rows > 8 ? 1 : 4;
    const float *weights = w->data;
    for (size_t r = 0; r < n_rows; r++)
        for (size_t c = 0; c < w->n; c++) {
            float total = 0;
            for (size_t part = 0; part < parts; part++) {
                float sum = 0;
                for (size_t i = w->k * part / parts; i < w->k * (part + 1) / parts; i++)
                    sum += x[r * x_stride + i] * weights[c * w->k + i];
                total += sum;
            }
            y[r * y_stride + c] = total;
        }
}

static void split_by_row_count_is_caught(void **state)
{
    (void)state;
    sp_ops mutant = *sp_ops_find("ref");
    mutant.gemm = split_by_row_count;
    assert_true(differing(&mutant, (shape){17, 256}, SP_F32, false, 1) > 100);
}

static void f16_weights(void **state)
{
    (void)state;
    /* 1, -2, 0.5, 65504, the smallest subnormal 2^-24, -0 */
    static const uint16_t half[] = {0x3C00, 0xC000, 0x3800, 0x7BFF, 0x0001, 0x8000};
    static const float x[] = {1, 1, 1, 0, 16777216.0f, 1};
    SP_TEST_EACH_BACKEND(ops) {
        sp_weight w;
        assert_true(ops->pack(&w, half, SP_F16, 1, 6, false));
        float y = 0;
        void *scratch = sp_test_scratch(ops->gemm_scratch(1, 6));
        ops->gemm(NULL, &w, x, 6, 1, &y, 1, SP_GEMM_SET, scratch);
        assert_true(y == 0.5f);
        free(scratch);
        sp_release(w.data);
    }
}

/* What is stored otherwise is packed as what it rounds to. */
static void check_rounded(const sp_ops *ops, const void *stored, sp_dtype dtype, const uint16_t *half, shape s)
{
    sp_weight found, expected;
    assert_true(ops->pack(&found, stored, dtype, s.n, s.k, true));
    assert_true(ops->pack(&expected, half, SP_BF16, s.n, s.k, true));
    assert_int_equal(found.bytes, expected.bytes);
    assert_memory_equal(found.data, expected.data, found.bytes);
    assert_true(found.round_rows && expected.round_rows);
    sp_release(found.data);
    sp_release(expected.data);
}

static void rounds_weights(void **state)
{
    (void)state;
    static const shape s = {17, 33};
    enum { COUNT = 17 * 33 };
    float *weights = sp_test_random(COUNT, 8);
    uint16_t half[COUNT], narrow[COUNT];
    weights[0] = 1 + 0x1p-8f; /* halfway, down to even; up to even */
    weights[1] = -1 - 0x3p-8f;
    sp_test_bf16(weights, COUNT, half);
    assert_true(half[0] == 0x3F80 && half[1] == 0xBF82);
    SP_TEST_EACH_BACKEND(ops) check_rounded(ops, weights, SP_F32, half, s);
    check_rounded(sp_device_pack_ops(), weights, SP_F32, half, s);
    for (size_t i = 0; i < COUNT; i++) {
        narrow[i] = (uint16_t)(0x3C00 + 5 * i); /* f16 from 1 on */
        half[i] = sp_f32_to_bf16(sp_f16_to_f32(narrow[i]));
    }
    SP_TEST_EACH_BACKEND(ops) check_rounded(ops, narrow, SP_F16, half, s);
    sp_test_free(weights, COUNT);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(matches_reference),
        cmocka_unit_test(row_invariant),
        cmocka_unit_test(split_by_row_count_is_caught),
        cmocka_unit_test(f16_weights),
        cmocka_unit_test(rounds_weights),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
