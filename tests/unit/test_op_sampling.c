/* gumbel, guide, argmax: the same bits on every back end, because they decide which token is drawn. softmax: a law. */
#include "ops.h"

static void gumbel(void **state)
{
    (void)state;
    static const size_t counts[] = {4, 256, 260, 1024, 16384};
    SP_TEST_EACH_BACKEND(ops)
        for (size_t i = 0; i < sizeof counts / sizeof *counts; i++) {
            float *noise = sp_test_alloc(counts[i]), *expected = sp_test_alloc(counts[i]);
            ops->gumbel(0x123456789ABCDEFu, 3, 77, counts[i], noise);
            sp_ops_find("ref")->gumbel(0x123456789ABCDEFu, 3, 77, counts[i], expected);
            sp_test_equal(ops->name, noise, expected, counts[i]);
            ops->gumbel(0x123456789ABCDEFu, 3, 78, counts[i], expected);
            assert_memory_not_equal(noise, expected, counts[i] * sizeof *noise);
            sp_test_free(noise, counts[i]);
            sp_test_free(expected, counts[i]);
        }
}

static void guide(void **state)
{
    (void)state;
    enum { N = 1003 };
    SP_TEST_EACH_BACKEND(ops) {
        float *a = sp_test_random(N, 1), *b = sp_test_random(N, 2), *y = sp_test_alloc(N), *expected = sp_test_alloc(N);
        for (int guided = 0; guided < 2; guided++) {
            ops->guide(a, guided ? b : NULL, 3.3f, 1.25f, N, y);
            sp_ops_find("ref")->guide(a, guided ? b : NULL, 3.3f, 1.25f, N, expected);
            sp_test_equal(ops->name, y, expected, N);
        }
        for (size_t i = 0; i < N; i++)
            assert_true(fabs((double)y[i] - 1.25 * ((double)b[i] + 3.3 * ((double)a[i] - (double)b[i]))) < 2e-6);
        sp_test_free(a, N);
        sp_test_free(b, N);
        sp_test_free(y, N);
        sp_test_free(expected, N);
    }
}

static void argmax(void **state)
{
    (void)state;
    SP_TEST_EACH_BACKEND(ops)
        for (size_t n = 1; n < 70; n++) {
            float *scores = sp_test_random(n, 3), *noise = sp_test_random(n, (uint32_t)n);
            assert_int_equal(ops->argmax(scores, noise, n), sp_ops_find("ref")->argmax(scores, noise, n));
            for (size_t at = 0; at < n; at++) {
                for (size_t i = 0; i < n; i++) scores[i] = 1;
                scores[at] = 2;
                assert_int_equal(ops->argmax(scores, NULL, n), at);
                scores[at] = 1;
                assert_int_equal(ops->argmax(scores, NULL, n), 0); /* the first of equals */
                scores[at] = NAN;
                assert_int_equal(ops->argmax(scores, NULL, n), -1);
                assert_int_equal(ops->argmax(scores, noise, n), -1);
                scores[at] = -INFINITY;
                assert_int_equal(ops->argmax(scores, NULL, n), n > 1 && at == 0 ? 1 : 0);
            }
            sp_test_free(scores, n);
            sp_test_free(noise, n);
        }
}

/* Of a law in float: the argument x = score - top is rounded (|x| / 2 ulp of the result), exponential, sum over lanes,
 * its inverse and the product add at most 2 + n / 8 + 8 ulp, of 2^-23 each; below e^-87 a result may be 0. */
static void softmax(void **state)
{
    (void)state;
    static const size_t counts[] = {1, 2, 7, 16, 31, 1003};
    SP_TEST_EACH_BACKEND(ops)
        for (size_t c = 0; c < sizeof counts / sizeof *counts; c++)
            for (int wide = 0; wide < 2; wide++) {
                size_t n = counts[c];
                float *scores = sp_test_random(n, 5), *law = sp_test_alloc(n), top = -1e9f;
                double expected[1003], total = 0, sum = 0;
                for (size_t i = 0; i < n; i++) {
                    scores[i] *= wide ? 100 : 3;
                    top = scores[i] > top ? scores[i] : top;
                }
                float threshold = wide ? -INFINITY : top - 3;
                for (size_t i = 0; i < n; i++) {
                    expected[i] = scores[i] >= threshold ? exp((double)scores[i] - (double)top) : 0;
                    total += expected[i];
                }
                ops->softmax(scores, top, threshold, n, law);
                for (size_t i = 0; i < n; i++) {
                    double ulp = fabs((double)scores[i] - (double)top) / 2 + 10 + (double)n / 8;
                    double error = fabs((double)law[i] - expected[i] / total);
                    if (!(error <= expected[i] / total * ulp * 0x1p-23 + 0x1p-125))
                        fail_msg("%s: element %zu of %zu is %g, expected %g", ops->name, i, n, (double)law[i],
                                 expected[i] / total);
                    if (scores[i] < threshold) assert_true(law[i] == 0);
                    sum += (double)law[i];
                }
                assert_true(fabs(sum - 1) < 1e-4);
                sp_test_free(scores, n);
                sp_test_free(law, n);
            }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(gumbel), cmocka_unit_test(guide), cmocka_unit_test(argmax),
                                       cmocka_unit_test(softmax)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
