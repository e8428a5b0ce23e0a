/* conv3x3 of every back end against ref, which sums in double.
 *
 * Tolerance. An output is m = 9 k products, a bias and a residual added one after the other in float: each addition
 * rounds once, so |error| <= (m + 2) u S, u = 2^-24, S = sum |x w| + |bias| + |residual|; ref rounds its result once
 * more, u S. Products of bf16 numbers are exact in float; AMX adds them in pairs, which rounds no more often, but takes
 * subnormals for zero, which costs less than 2^-126 a product. S is computed by ref on the absolute values. */
#include "base/arena.h"
#include "kernels/kernels.h"
#include "support.h"

typedef struct shape {
    size_t height, width, k, n;
} shape;

/* Of real models cut small in area, and odd ones. */
static const shape shapes[] = {
    {16, 16, 64, 128}, {4, 16, 128, 128}, {8, 32, 128, 64}, {6, 64, 64, 32}, {12, 64, 32, 3}, {4, 16, 3, 32},
    {2, 16, 256, 64},  {2, 8, 64, 512},   {2, 4, 512, 48},  {2, 256, 32, 32}, {1, 1, 1, 1},   {3, 3, 5, 7},
    {5, 17, 33, 17},   {7, 63, 20, 40},   {2, 65, 48, 65},  {17, 5, 15, 16},  {4, 31, 31, 33}, {33, 2, 64, 31},
};
enum { N_SHAPES = sizeof shapes / sizeof *shapes };

typedef struct call {
    const sp_ops *ops;
    shape shape;
    sp_conv_mode mode;
    bool round_rows, residual, in_place;
    int threads;
} call;

typedef struct data {
    float *x, *weights, *bias, *residual;
    uint16_t *half; /* weights as bf16, which they are exactly */
} data;

static size_t outputs(const call *c)
{
    sp_plane out = sp_conv_output((sp_plane){c->shape.height, c->shape.width, c->shape.k}, c->mode, c->shape.n);
    return out.height * out.width * out.channels;
}

static void fill_data(const call *c, data *d, bool absolute)
{
    size_t n_x = c->shape.height * c->shape.width * c->shape.k, n_weights = c->shape.n * c->shape.k * 9;
    d->x = sp_test_random(n_x, 1);
    d->weights = sp_test_random(n_weights, 2);
    d->bias = sp_test_random(c->shape.n, 3);
    d->residual = sp_test_random(outputs(c), 4);
    d->half = malloc(n_weights * sizeof *d->half);
    assert_non_null(d->half);
    for (size_t i = 0; i < n_weights; i++) {
        d->half[i] = sp_f32_to_bf16(absolute ? fabsf(d->weights[i]) : d->weights[i]);
        d->weights[i] = sp_bf16_to_f32(d->half[i]);
    }
    if (!absolute) return;
    for (size_t i = 0; i < n_x; i++) d->x[i] = fabsf(d->x[i]);
    for (size_t i = 0; i < c->shape.n; i++) d->bias[i] = fabsf(d->bias[i]);
    for (size_t i = 0; i < outputs(c); i++) d->residual[i] = fabsf(d->residual[i]);
}

static void free_data(const call *c, data *d)
{
    sp_test_free(d->x, c->shape.height * c->shape.width * c->shape.k);
    sp_test_free(d->weights, c->shape.n * c->shape.k * 9);
    sp_test_free(d->bias, c->shape.n);
    sp_test_free(d->residual, outputs(c));
    free(d->half);
}

/* Scratch starts as NaN, so that anything read before it is written shows. */
static float *convolve(const call *c, const data *d)
{
    sp_plane plane = {c->shape.height, c->shape.width, c->shape.k};
    sp_weight weight;
    sp_pool *pool;
    SP_TEST_OK(sp_pool_open(&pool, c->threads, err));
    if (c->round_rows) assert_true(c->ops->pack_conv3x3(&weight, d->half, SP_BF16, c->shape.n, c->shape.k, true));
    else assert_true(c->ops->pack_conv3x3(&weight, d->weights, SP_F32, c->shape.n, c->shape.k, false));
    size_t scratch = c->ops->conv3x3_scratch(&weight, plane, c->mode, c->threads) / sizeof(float);
    void *aligned = sp_alloc(scratch, sizeof(float));
    assert_non_null(aligned);
    memset(aligned, 0xFF, scratch * sizeof(float));
    float *y = sp_test_alloc(outputs(c));
    if (c->in_place) memcpy(y, d->residual, outputs(c) * sizeof *y);
    const float *residual = c->in_place ? y : c->residual ? d->residual : NULL;
    c->ops->conv3x3(pool, &weight, d->bias, d->x, plane, c->mode, residual, y, aligned);
    sp_release(aligned);
    sp_release(weight.data);
    sp_pool_close(pool);
    return y;
}

static float *reference(call c, bool absolute)
{
    data d;
    c.ops = sp_ops_find("ref");
    c.in_place = false;
    fill_data(&c, &d, absolute);
    float *y = convolve(&c, &d);
    free_data(&c, &d);
    return y;
}

/* Every back end but ref, with the rest of the call as it is. */
static void compare(call c)
{
    data d;
    fill_data(&c, &d, false);
    float *expected = reference(c, false), *magnitude = reference(c, true);
    double u = 1.0 / 16777216.0, m = 9.0 * (double)c.shape.k;
    for (const char *const *name = sp_ops_names(); *name; name++) {
        if (strcmp(*name, "ref") == 0) continue;
        c.ops = sp_ops_find(*name);
        float *found = convolve(&c, &d);
        for (size_t i = 0; i < outputs(&c); i++) {
            double bound = (m + 3) * u * (double)magnitude[i] * (1 + 2 * u) + m * 1.2e-38;
            if (!(fabs((double)found[i] - (double)expected[i]) <= bound))
                fail_msg("%s mode %d [%zu, %zu, %zu] -> %zu: output %zu is %.9g, expected %.9g within %.2g", *name,
                         (int)c.mode, c.shape.height, c.shape.width, c.shape.k, c.shape.n, i, (double)found[i],
                         (double)expected[i], bound);
        }
        sp_test_free(found, outputs(&c));
    }
    sp_test_free(expected, outputs(&c));
    sp_test_free(magnitude, outputs(&c));
    free_data(&c, &d);
}

static void every_back_end_is_ref(void **state)
{
    (void)state;
    for (size_t i = 0; i < N_SHAPES; i++) {
        for (int mode = SP_CONV_SAME; mode <= SP_CONV_STRIDE2; mode++) {
            call c = {NULL, shapes[i], (sp_conv_mode)mode, false, i % 2 == 0, false, 1 + (int)i % 3};
            compare(c);
            c.round_rows = true;
            c.in_place = i % 3 == 0;
            c.residual = c.residual || c.in_place;
            compare(c);
        }
    }
}

static void threads_do_not_show(void **state)
{
    (void)state;
    static const shape some[] = {{32, 32, 32, 96}, {64, 17, 5, 33}, {5, 3, 64, 64}, {70, 20, 40, 16}};
    for (const char *const *name = sp_ops_names(); *name; name++) {
        for (size_t i = 0; i < 2 * sizeof some / sizeof *some; i++) {
            call c = {sp_ops_find(*name), some[i / 2], (sp_conv_mode)(i / 2 % 3), i % 2 == 1, true, false, 1};
            data d;
            fill_data(&c, &d, false);
            float *one = convolve(&c, &d);
            for (c.threads = 2; c.threads <= 3; c.threads++) {
                float *more = convolve(&c, &d);
                assert_memory_equal(one, more, outputs(&c) * sizeof *one);
                sp_test_free(more, outputs(&c));
            }
            sp_test_free(one, outputs(&c));
            free_data(&c, &d);
        }
    }
}

/* ref itself, by hand: one channel, weights 1 .. 9, picture 1 2 / 3 4. */
static void reference_by_hand(void **state)
{
    (void)state;
    static const float x[4] = {1, 2, 3, 4}, weights[9] = {1, 2, 3, 4, 5, 6, 7, 8, 9}, bias[1] = {0.5f};
    /* top left under SAME: 5 * 1 + 6 * 2 + 8 * 3 + 9 * 4 = 77; under STRIDE2: 1 * 1 + 2 * 2 + 4 * 3 + 5 * 4 = 37 */
    static const float same[4] = {77.5f, 67.5f, 47.5f, 37.5f}, stride2[1] = {37.5f};
    /* doubled row 1 1 2 2: the top left pixel sees 1 1 / 1 1, the next in its row 1 1 2 / 1 1 2 */
    static const float upsample[2] = {28.5f, 4 + 5 + 7 + 8 + 2 * (6 + 9) + 0.5f};
    const sp_ops *ops = sp_ops_find("ref");
    sp_weight weight;
    float y[16];
    sp_plane plane = {2, 2, 1};
    assert_true(ops->pack_conv3x3(&weight, weights, SP_F32, 1, 1, false));
    ops->conv3x3(NULL, &weight, bias, x, plane, SP_CONV_SAME, NULL, y, NULL);
    assert_memory_equal(y, same, sizeof same);
    ops->conv3x3(NULL, &weight, bias, x, plane, SP_CONV_STRIDE2, NULL, y, NULL);
    assert_memory_equal(y, stride2, sizeof stride2);
    ops->conv3x3(NULL, &weight, bias, x, plane, SP_CONV_UPSAMPLE, NULL, y, NULL);
    assert_memory_equal(y, upsample, sizeof upsample);
    sp_release(weight.data);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(reference_by_hand),
        cmocka_unit_test(every_back_end_is_ref),
        cmocka_unit_test(threads_do_not_show),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
