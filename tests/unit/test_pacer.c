/* --window auto on simulated machines: it settles near the best window, whatever the shape of the pass times, and costs
 * next to nothing where no window pays. */
#include "support.h"

#include "base/philox.h"
#include "decode/pacer.h"

enum { LIMIT = 128, TOKENS = 256 };

/* Drafts further ahead than NEAR stand on guesses and get no better. */
enum { NEAR = 24 };
#define RIPENS 0.8

typedef struct machine {
    double row;   /* of a pass over one row, each row adds this */
    double step;  /* each 16 rows begun add this */
    double grows; /* a pass at the last position is so much slower than at the first */
    double chance; /* of a draft that is new; the rest shrinks by a fifth with every pass that it waits */
} machine;

static double uniform(uint32_t *draw) { return sp_philox(7, (*draw)++, 0, 0, 0).word[0] / 4294967296.0; }

static double pass_ms(const machine *m, size_t n, size_t position)
{
    return (1 + m->row * (double)(n - 1) + m->step * (double)((n - 1) / 16)) *
           (1 + m->grows * (double)position / TOKENS);
}

/* Milliseconds of a picture; window 0: by the pacer. */
static double picture(const machine *m, sp_pacer *pacer, size_t window, uint32_t *draw, size_t *passes)
{
    double total = 0, wrong[TOKENS + LIMIT];
    for (size_t i = 0; i < TOKENS + LIMIT; i++) wrong[i] = 1 - m->chance;
    for (size_t at = 0, n, got; at < TOKENS; at += got) {
        n = window ? window : sp_pacer_window(pacer, LIMIT);
        assert_in_range(n, 1, LIMIT);
        double ms = pass_ms(m, n, at) * (1 + 0.1 * uniform(draw)) * (uniform(draw) < 0.02 ? 5 : 1);
        for (got = 1; got < n && uniform(draw) > wrong[at + got]; got++) {}
        for (size_t i = at + got; i < at + n && i < at + got + NEAR; i++) wrong[i] *= m->chance > 0 ? RIPENS : 1;
        if (!window) sp_pacer_record(pacer, n, (double)got, ms);
        total += ms;
        ++*passes;
    }
    return total;
}

static double pictures(const machine *m, size_t window, double *passes)
{
    sp_pacer pacer = {0};
    uint32_t draw = 0;
    size_t count = 0;
    double total = 0;
    for (int i = 0; i < 40; i++) total += picture(m, &pacer, window, &draw, &count);
    *passes = (double)count / 40;
    return total;
}

/* Machines of all kinds: rows are free, free up to 16, dear; drafts are good, typical, useless. */
static void near_the_best(void **state)
{
    (void)state;
    static const machine machines[] = {{0.001, 0, 0, 0.35}, {0.06, 0, 0.3, 0.35}, {0.03, 1, 0.3, 0.3},
                                       {0.9, 0, 0.2, 0.35}, {0.03, 1, 0.5, 0},    {0.002, 0.02, 1, 0.6}};
    static const size_t windows[] = {1, 2, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128};
    for (size_t i = 0; i < sizeof machines / sizeof *machines; i++) {
        double best = 1e9, plain = 0, passes, own = pictures(&machines[i], 0, &passes);
        for (size_t w = 0; w < sizeof windows / sizeof *windows; w++) {
            double unused, time = pictures(&machines[i], windows[w], &unused);
            if (w == 0) plain = time;
            if (time < best) best = time;
        }
        if (own > 1.12 * best) fail_msg("machine %zu: %.0f ms, best window %.0f ms", i, own, best);
        if (own > 1.03 * plain) fail_msg("machine %zu: %.0f ms, plain decoding %.0f ms", i, own, plain);
    }
}

/* Two sizes as fast as each other: fewer passes win. */
static void larger_of_equals(void **state)
{
    (void)state;
    static const machine flat = {0, 0, 0, 0.6};
    double own, all;
    pictures(&flat, 0, &own);
    pictures(&flat, LIMIT, &all);
    assert_true(own < 1.1 * all);
}

/* Pictures that share passes on a device where rows are free up to a number of them, and then cost what they multiply.
 * One that is done makes way for the next. */
enum { MOST_TOGETHER = 256, FREE_ROWS = 300, PASSES = 3000 };

typedef struct goodput {
    double rate, plain; /* tokens a millisecond, and of windows of one */
    double ones;        /* share of the passes over a window of one */
    double longest;     /* mean window */
} goodput;

static double shared_ms(size_t rows) { return rows <= FREE_ROWS ? 1 : (double)rows / FREE_ROWS; }

static goodput together(size_t pictures, size_t limit, double chance)
{
    static double wrong[MOST_TOGETHER][TOKENS + LIMIT];
    static size_t at[MOST_TOGETHER];
    sp_pacer pacer = {0};
    uint32_t draw = 0;
    double ms = 0, tokens = 0, ones = 0, rows = 0;
    for (size_t i = 0; i < pictures; i++) at[i] = TOKENS;
    for (size_t pass = 0; pass < PASSES; pass++) {
        size_t n = sp_pacer_window(&pacer, limit), sum = 0;
        assert_in_range(n, 1, limit);
        for (size_t i = 0; i < pictures; i++) {
            if (at[i] >= TOKENS)
                for (size_t j = at[i] = 0; j < TOKENS + LIMIT; j++) wrong[i][j] = 1 - chance;
            size_t got = 1, from = at[i];
            while (got < n && uniform(&draw) > wrong[i][from + got]) got++;
            for (size_t j = from + got; j < from + n && j < from + got + NEAR; j++)
                wrong[i][j] *= chance > 0 ? RIPENS : 1;
            at[i] += got;
            sum += got;
        }
        double took = shared_ms(2 * pictures * n) * (1 + 0.02 * uniform(&draw));
        sp_pacer_record(&pacer, n, (double)sum / (double)pictures, took);
        ms += took;
        tokens += (double)sum;
        ones += n == 1;
        rows += (double)n;
    }
    return (goodput){tokens / ms, (double)pictures / (1.01 * shared_ms(2 * pictures)), ones / PASSES, rows / PASSES};
}

/* Long windows where rows are free, one row a picture where they cost what they bring, never slower than plain. */
static void batches(void **state)
{
    (void)state;
    goodput alone = together(1, LIMIT, 0.35), some = together(16, 64, 0.35), many = together(64, 16, 0.35);
    goodput bound = together(256, 4, 0.35), useless = together(64, 16, 0);
    assert_true(alone.longest > 40 && alone.rate > 3 * alone.plain);
    assert_true(some.longest > 5 && some.longest < 16 && some.rate > 1.5 * some.plain);
    assert_true(many.longest > 1.5 && many.longest < 4 && many.rate > 1.15 * many.plain);
    assert_true(bound.ones > 0.98 && bound.rate > 0.99 * bound.plain);
    assert_true(useless.rate > 0.99 * useless.plain);
}

/* A window that brings a little less than windows of one is not taken for being longer. */
static void not_slower_than_plain(void **state)
{
    (void)state;
    sp_pacer pacer = {0};
    size_t ones = 0;
    for (int i = 0; i < 2000; i++) {
        size_t n = sp_pacer_window(&pacer, 2);
        ones += n == 1;
        sp_pacer_record(&pacer, n, n == 1 ? 1 : 1.35, n == 1 ? 1 : 1.37);
    }
    assert_in_range(ones, 1900, 2000);
}

static void stays_within_the_limit(void **state)
{
    (void)state;
    sp_pacer pacer = {0};
    for (int i = 0; i < 1000; i++) {
        size_t n = sp_pacer_window(&pacer, 5);
        assert_in_range(n, 1, 5);
        sp_pacer_record(&pacer, n, (double)n, 1);
    }
    sp_pacer_record(&pacer, 77, 1, 1);
    assert_int_equal(pacer.passes, 1000);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(near_the_best), cmocka_unit_test(larger_of_equals),
                                       cmocka_unit_test(batches), cmocka_unit_test(not_slower_than_plain),
                                       cmocka_unit_test(stays_within_the_limit)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
