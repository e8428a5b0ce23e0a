#include "support.h"

#include <float.h>

#include "base/gumbel.h"
#include "kernels/kernels.h"

/* Distance to the true logarithm in units in the last place of the double nearest to it. */
static double ulps(double x)
{
    long double exact = logl((long double)x);
    double nearest = (double)exact;
    if (nearest == 0.0) return sp_log(x) == 0.0 ? 0.0 : INFINITY;
    double size = fabs(nearest);
    long double unit = (long double)nextafter(size, INFINITY) - (long double)size;
    return (double)(fabsl((long double)sp_log(x) - exact) / unit);
}

static void logarithm_is_within_four_ulp(void **state)
{
    (void)state;
    double worst = 0;
    for (uint32_t i = 0; i < 1000000; i++) {
        sp_philox_block block = sp_philox(1, i, 0, 98, 0);
        double u = ((double)block.word[0] + 0.5) / 4294967296.0;
        double wide = ldexp(1.0 + u, (int)(block.word[1] % 2040) - 1020);
        double near_one = 1.0 + (u - 0.5) * ldexp(1.0, -(int)(block.word[2] % 52));
        worst = fmax(worst, fmax(ulps(u), fmax(ulps(wide), ulps(near_one))));
        worst = fmax(worst, ulps(-log(u)));
    }
    const double edges[] = {DBL_MIN, DBL_MAX, 0.5, 2.0, M_SQRT1_2, M_SQRT2, 1.0 - DBL_EPSILON / 2, 1.0 + DBL_EPSILON,
                            0.5 / 4294967296.0, 1.0 - 0.5 / 4294967296.0};
    for (size_t i = 0; i < sizeof edges / sizeof edges[0]; i++) {
        worst = fmax(worst, ulps(edges[i]));
        worst = fmax(worst, ulps(nextafter(edges[i], 1.0)));
    }
    assert_true(sp_log(1.0) == 0.0);
    print_message("largest error of sp_log: %.2f ulp\n", worst);
    assert_true(worst < 4.0);
}

static void every_word_gives_a_finite_number(void **state)
{
    (void)state;
    /* -log(-log u) at u = 2^-33 and at 1 - 2^-33, computed to 40 digits. */
    assert_float_equal(sp_gumbel_of_bits(0), -3.129994641f, 1e-6f);
    assert_float_equal(sp_gumbel_of_bits(0xFFFFFFFFu), 22.87385696f, 1e-5f);
    assert_float_equal(sp_gumbel_of_bits(0x80000000u), 0.3665129207f, 1e-6f);
    float last = -INFINITY;
    for (uint32_t i = 0; i < 1u << 16; i++) {
        float value = sp_gumbel_of_bits(i << 16);
        assert_true(isfinite(value) && value > last);
        last = value;
    }
}

static uint64_t fnv1a(uint64_t hash, const void *data, size_t size)
{
    const unsigned char *bytes = data;
    for (size_t i = 0; i < size; i++) hash = (hash ^ bytes[i]) * 0x100000001B3u;
    return hash;
}

/* A seed names a picture, so these bits are an interface: no compiler, flag or processor may change them. */
static void bits_are_pinned(void **state)
{
    (void)state;
    uint64_t hash = 0xCBF29CE484222325u;
    for (uint32_t i = 0; i < 1u << 16; i++) {
        double logarithm = sp_log(((double)i + 0.5) / 4096.0);
        float noise[4];
        sp_gumbel4(0xFEDCBA9876543210u, 3, i / 256, i % 256, noise);
        hash = fnv1a(hash, &logarithm, sizeof logarithm);
        hash = fnv1a(hash, noise, sizeof noise);
    }
    assert_int_equal(hash, 0x12D31F591311657Eu);
}

static int ascending(const void *a, const void *b)
{
    float x = *(const float *)a, y = *(const float *)b;
    return (x > y) - (x < y);
}

/* Kolmogorov-Smirnov against exp(-exp(-x)); sqrt(n) D exceeds 2.2 once in 8,000 for a true sample. */
static void noise_has_the_gumbel_law(void **state)
{
    (void)state;
    enum { N = 400000 };
    float *sample = sp_test_alloc(N);
    for (uint32_t i = 0; i < N / 4; i++) sp_gumbel4(11, 2, i % 500, i / 500, sample + 4 * (size_t)i);
    qsort(sample, N, sizeof *sample, ascending);
    double distance = 0;
    for (size_t i = 0; i < N; i++) {
        double law = exp(-exp(-(double)sample[i]));
        distance = fmax(distance, fmax(law - (double)i / N, (double)(i + 1) / N - law));
    }
    sp_test_free(sample, N);
    assert_true(distance * sqrt(N) < 2.2);
}

/* argmax (log p + g) is a draw from p, by seed, by image and by position: chi-square of 7 degrees of freedom exceeds
 * 33 once in 38,000. */
static void gumbel_max_draws_from_the_law(void **state)
{
    (void)state;
    enum { N = 200000, K = 8 };
    const double law[K] = {0.30, 0.25, 0.15, 0.10, 0.08, 0.06, 0.04, 0.02};
    for (int along = 0; along < 3; along++) {
        size_t counts[K] = {0};
        for (uint32_t i = 0; i < N; i++) {
            float noise[K];
            for (uint32_t quad = 0; quad < K / 4; quad++)
                sp_gumbel4(along == 0 ? i : 5, along == 1 ? i : 6, along == 2 ? i : 7, quad, noise + 4 * quad);
            int best = 0;
            for (int v = 1; v < K; v++)
                if (log(law[v]) + (double)noise[v] > log(law[best]) + (double)noise[best]) best = v;
            counts[best]++;
        }
        double chi_square = 0;
        for (int v = 0; v < K; v++) {
            double expected = N * law[v], off = (double)counts[v] - expected;
            chi_square += off * off / expected;
        }
        assert_true(chi_square < 33);
    }
}

/* Noise of neighbouring tokens, positions and images is uncorrelated: r sqrt(n) is normal; 4.5 allowed. */
static void noise_is_independent(void **state)
{
    (void)state;
    enum { N = 100000 };
    const double mean = 0.57721566490153286, variance = 1.6449340668482264;
    double sums[3] = {0};
    for (uint32_t i = 0; i < N; i++) {
        float here[4], below[4], next[4];
        sp_gumbel4(3, 0, i, 5, here);
        sp_gumbel4(3, 0, i + 1, 5, below);
        sp_gumbel4(3, 1, i, 5, next);
        double x = (double)here[0] - mean;
        sums[0] += x * ((double)here[1] - mean);
        sums[1] += x * ((double)below[0] - mean);
        sums[2] += x * ((double)next[0] - mean);
    }
    for (int i = 0; i < 3; i++) assert_true(fabs(sums[i]) / (variance * sqrt(N)) < 4.5);
}

static void every_back_end_gives_the_same_bits(void **state)
{
    (void)state;
    const size_t sizes[] = {4, 8, 12, 36, 1024, 16384};
    for (const char *const *name = sp_ops_names(); *name; name++) {
        const sp_ops *ops = sp_ops_find(*name);
        for (size_t s = 0; s < sizeof sizes / sizeof sizes[0]; s++)
            for (uint32_t position = 0; position < 3; position++) {
                float *noise = sp_test_alloc(sizes[s]), expected[4];
                ops->gumbel(0x123456789ABCDEFu, 9, position, sizes[s], noise);
                for (uint32_t quad = 0; quad < sizes[s] / 4; quad++) {
                    sp_gumbel4(0x123456789ABCDEFu, 9, position, quad, expected);
                    assert_memory_equal(noise + 4 * (size_t)quad, expected, sizeof expected);
                }
                sp_test_free(noise, sizes[s]);
            }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(logarithm_is_within_four_ulp), cmocka_unit_test(every_word_gives_a_finite_number),
        cmocka_unit_test(bits_are_pinned),
        cmocka_unit_test(noise_has_the_gumbel_law),     cmocka_unit_test(gumbel_max_draws_from_the_law),
        cmocka_unit_test(noise_is_independent),         cmocka_unit_test(every_back_end_gives_the_same_bits),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
