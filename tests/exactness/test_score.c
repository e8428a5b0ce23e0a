/* Teacher-forced scores and the encoder's features, on the sample model. The rank of a token under the law it was
 * drawn from is uniform: a Kolmogorov-Smirnov test says so for plain decoding, and says no for other laws. */
#include "engine_trial.h"

enum { PICTURES = 6, TOKENS = 256, N = PICTURES * TOKENS };

/* P(KS > 1.95 / sqrt(n)) = 0.001. */
static const double LIMIT = 1.95;

static sp_engine *engine;
static sp_session *session;

static int enter(void **state)
{
    (void)state;
    sp_engine_options options = sp_trial_options();
    SP_TEST_OK(sp_engine_open(&engine, &options, err));
    SP_TEST_OK(sp_session_open(&session, engine, err));
    return 0;
}

static int leave(void **state)
{
    (void)state;
    sp_session_close(session);
    sp_engine_close(engine);
    return 0;
}

static int ascending(const void *a, const void *b)
{
    float x = *(const float *)a, y = *(const float *)b;
    return (x > y) - (x < y);
}

/* Distance between the ranks and the uniform law, times sqrt n. */
static double distance(float *ranks, size_t n)
{
    double worst = 0;
    qsort(ranks, n, sizeof *ranks, ascending);
    for (size_t i = 0; i < n; i++) {
        double x = (double)ranks[i];
        assert_true(x >= 0 && x <= 1);
        worst = fmax(worst, fmax(x - (double)i / (double)n, (double)(i + 1) / (double)n - x));
    }
    return worst * sqrt((double)n);
}

static const char *const prompts[PICTURES] = {"red heart", "blue car", "a cat and a dog", "star", "tree", "house"};
static int32_t drawn[PICTURES][TOKENS];

static void draw(sp_request law)
{
    for (uint32_t k = 0; k < PICTURES; k++) {
        const sp_result *result;
        law.prompt = prompts[k];
        law.image = k;
        SP_TEST_OK(sp_generate(session, &law, &result, err));
        assert_int_equal(result->n_tokens, TOKENS);
        memcpy(drawn[k], result->tokens, sizeof drawn[k]);
    }
}

/* Of what was drawn, under a law; the mean log-probability in *log_p. */
static double rank_distance(sp_request law, double *log_p)
{
    static sp_token_score scores[TOKENS];
    static float ranks[N];
    *log_p = 0;
    for (uint32_t k = 0; k < PICTURES; k++) {
        law.prompt = prompts[k];
        law.image = k;
        SP_TEST_OK(sp_score_tokens(session, &law, drawn[k], scores, err));
        for (size_t i = 0; i < TOKENS; i++) {
            assert_true(scores[i].log_p <= 0);
            *log_p += (double)scores[i].log_p / N;
            ranks[k * TOKENS + i] = scores[i].rank;
        }
    }
    return distance(ranks, N);
}

static sp_request plain(void)
{
    sp_request request = sp_request_defaults(engine);
    request.method = "pathwise"; /* the tokens of ar */
    request.pixels = false;
    request.seed = 5;
    return request;
}

static void ranks_are_uniform(void **state)
{
    (void)state;
    double log_p;
    sp_request request = plain();
    request.temperature = 1.2f;
    request.top_k = 40;
    draw(request);
    assert_true(rank_distance(request, &log_p) < LIMIT);
    request.top_p = 0.7f;
    request.cfg_scale = 1;
    draw(request);
    assert_true(rank_distance(request, &log_p) < LIMIT);
    request.temperature = 0;
    draw(request);
    assert_true(rank_distance(request, &log_p) < LIMIT);
}

static void another_law_is_seen(void **state)
{
    (void)state;
    double log_p, own;
    sp_request law = plain();
    draw(law);
    assert_true(rank_distance(law, &own) < LIMIT);
    law.temperature = 0.9f;
    assert_true(rank_distance(law, &log_p) > LIMIT);
    law = plain();
    law.cfg_scale = 1;
    assert_true(rank_distance(law, &log_p) > LIMIT);
    assert_true(log_p < own - 0.1);
    law = plain();
    law.top_p = 0.8f;
    assert_true(rank_distance(law, &log_p) > LIMIT);
    assert_true(fabs(log_p - own) < 1e-9);
}

static void bad_tokens_are_refused(void **state)
{
    (void)state;
    static int32_t tokens[TOKENS];
    static sp_token_score scores[TOKENS];
    sp_request request = plain();
    request.prompt = "x";
    for (int which = 0; which < 2; which++) {
        sp_error err = {0};
        tokens[9] = which ? -1 : 1 << 20;
        assert_int_equal(sp_score_tokens(session, &request, tokens, scores, &err), SP_EARG);
        assert_non_null(strstr(err.message, "token 9 is"));
    }
}

static void features_tell_pictures_apart(void **state)
{
    (void)state;
    sp_model_info info = sp_engine_info(engine);
    size_t bytes = info.width * info.height * 3, n = info.n_features;
    uint8_t *rgb = malloc(bytes);
    float *one = sp_test_alloc(n), *again = sp_test_alloc(n), *other = sp_test_alloc(n), *plain_c = sp_test_alloc(n);
    for (size_t i = 0; i < bytes; i++) rgb[i] = (uint8_t)(i * 7 % 256);
    SP_TEST_OK(sp_pixels_to_features(session, rgb, one, err));
    SP_TEST_OK(sp_pixels_to_features(session, rgb, again, err));
    assert_memory_equal(one, again, n * sizeof *one);
    sp_engine_options options = sp_engine_defaults();
    options.model = info.path;
    options.kernels = "ref";
    options.dtype = info.dtype;
    sp_engine *reference;
    sp_session *reference_session;
    SP_TEST_OK(sp_engine_open(&reference, &options, err));
    SP_TEST_OK(sp_session_open(&reference_session, reference, err));
    SP_TEST_OK(sp_pixels_to_features(reference_session, rgb, plain_c, err));
    memset(rgb, 255, bytes);
    SP_TEST_OK(sp_pixels_to_features(session, rgb, other, err));
    double length = 0, error = 0, change = 0;
    for (size_t i = 0; i < n; i++) {
        length += (double)(plain_c[i] * plain_c[i]);
        error += pow((double)(one[i] - plain_c[i]), 2);
        change += pow((double)(one[i] - other[i]), 2);
    }
    /* bf16 products: 2^-8 a factor, over some ten layers. */
    assert_true(error < 0.05 * 0.05 * length);
    assert_true(change > 0.2 * 0.2 * length);
    sp_session_close(reference_session);
    sp_engine_close(reference);
    sp_test_free(one, n);
    sp_test_free(again, n);
    sp_test_free(other, n);
    sp_test_free(plain_c, n);
    free(rgb);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(ranks_are_uniform),
        cmocka_unit_test(another_law_is_seen),
        cmocka_unit_test(bad_tokens_are_refused),
        cmocka_unit_test(features_tell_pictures_apart),
    };
    return cmocka_run_group_tests(tests, enter, leave);
}
