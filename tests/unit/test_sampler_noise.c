/* The respaced cosine schedule against values that MAR's own code gives in double precision: the coefficients of
 * p_mean_variance in the form of model/sampler.h. */
#include "model/sampler.h"
#include "support.h"

typedef struct golden {
    size_t steps, index; /* index counts from the data, as in the code of MAR */
    float time;
    double keep, weight, low, high;
} golden;

static const golden table[] = {
    {5, 0, 0, 1.00002064, -0.00642541277, 0, 0},
    {5, 1, 250, 1.08726299, -0.42673123, -5.04762837, -0.935151108},
    {5, 4, 999, 7707.22898, -7707.22886, -0.0779014222, -8.41731314e-09},
    {25, 1, 42, 1.0030678, -0.0781280688, -5.05086298, -2.54912105},
    {25, 24, 999, 1327.20912, -1327.20837, -0.00214398865, -2.83851642e-07},
    {50, 1, 20, 1.00092356, -0.0425157604, -5.05856225, -3.14775637},
    {50, 49, 999, 632.353403, -632.351822, -0.000487081663, -1.25040536e-06},
    {100, 0, 0, 1.00002064, -0.00642541277, 0, 0},
    {100, 1, 10, 1.00034009, -0.0253254879, -5.07697256, -3.64682649},
    {100, 2, 20, 1.00058327, -0.0268551013, -3.85795569, -3.37729588},
    {100, 50, 505, 1.01753659, -0.0484283861, -1.7050876, -1.68817871},
    {100, 98, 989, 1.99975717, -1.49987859, -0.144245907, -0.143881518},
    {100, 99, 999, 316.215095, -316.211933, -0.000126442573, -5.00042571e-06},
};

/* Nine digits here, 24 bits there; the logarithm of a beta near 1 loses what 1 - beta has lost in double. */
static bool near(double found, double expected) { return fabs(found - expected) <= 1e-6 * fabs(expected) + 1e-15; }

static void coefficients_are_those_of_mar(void **state)
{
    (void)state;
    const sp_sampler *sampler = sp_sampler_find("noise");
    assert_non_null(sampler);
    assert_true(sampler->learns_deviation);
    for (size_t i = 0; i < sizeof table / sizeof *table; i++) {
        const golden *g = &table[i];
        static sp_sampler_step steps[SP_MAX_CHAIN];
        sampler->fill(&(sp_sampler_config){.steps = g->steps}, steps);
        const sp_sampler_step *s = &steps[g->steps - 1 - g->index];
        bool ok = near((double)s->keep, g->keep) && near((double)s->weight, g->weight) &&
                  near((double)s->low, g->low) && near((double)s->high, g->high) && s->time == g->time;
        if (!ok || s->spread != (g->index > 0 ? 1.0f : 0.0f))
            fail_msg("step %zu of %zu: time %g, %.9g, %.9g, %.9g, %.9g, %g", g->index, g->steps, (double)s->time,
                     (double)s->keep, (double)s->weight, (double)s->low, (double)s->high, (double)s->spread);
    }
}

/* Times descend from 999 to 0, evenly with halves to even, whatever the number of steps. */
static void times_are_even(void **state)
{
    (void)state;
    static const float five[] = {999, 749, 500, 250, 0};
    static sp_sampler_step steps[SP_MAX_CHAIN];
    const sp_sampler *sampler = sp_sampler_find("noise");
    sampler->fill(&(sp_sampler_config){.steps = 5}, steps);
    for (size_t k = 0; k < 5; k++) assert_true(steps[k].time == five[k]);
    for (size_t n = 1; n <= SP_MAX_CHAIN; n++) {
        sampler->fill(&(sp_sampler_config){.steps = n}, steps);
        assert_true(steps[n - 1].time == 0);
        assert_true(n == 1 || steps[0].time == 999);
        for (size_t k = 0; k < n; k++) {
            assert_true(k == 0 || steps[k].time < steps[k - 1].time);
            assert_true(n == 1 || fabs((double)steps[k].time - 999.0 * (double)(n - 1 - k) / (double)(n - 1)) <= 0.5);
            assert_true(isfinite(steps[k].keep) && isfinite(steps[k].weight) && isfinite(steps[k].low));
            assert_true(steps[k].low <= steps[k].high && steps[k].high <= 0);
        }
    }
}

/* Given the exact noise of y = sqrt(A) x + sqrt(1 - A) e, a step is that of the posterior: the chain of any number of
 * steps keeps the law of y, here in its first two moments for x = 0. */
static void the_chain_keeps_its_law(void **state)
{
    (void)state;
    static const size_t counts[] = {5, 25, 50, 100, 1000};
    static sp_sampler_step steps[SP_MAX_CHAIN];
    for (size_t i = 0; i < sizeof counts / sizeof *counts; i++) {
        sp_sampler_find("noise")->fill(&(sp_sampler_config){.steps = counts[i]}, steps);
        /* With x = 0 the noise is y / sqrt(1 - A), and the variance of y is 1 - A. */
        double variance = 1 - 2.428766907e-9;
        for (size_t k = 0; k + 1 < counts[i]; k++) {
            double slope = (double)steps[k].keep + (double)steps[k].weight / sqrt(variance);
            variance = slope * slope * variance + exp(2 * (double)steps[k].low);
        }
        /* What is left after the last step but one is 1 - A of the first: 4.128422e-5. */
        if (fabs(variance / 4.128422e-5 - 1) > 2e-3)
            fail_msg("%zu steps: the variance that is left is %.9g", counts[i], variance);
    }
}

static void terminal_noise_is_that_of_the_last_step(void **state)
{
    (void)state;
    sp_sampler_step steps[10];
    sp_sampler_find("noise")->fill(&(sp_sampler_config){.steps = 10, .terminal_noise = 0.0625f}, steps);
    assert_true(steps[9].spread == 0.0625f && steps[9].low == 0 && steps[9].high == 0);
    assert_true(steps[8].spread == 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(coefficients_are_those_of_mar),
        cmocka_unit_test(times_are_even),
        cmocka_unit_test(the_chain_keeps_its_law),
        cmocka_unit_test(terminal_noise_is_that_of_the_last_step),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
