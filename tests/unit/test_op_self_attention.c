/* self_attention of every back end against ref, which works in double.
 *
 * Tolerance, u = 2^-24. A score is `width` products added in float, scaled: off by at most
 * e = (width + 2) u scale |q| |k| summed by element, at most E over the keys of a row. Taking the largest from it and
 * its exponential (2 ulp, and one rounding of an argument as large as the scores) add (4 + 2 A) u with A the largest
 * |score|. So every weight is off by a factor within 1 +- r, r = 2 E + (4 + 2 A) u, their sum by r + n u, and the
 * weighted sum of n values by n u more: |error| <= (2 r + (2 n + 4) u) max |v| of the column, to first order; the
 * factor 1.01 covers the rest, r being below 1e-3. */
#include "base/arena.h"
#include "kernels/kernels.h"
#include "support.h"

typedef struct shape {
    size_t n, width;
} shape;

static const shape shapes[] = {{256, 128}, {256, 512}, {64, 512}, {100, 1024}, {1, 1},   {2, 3},
                               {3, 17},    {5, 31},    {17, 33},  {63, 65},    {65, 40}, {13, 64}};
enum { N_SHAPES = sizeof shapes / sizeof *shapes };

typedef struct data {
    float *q, *k, *v;
} data;

static data fill_data(shape s)
{
    size_t count = s.n * s.width;
    return (data){sp_test_random(count, 21), sp_test_random(count, 22), sp_test_random(count, 23)};
}

static void free_data(data d, shape s)
{
    sp_test_free(d.q, s.n * s.width);
    sp_test_free(d.k, s.n * s.width);
    sp_test_free(d.v, s.n * s.width);
}

/* Sharp enough that the largest weight of a row is well above the others. */
static float scale_of(shape s) { return 4.0f / sqrtf((float)s.width); }

static float *attend(const sp_ops *ops, shape s, data d, int threads)
{
    float *out = sp_test_alloc(s.n * s.width);
    size_t scratch = ops->self_attention_scratch(s.n, s.width, threads);
    void *aligned = sp_alloc(scratch, 1);
    sp_pool *pool;
    SP_TEST_OK(sp_pool_open(&pool, threads, err));
    assert_non_null(aligned);
    memset(aligned, 0xFF, scratch);
    ops->self_attention(pool, d.q, d.k, d.v, s.n, s.width, scale_of(s), out, aligned);
    sp_pool_close(pool);
    sp_release(aligned);
    return out;
}

/* The largest |score| of a query, and the largest sum of |q k| over the keys. */
static void score_sizes(shape s, data d, size_t row, double *largest, double *magnitude)
{
    *largest = *magnitude = 0;
    for (size_t key = 0; key < s.n; key++) {
        double score = 0, sum = 0;
        for (size_t i = 0; i < s.width; i++) {
            double product = (double)d.q[row * s.width + i] * (double)d.k[key * s.width + i] * (double)scale_of(s);
            score += product;
            sum += fabs(product);
        }
        *largest = fmax(*largest, fabs(score));
        *magnitude = fmax(*magnitude, sum);
    }
}

static void every_back_end_is_ref(void **state)
{
    (void)state;
    double u = 1.0 / 16777216.0;
    for (size_t i = 0; i < N_SHAPES; i++) {
        shape s = shapes[i];
        data d = fill_data(s);
        float *expected = attend(sp_ops_find("ref"), s, d, 1);
        for (const char *const *name = sp_ops_names(); *name; name++) {
            float *found = attend(sp_ops_find(*name), s, d, 1 + (int)i % 3);
            for (size_t row = 0; row < s.n; row++) {
                double largest, magnitude;
                score_sizes(s, d, row, &largest, &magnitude);
                double r = 2 * ((double)s.width + 2) * u * magnitude + (4 + 2 * largest) * u;
                double bound = 1.01 * (2 * r + (2 * (double)s.n + 4) * u); /* |v| < 1 */
                for (size_t c = 0; c < s.width; c++) {
                    double difference = (double)found[row * s.width + c] - (double)expected[row * s.width + c];
                    if (!(fabs(difference) <= bound))
                        fail_msg("%s n %zu width %zu: row %zu column %zu is off by %.3g, more than %.3g", *name, s.n,
                                 s.width, row, c, difference, bound);
                }
            }
            sp_test_free(found, s.n * s.width);
        }
        sp_test_free(expected, s.n * s.width);
        free_data(d, s);
    }
}

/* Scores around 1000: without subtracting the largest the exponential would overflow. */
static void large_scores_do_not_overflow(void **state)
{
    (void)state;
    for (const char *const *name = sp_ops_names(); *name; name++) {
        const sp_ops *ops = sp_ops_find(*name);
        static const float q[2] = {1000, -1000}, k[2] = {1, -1}, v[2] = {3, 5};
        float out[2];
        void *scratch = sp_alloc(ops->self_attention_scratch(2, 1, 1), 1);
        ops->self_attention(NULL, q, k, v, 2, 1, 1.0f, out, scratch);
        assert_true(out[0] == 3.0f && out[1] == 5.0f);
        sp_release(scratch);
    }
}

static void threads_do_not_show(void **state)
{
    (void)state;
    for (const char *const *name = sp_ops_names(); *name; name++) {
        for (size_t i = 0; i < N_SHAPES; i++) {
            shape s = shapes[i];
            data d = fill_data(s);
            float *one = attend(sp_ops_find(*name), s, d, 1);
            for (int threads = 2; threads <= 3; threads++) {
                float *more = attend(sp_ops_find(*name), s, d, threads);
                assert_memory_equal(one, more, s.n * s.width * sizeof *one);
                sp_test_free(more, s.n * s.width);
            }
            sp_test_free(one, s.n * s.width);
            free_data(d, s);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_back_end_is_ref),
        cmocka_unit_test(large_scores_do_not_overflow),
        cmocka_unit_test(threads_do_not_show),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
