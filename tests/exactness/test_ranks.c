/* On the sample model, or that of engine_trial.h: the tokens of an exact rule have uniform ranks under the model's law
 * given the tokens before them (probability integral transform, ties broken at random), pooled over positions and
 * pictures; those of a relaxed rule have not. Kolmogorov-Smirnov. SP_TEST_PICTURES says how many pictures. */
#include "engine_trial.h"

enum { MAX_TOKENS = 256 * 400 };

/* P(sqrt(n) D > 1.95) = 0.001. */
static const double LIMIT = 1.95;

static size_t pictures(void)
{
    const char *said = getenv("SP_TEST_PICTURES");
    return said ? strtoul(said, NULL, 10) : getenv("SP_TEST_ALL") ? 400 : 8;
}

static int compare(const void *a, const void *b)
{
    float x = *(const float *)a, y = *(const float *)b;
    return (x > y) - (x < y);
}

/* sqrt(n) D of the ranks of all tokens; *passes is their mean number a picture. */
static double distance(const char *method, int window, int tree, int group_size, double *passes)
{
    static float ranks[MAX_TOKENS];
    static sp_token_score scores[MAX_TOKENS];
    static int32_t tokens[MAX_TOKENS];
    static const char *const prompts[] = {"red heart", "a cat and a dog", "blue car on a yellow background", "star"};
    size_t n = 0;
    *passes = 0;
    sp_engine *engine = NULL;
    sp_session *session = NULL;
    sp_engine_options options = sp_trial_options();
    options.threads = 1;
    SP_TEST_OK(sp_engine_open(&engine, &options, err));
    SP_TEST_OK(sp_session_open(&session, engine, err));
    for (size_t i = 0; i < pictures(); i++) {
        const sp_result *result;
        sp_request request = sp_request_defaults(engine);
        request.prompt = sp_trial_prompt(engine, prompts[i % 4]);
        request.temperature = 1;
        request.seed = 77000 + i;
        request.method = method;
        request.window = window;
        request.tree = tree;
        request.group_size = group_size;
        request.group_delta = 1;
        request.group_distance = 4;
        request.pixels = false;
        SP_TEST_OK(sp_generate(session, &request, &result, err));
        size_t count = result->n_tokens;
        assert_true(n + count <= MAX_TOKENS);
        *passes += (double)result->nfe / (double)pictures();
        memcpy(tokens, result->tokens, count * sizeof *tokens);
        SP_TEST_OK(sp_score_tokens(session, &request, tokens, scores, err));
        for (size_t j = 0; j < count; j++) ranks[n++] = scores[j].rank;
    }
    sp_session_close(session);
    sp_engine_close(engine);
    qsort(ranks, n, sizeof *ranks, compare);
    double most = 0;
    for (size_t i = 0; i < n; i++) {
        double low = (double)ranks[i] - (double)i / (double)n, high = (double)(i + 1) / (double)n - (double)ranks[i];
        most = fmax(most, fmax(low, high));
    }
    return most * sqrt((double)n);
}

static void ranks_are_uniform(void **state)
{
    (void)state;
    const struct {
        const char *method;
        int window, tree, group_size;
        bool uniform;
    } cases[] = {{"sjd", 24, 1, 1, true}, {"coupled", 24, 1, 1, true}, {"coupled", 12, 4, 1, true},
                 {"gsd", 24, 1, 100, false}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        double passes, d = distance(cases[i].method, cases[i].window, cases[i].tree, cases[i].group_size, &passes);
        print_message("%-10s window %d, tree %d: sqrt(n) D %.2f, %.1f passes\n", cases[i].method, cases[i].window,
                      cases[i].tree, d, passes);
        assert_true((d < LIMIT) == cases[i].uniform);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(ranks_are_uniform)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
