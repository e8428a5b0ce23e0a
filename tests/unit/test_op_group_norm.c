/* group_norm of every back end against ref, which sums in double in two passes.
 *
 * Tolerance. Let d = |x - mean| / sigma with sigma = sqrt(variance + eps), g the gain, u = 2^-24. A chunk's float sums
 * are of at most 64 terms no larger than the chunk's spread about its first pixel, at most R = max x - min x, so the
 * mean is off by at most 64 u R and the variance by at most 64 u R (R + 2 sigma): relative to sigma^2,
 * v = 64 u (R / sigma)(R / sigma + 2), which scales d by 1 +- v / 2. Rounding x - mean, the scale, the fused
 * multiply-add and the sum of the shift adds 4 u (d g + |bias|). Swish has slope below 1.1; its exponential and
 * division add 8 u of the result. The bound is the sum of these. */
#include "base/arena.h"
#include "kernels/kernels.h"
#include "support.h"

typedef struct shape {
    size_t height, width, channels, groups;
} shape;

static const shape shapes[] = {
    {16, 16, 128, 8}, {32, 32, 64, 8}, {64, 64, 32, 8}, {16, 16, 512, 32}, {40, 40, 256, 32}, {65, 17, 128, 32},
    {1, 1, 32, 8},    {1, 1, 5, 5},    {3, 5, 6, 2},    {63, 1, 20, 4},    {1, 65, 33, 3},    {9, 7, 17, 1},
};
enum { N_SHAPES = sizeof shapes / sizeof *shapes };

typedef struct call {
    const sp_ops *ops;
    shape shape;
    bool swish, in_place;
    int threads;
    float spread, offset; /* x = offset + spread * [-1, 1), and a slope along the picture */
} call;

enum { STREAM_X = 11, STREAM_GAIN = 12, STREAM_BIAS = 13 };
static const float EPS = 1e-6f;

static size_t count_of(const call *c) { return c->shape.height * c->shape.width * c->shape.channels; }

static float *input(const call *c)
{
    size_t count = count_of(c);
    float *x = sp_test_random(count, STREAM_X);
    for (size_t i = 0; i < count; i++) x[i] = c->offset + c->spread * (x[i] + (float)i / (float)count);
    return x;
}

static float *normalise(const call *c)
{
    sp_plane plane = {c->shape.height, c->shape.width, c->shape.channels};
    float *x = input(c), *y = c->in_place ? x : sp_test_alloc(count_of(c));
    float *gain = sp_test_random(plane.channels, STREAM_GAIN), *bias = sp_test_random(plane.channels, STREAM_BIAS);
    size_t scratch = c->ops->group_norm_scratch(plane, c->shape.groups, c->threads);
    void *aligned = sp_alloc(scratch, 1);
    sp_pool *pool;
    SP_TEST_OK(sp_pool_open(&pool, c->threads, err));
    assert_non_null(aligned);
    memset(aligned, 0xFF, scratch);
    c->ops->group_norm(pool, x, plane, c->shape.groups, EPS, gain, bias, c->swish, y, aligned);
    sp_pool_close(pool);
    sp_release(aligned);
    sp_test_free(gain, plane.channels);
    sp_test_free(bias, plane.channels);
    if (!c->in_place) sp_test_free(x, count_of(c));
    return y;
}

/* What the tolerance needs of a group. */
typedef struct spread {
    double mean, sigma, range;
} spread;

static spread measure(const call *c, const float *x, size_t group)
{
    size_t width = c->shape.channels / c->shape.groups, pixels = c->shape.height * c->shape.width;
    double low = INFINITY, high = -INFINITY, sum = 0, squares = 0, n = (double)(width * pixels);
    for (int pass = 0; pass < 2; pass++) {
        for (size_t i = 0; i < width * pixels; i++) {
            double v = (double)x[i / width * c->shape.channels + group * width + i % width];
            low = fmin(low, v);
            high = fmax(high, v);
            if (pass == 0) sum += v / n;
            else squares += (v - sum) * (v - sum) / n;
        }
    }
    return (spread){sum, sqrt(squares + (double)EPS), high - low};
}

static void compare(call c)
{
    call plain = c;
    plain.ops = sp_ops_find("ref");
    plain.in_place = false;
    float *expected = normalise(&plain), *found = normalise(&c), *x = input(&c);
    float *gain = sp_test_random(c.shape.channels, STREAM_GAIN), *bias = sp_test_random(c.shape.channels, STREAM_BIAS);
    double u = 1.0 / 16777216.0;
    for (size_t group = 0; group < c.shape.groups; group++) {
        spread s = measure(&c, x, group);
        size_t width = c.shape.channels / c.shape.groups;
        double ratio = s.range / s.sigma, v = 64 * u * ratio * (ratio + 2);
        for (size_t i = 0; i < c.shape.height * c.shape.width * width; i++) {
            size_t channel = group * width + i % width, at = i / width * c.shape.channels + channel;
            double d = fabs((double)x[at] - s.mean) / s.sigma, g = fabs((double)gain[channel]);
            double bound = g * (64 * u * ratio + d * v / 2) + 4 * u * (d * g + fabs((double)bias[channel]));
            bound = 1.1 * bound + 8 * u * fabs((double)expected[at]) + 1e-37;
            if (!(fabs((double)found[at] - (double)expected[at]) <= bound))
                fail_msg("%s [%zu, %zu, %zu] in %zu groups: value %zu is %.9g, expected %.9g within %.2g", c.ops->name,
                         c.shape.height, c.shape.width, c.shape.channels, c.shape.groups, at, (double)found[at],
                         (double)expected[at], bound);
        }
    }
    sp_test_free(expected, count_of(&c));
    sp_test_free(found, count_of(&c));
    sp_test_free(x, count_of(&c));
    sp_test_free(gain, c.shape.channels);
    sp_test_free(bias, c.shape.channels);
}

static void every_back_end_is_ref(void **state)
{
    (void)state;
    for (const char *const *name = sp_ops_names(); *name; name++) {
        for (size_t i = 0; i < N_SHAPES; i++) {
            call c = {sp_ops_find(*name), shapes[i], i % 2 == 0, i % 3 == 0, 1 + (int)i % 3, 2.0f, 0.5f};
            compare(c);
            c.swish = !c.swish;
            compare(c);
        }
    }
}

/* A mean of a thousand deviations, where sums of squares about zero in float would keep no digit of the variance. */
static void a_large_mean_costs_nothing(void **state)
{
    (void)state;
    for (const char *const *name = sp_ops_names(); *name; name++)
        for (size_t i = 0; i < 3; i++)
            compare((call){sp_ops_find(*name), shapes[i], false, false, 1, 1.0f, 1000.0f});
}

/* Variances below eps. */
static void eps_bounds_the_gain(void **state)
{
    (void)state;
    for (const char *const *name = sp_ops_names(); *name; name++)
        for (size_t i = 0; i < N_SHAPES; i++)
            compare((call){sp_ops_find(*name), shapes[i], false, false, 1, 1e-3f, 0.0f});
}

static void a_constant_group_is_its_bias(void **state)
{
    (void)state;
    for (const char *const *name = sp_ops_names(); *name; name++) {
        call c = {sp_ops_find(*name), shapes[0], false, false, 1, 0.0f, 3.3f};
        float *y = normalise(&c), *bias = sp_test_random(c.shape.channels, STREAM_BIAS);
        /* Variance 0, so 1 / sigma = 1000; the mean is off by at most u * 3.3, and x - mean + correction adds as
         * much. */
        for (size_t i = 0; i < count_of(&c); i++)
            assert_true(fabs((double)y[i] - (double)bias[i % c.shape.channels]) <= 2 * 3.3e3 / 16777216.0);
        sp_test_free(y, count_of(&c));
        sp_test_free(bias, c.shape.channels);
    }
}

static void nan_stays_in_its_group(void **state)
{
    (void)state;
    for (const char *const *name = sp_ops_names(); *name; name++) {
        const sp_ops *ops = sp_ops_find(*name);
        float x[4 * 32], y[4 * 32], gain[32], bias[32];
        sp_plane plane = {2, 2, 32};
        for (size_t i = 0; i < 4 * 32; i++) x[i] = (float)(i % 7);
        for (size_t i = 0; i < 32; i++) gain[i] = bias[i] = 1;
        x[32 + 9] = NAN; /* second pixel, group 2 of 4 channels each */
        void *scratch = sp_alloc(ops->group_norm_scratch(plane, 8, 1), 1);
        ops->group_norm(NULL, x, plane, 8, EPS, gain, bias, true, y, scratch);
        for (size_t i = 0; i < 4 * 32; i++) assert_int_equal(isnan(y[i]) != 0, i % 32 / 4 == 2);
        sp_release(scratch);
    }
}

static void threads_do_not_show(void **state)
{
    (void)state;
    for (const char *const *name = sp_ops_names(); *name; name++) {
        for (size_t i = 0; i < N_SHAPES; i++) {
            call c = {sp_ops_find(*name), shapes[i], true, false, 1, 2.0f, 0.5f};
            float *one = normalise(&c);
            for (c.threads = 2; c.threads <= 3; c.threads++) {
                float *more = normalise(&c);
                assert_memory_equal(one, more, count_of(&c) * sizeof *one);
                sp_test_free(more, count_of(&c));
            }
            sp_test_free(one, count_of(&c));
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_back_end_is_ref),        cmocka_unit_test(a_large_mean_costs_nothing),
        cmocka_unit_test(a_constant_group_is_its_bias), cmocka_unit_test(nan_stays_in_its_group),
        cmocka_unit_test(threads_do_not_show),          cmocka_unit_test(eps_bounds_the_gain),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
