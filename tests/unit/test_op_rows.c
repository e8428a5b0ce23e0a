/* rms_norm, layer_norm, rope, swiglu, silu, modulate, gate_add, gelu: every back end against ref; rows alone and
 * together. */
#include "ops.h"

static const size_t widths[] = {1, 3, 16, 17, 63, 65, 256, 704, 768};
enum { ROWS = 5, N_WIDTHS = sizeof widths / sizeof *widths };

/* Norms: a mean of width squares is off by width eps, its root by half; three roundings follow. Values are below 1 in
 * size before the gain, and 1 / sqrt(mean) is at most a few for these rows. eps = 2^-24. */
static float norm_bound(size_t width) { return (float)(width + 8) * 8 / 16777216.0f; }

static void rms_norm(void **state)
{
    (void)state;
    SP_TEST_EACH_BACKEND(ops)
        for (size_t i = 0; i < N_WIDTHS; i++) {
            size_t n = ROWS * widths[i];
            float *x = sp_test_random(n, 1), *gain = sp_test_random(widths[i], 2), *y = sp_test_alloc(n);
            float *expected = sp_test_alloc(n);
            ops->rms_norm(NULL, x, gain, 1e-2f, ROWS, widths[i], y);
            sp_ops_find("ref")->rms_norm(NULL, x, gain, 1e-2f, ROWS, widths[i], expected);
            sp_test_close(ops->name, y, expected, n, NULL, norm_bound(widths[i]));
            for (size_t r = 0; r < ROWS; r++)
                ops->rms_norm(NULL, x + r * widths[i], gain, 1e-2f, 1, widths[i], expected + r * widths[i]);
            sp_test_equal("rms_norm rows", y, expected, n);
            sp_test_free(x, n);
            sp_test_free(gain, widths[i]);
            sp_test_free(y, n);
            sp_test_free(expected, n);
        }
}

static void layer_norm(void **state)
{
    (void)state;
    enum { HEADS = 3 };
    SP_TEST_EACH_BACKEND(ops)
        for (size_t i = 0; i < N_WIDTHS; i++) {
            size_t w = widths[i], n = ROWS * HEADS * w;
            float *x = sp_test_random(n, 3), *gain = sp_test_random(HEADS * w, 4), *bias = sp_test_random(HEADS * w, 5);
            float *y = sp_test_alloc(n), *expected = sp_test_alloc(n);
            for (int with = 0; with < 2; with++) {
                ops->layer_norm(NULL, x, gain, with ? bias : NULL, 1e-2f, ROWS * HEADS, w, HEADS, y);
                sp_ops_find("ref")->layer_norm(NULL, x, gain, with ? bias : NULL, 1e-2f, ROWS * HEADS, w, HEADS,
                                               expected);
                sp_test_close(ops->name, y, expected, n, NULL, norm_bound(w));
            }
            sp_test_free(x, n);
            sp_test_free(gain, HEADS * w);
            sp_test_free(bias, HEADS * w);
            sp_test_free(y, n);
            sp_test_free(expected, n);
        }
}

/* Two products and a sum of values below 1: three roundings. Floats between heads and rows stay NaN. */
static void rope(void **state)
{
    (void)state;
    static const size_t head_dims[] = {2, 6, 32, 100, 128};
    enum { HEADS = 3, POSITIONS = 9 };
    static const int32_t position[ROWS] = {0, 8, 3, 3, 7};
    SP_TEST_EACH_BACKEND(ops)
        for (size_t i = 0; i < sizeof head_dims / sizeof *head_dims; i++)
            for (int adjacent = 0; adjacent < 2; adjacent++) {
                size_t d = head_dims[i], stride = HEADS * d + 7, n = ROWS * stride;
                float *x = sp_test_alloc(n), *expected = sp_test_alloc(n);
                float *cosine = sp_test_random(POSITIONS * d / 2, 6), *sine = sp_test_random(POSITIONS * d / 2, 7);
                for (size_t r = 0; r < ROWS; r++)
                    for (size_t j = 0; j < HEADS * d; j++) x[r * stride + j] = sp_test_value(8, r * stride + j);
                memcpy(expected, x, n * sizeof *x);
                ops->rope(NULL, x, stride, cosine, sine, position, ROWS, HEADS, d, adjacent);
                sp_ops_find("ref")->rope(NULL, expected, stride, cosine, sine, position, ROWS, HEADS, d, adjacent);
                for (size_t r = 0; r < ROWS; r++) {
                    sp_test_close(ops->name, x + r * stride, expected + r * stride, HEADS * d, NULL, 4 / 16777216.0f);
                    for (size_t j = HEADS * d; j < stride; j++) assert_true(isnan(x[r * stride + j]));
                }
                sp_test_free(x, n);
                sp_test_free(expected, n);
                sp_test_free(cosine, POSITIONS * d / 2);
                sp_test_free(sine, POSITIONS * d / 2);
            }
}

/* e^x within 4 eps (simd.h), then four roundings of values up to |gate up|; inputs up to 100 in size. Below e^-87 the
 * gate is cut to zero: |gate up e^gate| < 101 * 101 * e^-87. A bias rounds gate, up to 101, once more, and moves
 * ln silu(gate) by up to 1 + 1 / gate times that. */
static float silu_bound(float y, bool biased) { return fabsf(y) * (biased ? 120 : 10) / 16777216.0f + 1e-33f; }

static void swiglu(void **state)
{
    (void)state;
    SP_TEST_EACH_BACKEND(ops)
        for (size_t i = 0; i < N_WIDTHS; i++) {
            size_t w = widths[i], n = ROWS * w;
            float *x = sp_test_random(2 * n, 9), *y = sp_test_alloc(n), *expected = sp_test_alloc(n);
            float *bound = sp_test_alloc(n);
            for (size_t j = 0; j < 2 * n; j++) x[j] *= j % 3 ? 3 : 100;
            ops->swiglu(NULL, x, ROWS, w, y);
            sp_ops_find("ref")->swiglu(NULL, x, ROWS, w, expected);
            for (size_t j = 0; j < n; j++) bound[j] = silu_bound(expected[j], false);
            sp_test_close(ops->name, y, expected, n, bound, 0);
            for (size_t r = 0; r < ROWS; r++) ops->swiglu(NULL, x + r * 2 * w, 1, w, expected + r * w);
            sp_test_equal("swiglu rows", y, expected, n);
            sp_test_free(x, 2 * n);
            sp_test_free(y, n);
            sp_test_free(expected, n);
            sp_test_free(bound, n);
        }
}

static void silu(void **state)
{
    (void)state;
    SP_TEST_EACH_BACKEND(ops)
        for (size_t i = 0; i < 2 * N_WIDTHS; i++) {
            size_t w = widths[i / 2], n = ROWS * w;
            float *x = sp_test_random(n, 11), *y = sp_test_alloc(n), *expected = sp_test_alloc(n);
            float *bound = sp_test_alloc(n), *bias = sp_test_random(w, 12), *used = i % 2 ? bias : NULL;
            for (size_t j = 0; j < n; j++) x[j] *= j % 3 ? 3 : 100;
            ops->silu(NULL, x, used, ROWS, w, y);
            sp_ops_find("ref")->silu(NULL, x, used, ROWS, w, expected);
            for (size_t j = 0; j < n; j++) bound[j] = silu_bound(expected[j], used != NULL);
            sp_test_close(ops->name, y, expected, n, bound, 0);
            for (size_t r = 0; r < ROWS; r++) ops->silu(NULL, x + r * w, used, 1, w, x + r * w);
            sp_test_equal("silu rows, in place", x, y, n);
            sp_test_free(x, n);
            sp_test_free(bias, w);
            sp_test_free(y, n);
            sp_test_free(expected, n);
            sp_test_free(bound, n);
        }
}

/* Rows of a modulation of two parts, stride floats apart; what lies between them stays NaN. */
static float *modulation_rows(size_t w, size_t stride, uint32_t stream)
{
    float *rows = sp_test_alloc(ROWS * stride);
    for (size_t r = 0; r < ROWS; r++)
        for (size_t j = 0; j < 2 * w; j++) rows[r * stride + j] = sp_test_value(stream, r * 2 * w + j);
    return rows;
}

/* A norm, then a product by up to 2 and a sum: three roundings of values up to 2 * 4 + 1. */
static void modulate(void **state)
{
    (void)state;
    SP_TEST_EACH_BACKEND(ops)
        for (size_t i = 0; i < 2 * N_WIDTHS; i++) {
            size_t w = widths[i / 2], n = ROWS * w, stride = 2 * w + 5;
            float *x = sp_test_random(n, 13), *gain = sp_test_random(w, 14), *bias = sp_test_random(w, 15);
            float *m = modulation_rows(w, stride, 16), *y = sp_test_alloc(n), *expected = sp_test_alloc(n);
            float *g = i % 2 ? gain : NULL, *b = i % 2 ? bias : NULL;
            ops->modulate(NULL, x, g, b, 1e-2f, m, m + w, stride, ROWS, w, y);
            sp_ops_find("ref")->modulate(NULL, x, g, b, 1e-2f, m, m + w, stride, ROWS, w, expected);
            sp_test_close(ops->name, y, expected, n, NULL, 2 * norm_bound(w) + 3 * 9 / 16777216.0f);
            for (size_t r = 0; r < ROWS; r++)
                ops->modulate(NULL, x + r * w, g, b, 1e-2f, m + r * stride, m + r * stride + w, stride, 1, w,
                              x + r * w);
            sp_test_equal("modulate rows, in place", x, y, n);
            sp_test_free(x, n);
            sp_test_free(gain, w);
            sp_test_free(bias, w);
            sp_test_free(m, ROWS * stride);
            sp_test_free(y, n);
            sp_test_free(expected, n);
        }
}

/* A product and a sum of values below 1: roundings of values up to 1 and 2. */
static void gate_add(void **state)
{
    (void)state;
    SP_TEST_EACH_BACKEND(ops)
        for (size_t i = 0; i < N_WIDTHS; i++) {
            size_t w = widths[i], n = ROWS * w, stride = 2 * w + 5;
            float *x = sp_test_random(n, 17), *m = modulation_rows(w, stride, 19);
            float *y = sp_test_random(n, 20), *expected = sp_test_random(n, 20);
            ops->gate_add(NULL, x, m + w, stride, ROWS, w, y);
            sp_ops_find("ref")->gate_add(NULL, x, m + w, stride, ROWS, w, expected);
            sp_test_close(ops->name, y, expected, n, NULL, 3 / 16777216.0f);
            for (size_t j = 0; j < n; j++) expected[j] = sp_test_value(20, j);
            for (size_t r = 0; r < ROWS; r++)
                ops->gate_add(NULL, x + r * w, m + r * stride + w, stride, 1, w, expected + r * w);
            sp_test_equal("gate_add rows", y, expected, n);
            sp_test_free(x, n);
            sp_test_free(m, ROWS * stride);
            sp_test_free(y, n);
            sp_test_free(expected, n);
        }
}

/* Values in closed form. */
static void gelu(void **state)
{
    (void)state;
    static const float x[] = {-10, -1, 0, 0.5f, 1, 3};
    static const float by_erf[] = {0, -0.158655254f, 0, 0.345731230f, 0.841344746f, 2.99595031f};
    static const float by_tanh[] = {0, -0.158808009f, 0, 0.345714012f, 0.841191991f, 2.99636261f};
    SP_TEST_EACH_BACKEND(ops) {
        float a[6], b[6];
        memcpy(a, x, sizeof a);
        memcpy(b, x, sizeof b);
        ops->gelu(NULL, a, 6, false);
        ops->gelu(NULL, b, 6, true);
        sp_test_close("gelu by erf", a, by_erf, 6, NULL, 3e-7f);
        sp_test_close("gelu by tanh", b, by_tanh, 6, NULL, 3e-7f);
    }
}

/* Between -12 and 12 both tails are reached. By erf: the fit is off by 1.2e-7, and its exponent, of size 2 or less
 * where |x| erfc / 2 is not yet small, by ten roundings; that term is at most 0.17, and 0.17 (1.2e-7 + 2 * 10 * 2^-24)
 * is 2.3e-7. By tanh: numerator, exponential, sum and quotient are rounded, relative to x. */
static void gelu_is_that_of_ref(void **state)
{
    (void)state;
    enum { COUNT = 20011 };
    sp_pool *pool;
    SP_TEST_OK(sp_pool_open(&pool, 3, err));
    for (int tanh_form = 0; tanh_form < 2; tanh_form++) {
        float *input = sp_test_random(COUNT, 41), *expected = sp_test_alloc(COUNT);
        for (size_t i = 0; i < COUNT; i++) expected[i] = input[i] *= 12;
        sp_ops_find("ref")->gelu(NULL, expected, COUNT, tanh_form);
        SP_TEST_EACH_BACKEND(ops) {
            float *all = sp_test_alloc(COUNT), *one = sp_test_alloc(COUNT);
            memcpy(all, input, COUNT * sizeof *all);
            memcpy(one, input, COUNT * sizeof *one);
            ops->gelu(pool, all, COUNT, tanh_form);
            for (size_t i = 0; i < COUNT; i++) {
                float bound = 2.3e-7f + 4 * fabsf(expected[i]) / 16777216.0f;
                if (!(fabsf(all[i] - expected[i]) <= bound))
                    fail_msg("%s: gelu of %.9g is %.9g, expected %.9g", ops->name, (double)input[i], (double)all[i],
                             (double)expected[i]);
            }
            for (size_t i = 0; i < COUNT; i += 7) ops->gelu(NULL, one + i, COUNT - i < 7 ? COUNT - i : 7, tanh_form);
            sp_test_equal("gelu elements", all, one, COUNT);
            sp_test_free(all, COUNT);
            sp_test_free(one, COUNT);
        }
        sp_test_free(input, COUNT);
        sp_test_free(expected, COUNT);
    }
    sp_pool_close(pool);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(rms_norm), cmocka_unit_test(layer_norm), cmocka_unit_test(rope),
                                       cmocka_unit_test(swiglu), cmocka_unit_test(silu), cmocka_unit_test(modulate),
                                       cmocka_unit_test(gate_add), cmocka_unit_test(gelu),
                                       cmocka_unit_test(gelu_is_that_of_ref)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
