/* The diffusion head and its samplers by themselves: what zero modulation means, the table of modulations against
 * modulations made step by step, guidance, bits of rows in any company; the velocity sampler against closed forms.
 * Random weights. */
#include "base/arena.h"
#include "checkpoint.h"
#include "model/head.h"

enum { DIM = 6, CONDITION = 48, WIDTH = 64, BLOCKS = 4, GROUPS = 2, TIME = 32, STEPS = 5, LONG = 200, ROWS = 100 };

/* bf16 values below 1/4 in size, the same everywhere; gains of norms too. */
static void fill(uint16_t *out, size_t count, uint32_t stream)
{
    for (size_t i = 0; i < count; i++) out[i] = sp_f32_to_bf16(0.25f * sp_test_value(stream, i));
}

static checkpoint make(void)
{
    checkpoint c = {0};
    char name[64];
    add_linear(&c, "head.time.0", WIDTH, TIME);
    add_linear(&c, "head.time.2", WIDTH, WIDTH);
    add_linear(&c, "head.condition", WIDTH, CONDITION);
    add_linear(&c, "head.input", WIDTH, DIM);
    add_linear(&c, "head.final.modulation", 2 * WIDTH, WIDTH);
    add_linear(&c, "head.final.output", DIM, WIDTH);
    for (size_t i = 0; i < GROUPS; i++) {
        snprintf(name, sizeof name, "head.modulation.%zu", i);
        add_linear(&c, name, 3 * WIDTH, WIDTH);
    }
    for (size_t i = 0; i < BLOCKS; i++) {
        snprintf(name, sizeof name, "head.blocks.%zu.up", i);
        add_linear(&c, name, 3 * WIDTH, WIDTH);
        snprintf(name, sizeof name, "head.blocks.%zu.down", i);
        add_linear(&c, name, WIDTH, WIDTH * 3 / 2);
        add_tensor(&c, SP_SHAPE1(WIDTH), "head.blocks.%zu.norm.weight", i);
        add_tensor(&c, SP_SHAPE1(WIDTH), "head.blocks.%zu.norm.bias", i);
    }
    open_checkpoint(&c, NULL);
    fill(c.data, c.total, 1);
    return c;
}

/* Every value of the tensors whose name has this in it. */
static void set(checkpoint *c, const char *part, float value)
{
    size_t n = 0;
    for (size_t i = 0; i < c->n; i++) {
        const entry *e = &c->entries[i];
        if (!strstr(e->name, part)) continue;
        for (size_t j = 0; j < e->count; j++) c->data[e->offset + j] = sp_f32_to_bf16(value);
        n++;
    }
    assert_true(n > 0);
}

static sp_head_config config_of(size_t steps)
{
    return (sp_head_config){.dim = DIM, .condition = CONDITION, .width = WIDTH, .blocks = BLOCKS, .groups = GROUPS,
                            .hidden = WIDTH * 3 / 2, .time_width = TIME, .gated = true,
                            .sampler = sp_sampler_find("velocity"),
                            .chain = {.steps = steps, .stop = 0.96f, .terminal_noise = 0.1f}};
}

typedef struct opened {
    sp_head *head;
    sp_head_context *context;
    sp_pool *pool;
    size_t steps;
} opened;

static opened open_head(const checkpoint *c, const char *kernels, bool bf16, size_t steps, int threads)
{
    opened o = {.steps = steps};
    sp_head_config config = config_of(steps);
    SP_TEST_OK(sp_pool_open(&o.pool, threads, err));
    SP_TEST_OK(sp_head_open(&o.head, &config, sp_family_find("specular"), c->tensors, sp_ops_find(kernels), bf16, err));
    SP_TEST_OK(sp_head_context_open(&o.context, o.head, o.pool, ROWS, err));
    return o;
}

static void close_head(opened o)
{
    sp_head_context_close(o.context);
    sp_head_close(o.head);
    sp_pool_close(o.pool);
}

/* Conditions first .. first + n - 1 of a fixed set, of both streams or of the conditional one. */
static void condition(const opened *o, size_t first, size_t n, size_t n_streams, float scale)
{
    float *features = sp_test_alloc(n_streams * n * CONDITION), *scales = sp_test_alloc(n);
    for (size_t s = 0; s < n_streams; s++)
        for (size_t j = 0; j < n; j++)
            for (size_t i = 0; i < CONDITION; i++)
                features[(s * n + j) * CONDITION + i] = sp_test_value(2, ((first + j) * 2 + s) * CONDITION + i);
    for (size_t j = 0; j < n; j++) scales[j] = scale;
    sp_head_condition(o->context, &(sp_head_conditions){.n = n, .n_streams = n_streams, .features = features,
                                                        .scale = n_streams > 1 ? scales : NULL, .temperature = 0.5f});
    sp_test_free(features, n_streams * n * CONDITION);
    sp_test_free(scales, n);
}

/* Step k of rows row[0 .. n - 1], whose states are those of conditions first + row. */
static void step(const opened *o, size_t first, const int32_t *row, size_t n, size_t k, sp_pool *pool, int thread,
                 float *mean)
{
    float *state = sp_test_alloc(n * DIM), *deviation = sp_test_alloc(n * DIM), *out = sp_test_alloc(n * DIM);
    for (size_t j = 0; j < n; j++)
        for (size_t i = 0; i < DIM; i++)
            state[j * DIM + i] = 2 * sp_test_value(3, (first + (size_t)row[j]) * DIM + i);
    sp_head_step(o->context, &(sp_chain_rows){.n = n, .row = row, .k = k, .state = state, .mean = out,
                                              .deviation = deviation, .pool = pool, .thread = thread});
    for (size_t i = 0; i < n * DIM; i++) assert_true(isfinite(out[i]) && deviation[i] > 0);
    memcpy(mean, out, n * DIM * sizeof *mean);
    sp_test_free(state, n * DIM);
    sp_test_free(deviation, n * DIM);
    sp_test_free(out, n * DIM);
}

static void same_bits(const char *what, const float *a, const float *b, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (memcmp(&a[i], &b[i], sizeof *a) != 0)
            fail_msg("%s: number %zu is %.9g, expected the bits of %.9g", what, i, (double)a[i], (double)b[i]);
}

static const int32_t everyone[ROWS] = {
    0,  1,  2,  3,  4,  5,  6,  7,  8,  9,  10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24,
    25, 26, 27, 28, 29, 30, 31, 32, 33, 34, 35, 36, 37, 38, 39, 40, 41, 42, 43, 44, 45, 46, 47, 48, 49,
    50, 51, 52, 53, 54, 55, 56, 57, 58, 59, 60, 61, 62, 63, 64, 65, 66, 67, 68, 69, 70, 71, 72, 73, 74,
    75, 76, 77, 78, 79, 80, 81, 82, 83, 84, 85, 86, 87, 88, 89, 90, 91, 92, 93, 94, 95, 96, 97, 98, 99};

/* Gates of zero leave what the blocks compute out of account, and an output of zero leaves the mean keep y. */
static void zero_modulation(void **state)
{
    (void)state;
    checkpoint c = make();
    float a[ROWS * DIM], b[ROWS * DIM];
    set(&c, "modulation", 0);
    opened o = open_head(&c, "auto", false, STEPS, 1);
    condition(&o, 0, 3, 2, 2);
    step(&o, 0, everyone, 3, 1, NULL, 0, a);
    close_head(o);
    set(&c, "head.blocks", 0.125f);
    o = open_head(&c, "auto", false, STEPS, 1);
    condition(&o, 0, 3, 2, 2);
    step(&o, 0, everyone, 3, 1, NULL, 0, b);
    same_bits("blocks behind gates of zero", b, a, 3 * DIM);
    close_head(o);
    set(&c, "head.final.output", 0);
    o = open_head(&c, "auto", false, STEPS, 1);
    condition(&o, 0, 3, 2, 2);
    step(&o, 0, everyone, 3, 1, NULL, 0, b);
    sp_sampler_step steps[STEPS];
    sp_head_config config = config_of(STEPS);
    config.sampler->fill(&config.chain, steps);
    size_t differ = 0;
    for (size_t i = 0; i < 3 * DIM; i++) {
        float y = 2 * sp_test_value(3, i);
        assert_true(b[i] == steps[1].keep * y);
        differ += a[i] != b[i];
    }
    assert_true(differ > DIM);
    close_head(o);
    free_checkpoint(&c);
}

/* Modulations in a table and made in the step: a table of these conditions over 200 steps is larger than there is room
 * for, and one of a single condition is not. */
static void table_or_not(void **state)
{
    (void)state;
    checkpoint c = make();
    for (int bf16 = 0; bf16 < 2; bf16++) {
        opened o = open_head(&c, "auto", bf16, LONG, 2);
        assert_true(LONG * 2 * ROWS * (3 * GROUPS + 2) * WIDTH * sizeof(float) > (64 << 20));
        float together[ROWS * DIM], alone[DIM];
        for (size_t k = 0; k < LONG; k += 99) {
            condition(&o, 0, ROWS, 2, 3);
            step(&o, 0, everyone, ROWS, k, NULL, 0, together);
            for (size_t row = 0; row < ROWS; row += 33) {
                condition(&o, row, 1, 2, 3);
                step(&o, row, everyone, 1, k, NULL, 0, alone);
                same_bits("modulations of a table", alone, together + row * DIM, DIM);
            }
        }
        close_head(o);
    }
    free_checkpoint(&c);
}

/* A row's bits: in any order, alone and among others, by any thread's scratch, with a pool and without. */
static void rows_alone_and_together(void **state)
{
    (void)state;
    static const int32_t some[] = {7, 99, 0, 41, 42, 43, 3};
    enum { SOME = sizeof some / sizeof *some };
    checkpoint c = make();
    for (const char *const *kernels = sp_ops_names(); *kernels; kernels++)
        for (int bf16 = 0; bf16 < 2; bf16++) {
            opened o = open_head(&c, *kernels, bf16, STEPS, 3);
            float all[ROWS * DIM], few[SOME * DIM], pooled[ROWS * DIM], one[DIM];
            condition(&o, 0, ROWS, 2, 3);
            step(&o, 0, everyone, ROWS, 2, NULL, 0, all);
            step(&o, 0, everyone, ROWS, 2, o.pool, 0, pooled);
            same_bits("by a pool", pooled, all, ROWS * DIM);
            step(&o, 0, some, SOME, 2, NULL, 2, few);
            for (size_t i = 0; i < SOME; i++) same_bits("in another order", few + i * DIM, all + some[i] * DIM, DIM);
            condition(&o, 99, 1, 2, 3);
            step(&o, 99, everyone, 1, 2, o.pool, 0, one);
            same_bits("alone", one, all + 99 * DIM, DIM);
            close_head(o);
        }
    free_checkpoint(&c);
}

typedef struct shared {
    const opened *o;
    const float *expected; /* [ROWS, DIM] */
    bool differ[4];        /* by thread */
} shared;

static void share(void *arguments, int thread, int n_threads)
{
    shared *s = arguments;
    size_t first, last;
    float out[ROWS * DIM];
    sp_pool_share(ROWS, 1, thread, n_threads, &first, &last);
    for (size_t i = 0; i < 1000 && !s->differ[thread]; i++) {
        step(s->o, 0, everyone + first, last - first, 2, NULL, thread, out);
        s->differ[thread] = memcmp(out, s->expected + first * DIM, (last - first) * DIM * sizeof *out) != 0;
    }
}

/* Threads step rows of their own at the same time, each with its scratch. */
static void threads_at_once(void **state)
{
    (void)state;
    checkpoint c = make();
    opened o = open_head(&c, "auto", true, STEPS, 4);
    float all[ROWS * DIM];
    condition(&o, 0, ROWS, 2, 3);
    step(&o, 0, everyone, ROWS, 2, NULL, 0, all);
    shared s = {.o = &o, .expected = all};
    sp_pool_run(o.pool, share, &s);
    for (size_t i = 0; i < 4; i++) assert_false(s.differ[i]);
    close_head(o);
    free_checkpoint(&c);
}

/* Scale 1 is the conditional stream alone to the bit; other scales lie on the line through scales 0 and 1. A mean is
 * below 8 here and each of three is rounded a few times. */
static void guidance(void **state)
{
    (void)state;
    checkpoint c = make();
    for (const char *const *kernels = sp_ops_names(); *kernels; kernels++) {
        opened o = open_head(&c, *kernels, false, STEPS, 1);
        float alone[ROWS * DIM], by[4][ROWS * DIM];
        size_t moved = 0;
        condition(&o, 0, ROWS, 1, 1);
        step(&o, 0, everyone, ROWS, 3, NULL, 0, alone);
        for (size_t s = 0; s < 4; s++) {
            condition(&o, 0, ROWS, 2, (float)s);
            step(&o, 0, everyone, ROWS, 3, NULL, 0, by[s]);
        }
        same_bits("scale 1", by[1], alone, ROWS * DIM);
        for (size_t i = 0; i < ROWS * DIM; i++) {
            double line = (double)by[0][i] + 3 * ((double)by[1][i] - (double)by[0][i]);
            assert_true(fabs((double)by[3][i] - line) < 64 * 8 / 16777216.0);
            moved += fabsf(by[3][i] - by[1][i]) > 1e-3f;
        }
        assert_true(moved > ROWS);
        close_head(o);
    }
    free_checkpoint(&c);
}

static void velocity_table(void **state)
{
    (void)state;
    sp_sampler_step s[101];
    sp_sampler_find("velocity")->fill(&(sp_sampler_config){101, 0.96f, 0}, s);
    /* 100 steps of 0.0096, then 0.04 without noise. */
    const struct { size_t k; double time, keep, weight, spread; } expected[] = {
        {0, 0, 0.9904, 0.0096, 0.138564065}, {50, 480, 0.9904, 0.014208, 0.0999199680},
        {99, 950.4, 0.9904, 0.01872384, 0.0308597}, {100, 960, 1, 0.04, 0}};
    for (size_t i = 0; i < 4; i++) {
        const sp_sampler_step *at = &s[expected[i].k];
        assert_true(fabs((double)at->time - expected[i].time) < 1e-4);
        assert_true(fabs((double)at->keep - expected[i].keep) < 1e-6);
        assert_true(fabs((double)at->weight - expected[i].weight) < 1e-6);
        assert_true(fabs((double)at->spread - expected[i].spread) < 1e-6);
        assert_true(at->low == 0 && at->high == 0);
    }
    sp_sampler_find("velocity")->fill(&(sp_sampler_config){1, 0.96f, 0.1f}, s);
    assert_true(s[0].keep == 1 && s[0].spread == 0.1f && fabsf(s[0].weight - 0.04f) < 1e-7f);
}

/* Data N(m, s^2): v = m + c (y - t m), c = (t s^2 - (1 - t)) / (t^2 s^2 + (1 - t)^2), so mean and variance of the state
 * go by a closed recursion. The mean ends at m but for the table's rounding; the error of the variance goes with the
 * step. */
static void gaussian_data(size_t n, double m, double s, double *mean, double *variance)
{
    static sp_sampler_step steps[SP_MAX_CHAIN];
    sp_sampler_find("velocity")->fill(&(sp_sampler_config){n, 0.999f, 0}, steps);
    *mean = 0;
    *variance = 1;
    for (size_t k = 0; k < n; k++) {
        double t = (double)steps[k].time / 1000, spread = (double)steps[k].spread;
        double c = (t * s * s - (1 - t)) / (t * t * s * s + (1 - t) * (1 - t));
        double slope = (double)steps[k].keep + (double)steps[k].weight * c;
        *mean = slope * *mean + (double)steps[k].weight * (m - c * t * m);
        *variance = slope * slope * *variance + spread * spread;
    }
}

static void velocity_reaches_the_data(void **state)
{
    (void)state;
    const double scales[] = {0.3, 1, 2};
    for (size_t i = 0; i < 3; i++) {
        double s = scales[i], mean, variance, coarse_mean, coarse_variance;
        gaussian_data(250, 1.5, s, &coarse_mean, &coarse_variance);
        gaussian_data(1000, 1.5, s, &mean, &variance);
        assert_true(fabs(mean - 1.5) < 1e-4 && fabs(coarse_mean - 1.5) < 1e-4);
        assert_true(fabs(coarse_variance / (s * s) - 1) < 0.01);
        assert_true(fabs(variance - s * s) < 0.3 * fabs(coarse_variance - s * s) + 1e-5);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(zero_modulation), cmocka_unit_test(table_or_not), cmocka_unit_test(rows_alone_and_together),
        cmocka_unit_test(threads_at_once),
        cmocka_unit_test(guidance), cmocka_unit_test(velocity_table), cmocka_unit_test(velocity_reaches_the_data)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
