/* Figures of an evaluation against values worked out by hand. */
#include "support.h"

#include "eval/bootstrap.h"
#include "eval/divergence.h"
#include "eval/eigen.h"
#include "eval/frechet.h"
#include "eval/manifold.h"
#include "eval/text.h"

static void assert_near(double found, double expected, double tolerance)
{
    if (!(fabs(found - expected) <= tolerance)) fail_msg("found %.12g, expected %.12g", found, expected);
}

static double frechet(const float *a, size_t n_a, const float *b, size_t n_b, size_t width)
{
    double distance = -1;
    SP_TEST_OK(sp_frechet(a, n_a, b, n_b, width, &distance, err));
    return distance;
}

/* In one dimension (m - m')^2 + (s - s')^2; here means 1 and 5, variances 2 and 8. */
static void frechet_of_a_line(void **state)
{
    (void)state;
    const float a[] = {0, 2}, b[] = {3, 7};
    assert_near(frechet(a, 2, b, 2, 1), 18, 1e-12);
    assert_near(frechet(a, 2, a, 2, 1), 0, 1e-12);
}

/* Covariances diag(x, y) and the same turned by 45 degrees do not commute: A B has trace (x + y)^2 / 2 and determinant
 * (x y)^2, and tr M^1/2 = (tr M + 2 (det M)^1/2)^1/2 for two rows. */
static void frechet_of_turned_covariances(void **state)
{
    (void)state;
    float a[8] = {3, 0, -3, 0, 0, 1, 0, -1}, b[8];
    double x = 2 * 9 / 3.0, y = 2 / 3.0;
    for (int i = 0; i < 4; i++) {
        b[2 * i] = (float)(((double)a[2 * i] - (double)a[2 * i + 1]) * sqrt(0.5)) + 4;
        b[2 * i + 1] = (float)(((double)a[2 * i] + (double)a[2 * i + 1]) * sqrt(0.5)) - 3;
    }
    double expected = 25 + 2 * (x + y) - 2 * sqrt((x + y) * (x + y) / 2 + 2 * x * y);
    assert_near(frechet(a, 4, b, 4, 2), expected, 1e-5);
    assert_near(frechet(b, 4, a, 4, 2), expected, 1e-5);
}

/* Two pictures have a covariance u u^T of rank one, whatever the width: tr (A B)^1/2 = |u v|. */
static void frechet_of_few_pictures(void **state)
{
    (void)state;
    enum { WIDTH = 30 };
    float a[2 * WIDTH], b[2 * WIDTH];
    double between = 0, uu = 0, vv = 0, uv = 0;
    for (size_t i = 0; i < WIDTH; i++) {
        for (size_t r = 0; r < 2; r++) {
            a[r * WIDTH + i] = sp_test_value(1, r * WIDTH + i);
            b[r * WIDTH + i] = sp_test_value(2, r * WIDTH + i);
        }
        double u = (double)(a[i] - a[WIDTH + i]) / sqrt(2), v = (double)(b[i] - b[WIDTH + i]) / sqrt(2);
        double mean = (double)(a[i] + a[WIDTH + i] - b[i] - b[WIDTH + i]) / 2;
        between += mean * mean;
        uu += u * u;
        vv += v * v;
        uv += u * v;
    }
    assert_near(frechet(a, 2, b, 2, WIDTH), between + uu + vv - 2 * fabs(uv), 1e-5);
}

static void frechet_refuses(void **state)
{
    (void)state;
    const float a[] = {0, 2, 4, 3}, broken[] = {0, NAN, 1, 2};
    double distance;
    sp_error failure = {0};
    assert_int_equal(sp_frechet(a, 1, a, 2, 1, &distance, &failure), SP_EARG);
    failure = (sp_error){0};
    assert_int_equal(sp_frechet(broken, 3, a, 3, 1, &distance, &failure), SP_EFORMAT);
    failure = (sp_error){0};
    assert_int_equal(sp_frechet(a, 2, broken, 2, 2, &distance, &failure), SP_EFORMAT);
}

/* More pictures than features, some of which say nothing of their own: one is constant, one is twice another. Per axis
 * the covariances commute, so that the distance is the sum of (s - s')^2 over the axes and of the moved means. */
static void frechet_of_dependent_features(void **state)
{
    (void)state;
    enum { N = 8, WIDTH = 4 };
    float a[N * WIDTH], b[N * WIDTH];
    for (size_t r = 0; r < N; r++) {
        float x = r & 1 ? 1 : -1, y = r & 2 ? 1 : -1;
        const float rows[2][WIDTH] = {{x, 5, 2 * x, y}, {3 * x, 5, 6 * x, 2 * y + 1}};
        memcpy(a + r * WIDTH, rows[0], sizeof rows[0]);
        memcpy(b + r * WIDTH, rows[1], sizeof rows[1]);
    }
    /* Along (1, 0, 2, 0) deviations are sqrt 5 and 3 sqrt 5, along the last 1 and 2, with n / (n - 1) for each. */
    double expected = 1 + (5 * 4 + 1) * 8 / 7.0;
    assert_near(frechet(a, N, b, N, WIDTH), expected, 1e-6);
    assert_near(frechet(a, N, a, N, WIDTH), 0, 1e-6);
    /* Three pictures are fewer than the features: both kinds of factor at once. c is the covariance, over the axes
     * (1, 0, 2, 0) and the last, of (x, y) = (-1, -1), (1, -1), (-1, 1). */
    double between = 0;
    const double mean[WIDTH] = {-1 / 3.0, 5, -2 / 3.0, -1 / 3.0}, moved[WIDTH] = {0, 5, 0, 1};
    const double c[2][2] = {{5 * 4 / 3.0, -2 / 3.0 * sqrt(5)}, {-2 / 3.0 * sqrt(5), 4 / 3.0}};
    const double d[2] = {9 * 5 * 8 / 7.0, 4 * 8 / 7.0};
    for (size_t i = 0; i < WIDTH; i++) between += (mean[i] - moved[i]) * (mean[i] - moved[i]);
    double determinant = (c[0][0] * c[1][1] - c[0][1] * c[1][0]) * d[0] * d[1];
    double root = sqrt(c[0][0] * d[0] + c[1][1] * d[1] + 2 * sqrt(determinant));
    expected = between + c[0][0] + c[1][1] + d[0] + d[1] - 2 * root;
    assert_near(frechet(a, 3, b, N, WIDTH), expected, 1e-5);
    assert_near(frechet(b, N, a, 3, WIDTH), expected, 1e-5);
}

/* 2 on the diagonal, -1 beside it: 2 - 2 cos(k pi / (n + 1)). Reflected by H = 1 - 2 u u^T, |u| = 1, so that it has no
 * zeros, and moved by -1, so that it has both signs. */
static void eigenvalues_of_a_chain(void **state)
{
    (void)state;
    enum { N = 40 };
    static double a[N * N], half[N * N], h[N * N], values[N];
    double length = 0;
    for (size_t i = 0; i < N; i++) length += pow((double)sp_test_value(3, i), 2);
    for (size_t i = 0; i < N; i++)
        for (size_t j = 0; j < N; j++) {
            h[i * N + j] = (i == j) - 2 * (double)sp_test_value(3, i) * (double)sp_test_value(3, j) / length;
            half[i * N + j] = i == j ? 1 : i + 1 == j || j + 1 == i ? -1 : 0;
        }
    for (size_t i = 0; i < N; i++)
        for (size_t j = 0; j <= i; j++)
            for (size_t k = 0; k < N; k++)
                for (size_t m = 0; m < N; m++) a[i * N + j] += h[i * N + k] * half[k * N + m] * h[m * N + j];
    SP_TEST_OK(sp_eigenvalues(a, N, values, err));
    for (size_t k = 0; k < N; k++) assert_near(values[k], 1 - 2 * cos(((double)k + 1) * acos(-1) / (N + 1)), 1e-13);
}

static void eigenvalues_at_the_edges(void **state)
{
    (void)state;
    double one[] = {-7}, same[] = {3, NAN, NAN, 0, 3, NAN, 0, 0, 3}, none[] = {0, 0, 0, 0}, far[] = {1e-9, 0, 0, 1e9};
    double broken[] = {1, 0, NAN, 1}, values[3];
    sp_error failure = {0};
    SP_TEST_OK(sp_eigenvalues(one, 1, values, err));
    assert_near(values[0], -7, 1e-14);
    SP_TEST_OK(sp_eigenvalues(same, 3, values, err));
    for (size_t k = 0; k < 3; k++) assert_near(values[k], 3, 1e-14);
    SP_TEST_OK(sp_eigenvalues(none, 2, values, err));
    assert_near(values[1], 0, 0);
    SP_TEST_OK(sp_eigenvalues(far, 2, values, err));
    assert_near(values[0], 0, 1e-6);
    assert_near(values[1], 1e9, 1e-6);
    assert_int_equal(sp_eigenvalues(broken, 2, values, &failure), SP_EFORMAT);
}

/* Radii of 0 1 2 3 4 to the third neighbour are 3 2 2 2 3, so they cover [-3, 7]. */
static void precision_and_recall(void **state)
{
    (void)state;
    const float real[] = {0, 1, 2, 3, 4}, made[] = {2.5f, 8, 7, -3.5f, -3};
    double precision, recall;
    sp_error failure = {0};
    SP_TEST_OK(sp_manifold(real, 5, made, 5, 1, &precision, &recall, err));
    assert_near(precision, 3 / 5.0, 0);
    assert_near(recall, 1, 0);
    SP_TEST_OK(sp_manifold(made, 5, real, 5, 1, &precision, &recall, err));
    assert_near(precision, 1, 0);
    assert_near(recall, 3 / 5.0, 0);
    SP_TEST_OK(sp_manifold(real, 5, made + 1, 4, 1, &precision, &recall, err));
    assert_near(precision, 2 / 4.0, 0);
    assert_int_equal(sp_manifold(real, 3, made, 5, 1, &precision, &recall, &failure), SP_EARG);
    /* The same along any one of many features. */
    enum { WIDTH = 19 };
    for (size_t along = 0; along < WIDTH; along++) {
        float wide_real[5 * WIDTH] = {0}, wide_made[5 * WIDTH] = {0};
        for (size_t i = 0; i < 5; i++) {
            wide_real[i * WIDTH + along] = real[i];
            wide_made[i * WIDTH + along] = made[i];
        }
        SP_TEST_OK(sp_manifold(wide_real, 5, wide_made, 5, WIDTH, &precision, &recall, err));
        assert_near(precision, 3 / 5.0, 0);
        assert_near(recall, 1, 0);
    }
}

static void divergences(void **state)
{
    (void)state;
    const uint64_t left[] = {5, 0}, right[] = {0, 9}, mostly[] = {3, 1}, rarely[] = {10, 30}, none[] = {0, 0};
    assert_near(sp_jensen_shannon(left, right, 2), 1, 1e-12);
    assert_near(sp_jensen_shannon(mostly, mostly, 2), 0, 1e-12);
    /* 1 - H(1/4), H in bits. */
    assert_near(sp_jensen_shannon(mostly, rarely, 2), 1 + 0.25 * log2(0.25) + 0.75 * log2(0.75), 1e-12);
    assert_near(sp_jensen_shannon(none, left, 2), 0, 0);
    const uint64_t even[] = {100, 100, 100, 100}, early[] = {400, 0, 0, 0}, late[] = {100, 100, 0, 200};
    assert_near(sp_uniform_distance(even, 4), 0, 1e-12);
    assert_near(sp_uniform_distance(early, 4), 0.75, 1e-12);
    assert_near(sp_uniform_distance(late, 4), 0.25, 1e-12);
    assert_near(sp_variation_at_least(early, 4), 0.75 - 1.358 / 20, 1e-12);
    assert_near(sp_variation_at_least(even, 4), 0, 0);
    assert_near(sp_variation_at_least(none, 2), 0, 0);
}

/* A mean of 200 values: the interval is that of the normal law, to what 1,000 resamples can tell. */
static void bootstrap_of_a_mean(void **state)
{
    (void)state;
    enum { N = 200 };
    double values[N], ones[N], mean = 0, variance = 0;
    for (size_t i = 0; i < N; i++) {
        values[i] = (double)sp_test_value(4, i);
        ones[i] = 1;
        mean += values[i] / N;
    }
    for (size_t i = 0; i < N; i++) variance += (values[i] - mean) * (values[i] - mean) / N;
    sp_ratio_data data = {values, ones};
    sp_interval found, again;
    SP_TEST_OK(sp_bootstrap(sp_ratio, &data, N, &found, err));
    double half = 1.96 * sqrt(variance / N);
    assert_true(found.known && found.bounded);
    assert_near(found.value, mean, 1e-12);
    assert_near(found.low, mean - half, 0.15 * half);
    assert_near(found.high, mean + half, 0.15 * half);
    SP_TEST_OK(sp_bootstrap(sp_ratio, &data, N, &again, err));
    assert_true(again.low == found.low && again.high == found.high);
    SP_TEST_OK(sp_bootstrap(sp_ratio, &data, 1, &found, err));
    assert_true(found.known && !found.bounded && found.value == values[0]);
}

/* All pictures of a prompt come and go together: prompts of 1, 1, 1 and 9, 9, 9 have nothing in between. */
static void bootstrap_of_medians(void **state)
{
    (void)state;
    const double own[] = {1, 1, 1, 9, 9, 9}, others[] = {2, 2, 2, 18, 18, 18};
    double scratch[6];
    sp_median_data data = {own, NULL, 3, scratch};
    sp_interval found;
    SP_TEST_OK(sp_bootstrap(sp_median, &data, 2, &found, err));
    assert_true(found.value == 5 && found.low == 1 && found.high == 9);
    data = (sp_median_data){others, own, 3, scratch};
    SP_TEST_OK(sp_bootstrap(sp_median, &data, 2, &found, err));
    assert_true(found.value == 2 && found.low == 2 && found.high == 2);
}

static void assert_text(sp_text *text, const char *expected)
{
    assert_false(text->failed);
    assert_int_equal(text->buffer.size, strlen(expected));
    assert_memory_equal(text->buffer.data, expected, text->buffer.size);
    sp_text_free(text);
}

static void fields_of_csv(void **state)
{
    (void)state;
    const char *const fields[] = {"plain", "a,b", "say \"x\"", "two\nlines", " blank", "", "it's"};
    sp_text text = {0};
    for (size_t i = 0; i < 7; i++) {
        sp_text_csv(&text, fields[i]);
        sp_text_add(&text, ";");
    }
    assert_text(&text, "plain;\"a,b\";\"say \"\"x\"\"\";\"two\nlines\";\" blank\";;it's;");
}

static void texts_of_html(void **state)
{
    (void)state;
    sp_text text = {0};
    sp_text_html(&text, "<b onclick=\"x('&')\">\x01\n</b> ♥");
    assert_text(&text, "&lt;b onclick=&quot;x(&#39;&amp;&#39;)&quot;&gt;\xEF\xBF\xBD\n&lt;/b&gt; ♥");
    sp_text_format(&text, "%700d|", 5);
    assert_int_equal(text.buffer.size, 701);
    assert_memory_equal(text.buffer.data + 698, " 5|", 3);
    sp_text_free(&text);
    sp_text_base64(&text, "red heart!", 10);
    assert_text(&text, "cmVkIGhlYXJ0IQ==");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(frechet_of_a_line),
        cmocka_unit_test(frechet_of_turned_covariances),
        cmocka_unit_test(frechet_of_few_pictures),
        cmocka_unit_test(frechet_refuses),
        cmocka_unit_test(frechet_of_dependent_features),
        cmocka_unit_test(eigenvalues_of_a_chain),
        cmocka_unit_test(eigenvalues_at_the_edges),
        cmocka_unit_test(precision_and_recall),
        cmocka_unit_test(divergences),
        cmocka_unit_test(bootstrap_of_a_mean),
        cmocka_unit_test(bootstrap_of_medians),
        cmocka_unit_test(fields_of_csv),
        cmocka_unit_test(texts_of_html),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
