#include "support.h"

#include "base/normal.h"

enum { COUNT = 1 << 20 };

static void turns_are_those_of_the_library(void **state)
{
    (void)state;
    double worst = 0;
    const uint32_t edges[] = {0, 1, 0x1FFFFFFF, 0x20000000, 0x3FFFFFFF, 0x40000000, 0x5FFFFFFF, 0x60000000, 0x7FFFFFFF,
                              0x80000000, 0x9FFFFFFF, 0xA0000000, 0xC0000000, 0xDFFFFFFF, 0xE0000000, 0xFFFFFFFF};
    for (uint32_t i = 0; i < 1000000; i++) {
        uint32_t word = i < 16 ? edges[i] : i * 2654435761u;
        long double angle = 2 * 3.14159265358979323846264338327950288L * ((long double)word + 0.5L) / 4294967296.0L;
        double c, s;
        sp_turn(word, &c, &s);
        worst = fmax(worst, (double)fabsl((long double)c - cosl(angle)));
        worst = fmax(worst, (double)fabsl((long double)s - sinl(angle)));
    }
    print_message("largest error of sp_turn: %.2f 2^-53\n", ldexp(worst, 53));
    assert_true(worst < ldexp(1, -52));
}

/* Computed to 40 digits. */
static void known_values(void **state)
{
    (void)state;
    const struct {
        uint32_t r, s;
        float x, y;
    } known[] = {
        {0x0u, 0x0u, 6.76370573f, 4.94737362e-09f},
        {0xFFFFFFFFu, 0x80000000u, -1.52587891e-05f, -1.11611795e-14f},
        {0x80000000u, 0x1FFFFFFFu, 0.832554638f, 0.832554638f},
        {0x12345678u, 0x9ABCDEF0u, -1.8217535f, -1.40293896f},
        {0xDEADBEEFu, 0x40000000u, -3.86287308e-10f, 0.528105199f},
        {0x7u, 0xC0000001u, 1.39358693e-08f, -6.35071754f}};
    for (size_t i = 0; i < sizeof known / sizeof *known; i++) {
        float out[2];
        sp_normal_of_words(known[i].r, known[i].s, out);
        assert_true(out[0] == known[i].x && out[1] == known[i].y);
    }
}

/* A draw of n numbers is the first n of a longer one, and each group of four has a draw of its own. */
static void draws_do_not_depend_on_their_length(void **state)
{
    (void)state;
    float all[SP_MAX_NORMALS], some[SP_MAX_NORMALS], apart[SP_MAX_NORMALS];
    sp_normals(3, 4, 5, SP_DRAW_CHAIN, 64, SP_MAX_NORMALS, all);
    for (size_t n = 1; n <= SP_MAX_NORMALS; n += 17) {
        for (size_t i = 0; i < SP_MAX_NORMALS; i++) some[i] = NAN;
        sp_normals(3, 4, 5, SP_DRAW_CHAIN, 64, n, some);
        assert_memory_equal(some, all, n * sizeof *all);
        assert_true(n == SP_MAX_NORMALS || isnan(some[n]));
    }
    sp_normals(3, 4, 5, SP_DRAW_CHAIN, 65, 8, apart);
    assert_memory_equal(apart, all + 4, 8 * sizeof *all);
    const struct {
        uint64_t seed;
        uint32_t image, position;
        sp_draw_purpose purpose;
    } others[] = {
        {2, 4, 5, SP_DRAW_CHAIN}, {3, 3, 5, SP_DRAW_CHAIN}, {3, 4, 6, SP_DRAW_CHAIN}, {3, 4, 5, SP_DRAW_FRESH}};
    for (size_t i = 0; i < 4; i++) {
        sp_normals(others[i].seed, others[i].image, others[i].position, others[i].purpose, 64, 4, apart);
        for (size_t j = 0; j < 4; j++) assert_true(apart[j] != all[j]);
    }
}

static int compare(const void *a, const void *b)
{
    float x = *(const float *)a, y = *(const float *)b;
    return (x > y) - (x < y);
}

/* Moments within 4 standard errors; Kolmogorov-Smirnov against erf at 0.001; neighbours do not go together. */
static void numbers_are_normal(void **state)
{
    (void)state;
    static float x[COUNT];
    for (uint32_t i = 0; i < COUNT / 16; i++) sp_normals(17, 1, i, SP_DRAW_CHAIN, 128, 16, x + 16 * i);
    double n = COUNT, power[5] = {0}, next = 0, square = 0, across = 0;
    for (size_t i = 0; i < COUNT; i++) {
        double v = (double)x[i], w = (double)x[i ^ 1];
        for (int k = 1; k < 5; k++) power[k] += pow(v, k) / n;
        next += v * w / n;
        square += (v * v - 1) * (w * w - 1) / n;
        across += v * (double)x[(i + 16) % COUNT] / n;
    }
    print_message("moments %+.4f %.4f %+.4f %.4f, products %+.4f %+.4f %+.4f\n", power[1], power[2], power[3], power[4],
                  next, square, across);
    assert_true(fabs(power[1]) < 4 / sqrt(n));
    assert_true(fabs(power[2] - 1) < 4 * sqrt(2 / n));
    assert_true(fabs(power[3]) < 4 * sqrt(15 / n));
    assert_true(fabs(power[4] - 3) < 4 * sqrt(96 / n));
    /* Each pair is counted twice. */
    assert_true(fabs(next) < 4 * sqrt(2 / n));
    assert_true(fabs(square) < 4 * sqrt(8 / n));
    assert_true(fabs(across) < 4 / sqrt(n));
    qsort(x, COUNT, sizeof *x, compare);
    double most = 0;
    for (size_t i = 0; i < COUNT; i++) {
        double law = 0.5 * erfc(-(double)x[i] * M_SQRT1_2), here = ((double)i + 0.5) / n;
        most = fmax(most, fabs(law - here) + 0.5 / n);
    }
    print_message("sqrt(n) D %.2f\n", most * sqrt(n));
    assert_true(most * sqrt(n) < 1.95);
    assert_true((double)x[COUNT - 1] > 4.5 && (double)x[0] < -4.5);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(turns_are_those_of_the_library), cmocka_unit_test(known_values),
        cmocka_unit_test(draws_do_not_depend_on_their_length), cmocka_unit_test(numbers_are_normal)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
