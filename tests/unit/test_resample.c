/* Pictures scaled for a network, against values worked out by hand. */
#include "support.h"

#include "eval/resample.h"

static const sp_raster plain = {.deviation = {1, 1, 1}};

/* Planes of rgb at another size, between guards. */
static float *resample(const uint8_t *rgb, size_t width, size_t height, sp_raster to)
{
    float *planes = sp_test_alloc(3 * to.width * to.height);
    SP_TEST_OK(sp_resample(rgb, width, height, &to, planes, err));
    return planes;
}

static void assert_planes(float *planes, const double *expected, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (!(fabs((double)planes[i] - expected[i]) <= 1e-6))
            fail_msg("%zu: found %.9g, expected %.9g", i, (double)planes[i], expected[i]);
    sp_test_free(planes, n);
}

static sp_raster sized(size_t width, size_t height)
{
    sp_raster to = plain;
    to.width = width;
    to.height = height;
    return to;
}

/* Its own size leaves a picture as it is, a plane a colour, and moves and scales each colour by its own numbers. */
static void the_same_size(void **state)
{
    (void)state;
    uint8_t rgb[2 * 3 * 3];
    double expected[18];
    sp_raster to = {3, 2, {0.5f, 0.25f, 0}, {0.5f, 0.25f, 2}};
    for (size_t i = 0; i < sizeof rgb; i++) rgb[i] = (uint8_t)(255 - 13 * i);
    for (size_t i = 0; i < 6; i++)
        for (size_t c = 0; c < 3; c++)
            expected[c * 6 + i] = (rgb[i * 3 + c] / 255.0 - (double)to.mean[c]) / (double)to.deviation[c];
    assert_planes(resample(rgb, 3, 2, to), expected, 18);
}

/* Two columns to four: centres at 0.25, 0.75, 1.25, 1.75 between pixels at 0.5 and 1.5. Rows to one: their mean. */
static void growing(void **state)
{
    (void)state;
    const uint8_t rgb[] = {0, 255, 51, 255, 0, 51};
    const double expected[] = {0, 0.25, 0.75, 1, 1, 0.75, 0.25, 0, 0.2, 0.2, 0.2, 0.2};
    assert_planes(resample(rgb, 2, 1, sized(4, 1)), expected, 12);
    assert_planes(resample(rgb, 1, 2, sized(1, 4)), expected, 12);
}

/* Eight to two: centres at 2 and 6, four wide on each side; pixels beyond an edge are left out. Weights of the first
 * are 5 7 7 5 3 1 eighths, those of the second the same from the other end. */
static void shrinking(void **state)
{
    (void)state;
    uint8_t rgb[8 * 3] = {0};
    double expected[6] = {0}, first = 28 / 8.0;
    rgb[0 * 3] = 255;     /* red, only seen from the first */
    rgb[4 * 3 + 1] = 255; /* green, seen from both */
    rgb[7 * 3 + 2] = 51;
    expected[0] = 5 / 8.0 / first;
    expected[2] = 3 / 8.0 / first;
    expected[3] = 5 / 8.0 / first;
    expected[5] = 0.2 * 5 / 8.0 / first;
    assert_planes(resample(rgb, 8, 1, sized(2, 1)), expected, 6);
    assert_planes(resample(rgb, 1, 8, sized(1, 2)), expected, 6);
}

/* Both sides at once, each by its own ratio: columns first or rows first are the same. */
static void sides_are_independent(void **state)
{
    (void)state;
    uint8_t rgb[4 * 2 * 3];
    double expected[3 * 3 * 4];
    for (size_t i = 0; i < sizeof rgb; i++) rgb[i] = (uint8_t)(64 * (i % 4));
    float *wide = resample(rgb, 4, 2, sized(4, 3)), *both = resample(rgb, 4, 2, sized(3, 3));
    /* Four columns to three: centres at 2/3, 2 and 10/3, 4/3 wide on each side. */
    const double weights[3][4] = {{7 / 8.0, 3 / 8.0, 0, 0}, {0, 5 / 8.0, 5 / 8.0, 0}, {0, 0, 3 / 8.0, 7 / 8.0}};
    for (size_t line = 0; line < 9; line++)
        for (size_t x = 0; x < 3; x++) {
            double sum = 0, total = 0;
            for (size_t k = 0; k < 4; k++) {
                sum += weights[x][k] * (double)wide[line * 4 + k];
                total += weights[x][k];
            }
            expected[line * 3 + x] = sum / total;
        }
    sp_test_free(wide, 36);
    assert_planes(both, expected, 27);
}

/* A picture of one colour stays one, whatever the sizes. */
static void one_colour_stays(void **state)
{
    (void)state;
    uint8_t rgb[7 * 5 * 3];
    for (size_t i = 0; i < sizeof rgb; i++) rgb[i] = (uint8_t)(i % 3 == 0 ? 51 : i % 3 == 1 ? 102 : 255);
    for (size_t width = 1; width < 20; width += 3)
        for (size_t height = 1; height < 20; height += 2) {
            double expected[3 * 20 * 20];
            for (size_t i = 0; i < 3 * width * height; i++)
                expected[i] = i < width * height ? 0.2 : i < 2 * width * height ? 0.4 : 1;
            assert_planes(resample(rgb, 7, 5, sized(width, height)), expected, 3 * width * height);
        }
}

static void memory_runs_out(void **state)
{
    (void)state;
    const uint8_t rgb[3] = {0};
    float planes[3];
    sp_raster to = sized(1, 1);
    sp_error failure = {0};
    sp_test_allow_allocations(0);
    sp_status status = sp_resample(rgb, 1, 1, &to, planes, &failure);
    sp_alloc_hook(NULL);
    assert_int_equal(status, SP_ENOMEM);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_same_size), cmocka_unit_test(growing), cmocka_unit_test(shrinking),
        cmocka_unit_test(sides_are_independent), cmocka_unit_test(one_colour_stays),
        cmocka_unit_test(memory_runs_out),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
