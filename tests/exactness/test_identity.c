/* pathwise draws the picture of ar, token for token and byte for byte, whatever the window, the start and the threads;
 * and the same seed gives the same bytes over runs, sessions and orders. On the sample model and its prompt lists, or
 * the model of engine_trial.h. */
#include "engine_trial.h"

#include <unistd.h>

#include "base/arena.h"
#include "io/image.h"
#include "kernels/kernels.h"

static bool all(void) { return getenv("SP_TEST_ALL") != NULL; }

typedef struct drawn {
    int32_t *tokens;
    unsigned char *png;
    size_t n_tokens, png_size;
} drawn;

static drawn draw(sp_session *session, const sp_request *request)
{
    const sp_result *r;
    drawn out = {0};
    SP_TEST_OK(sp_generate(session, request, &r, err));
    out.n_tokens = r->n_tokens;
    out.tokens = malloc(r->n_tokens * sizeof *out.tokens);
    memcpy(out.tokens, r->tokens, r->n_tokens * sizeof *out.tokens);
    if (r->rgb) SP_TEST_OK(sp_png_encode(r->rgb, r->width, r->height, NULL, 0, &out.png, &out.png_size, err));
    return out;
}

static void release(drawn *d)
{
    free(d->tokens);
    sp_release(d->png);
}

static void assert_same(const drawn *a, const drawn *b)
{
    assert_int_equal(a->n_tokens, b->n_tokens);
    for (size_t i = 0; i < a->n_tokens; i++)
        if (a->tokens[i] != b->tokens[i])
            fail_msg("token %zu is %d, expected %d", i, b->tokens[i], a->tokens[i]);
    if (a->png && b->png) {
        assert_int_equal(a->png_size, b->png_size);
        assert_memory_equal(a->png, b->png, a->png_size);
    }
}

enum { MAX_PROMPTS = 200, LINE = 200 };

static size_t prompts(char out[MAX_PROMPTS][LINE])
{
    static const char *const kinds[] = {"plain", "background", "hue", "pair"};
    size_t n = 0;
    for (size_t k = 0; k < 4; k++) {
        char path[4096];
        snprintf(path, sizeof path, "%s/samples/prompts/%s.txt", SP_SOURCE_DIR, kinds[k]);
        FILE *file = fopen(path, "r");
        assert_non_null(file);
        for (size_t i = 0; n < MAX_PROMPTS && fgets(out[n], LINE, file); i++) {
            out[n][strcspn(out[n], "\n")] = 0;
            n += all() || i < 2;
        }
        fclose(file);
    }
    return n;
}

/* A device has kernels and arithmetic of its own. */
static sp_engine *engine(int threads, const char *kernels, const char *dtype)
{
    sp_engine *e = NULL;
    sp_engine_options options = sp_trial_options();
    options.threads = threads;
    options.kernels = sp_trial_device() ? "auto" : kernels;
    options.dtype = sp_trial_device() ? "auto" : dtype;
    SP_TEST_OK(sp_engine_open(&e, &options, err));
    return e;
}

static void pathwise_is_ar(void **state)
{
    (void)state;
    static char lines[MAX_PROMPTS][LINE];
    static const int windows[] = {1, 2, 5, 16, 32, 64, 0};
    size_t n = prompts(lines), pictures = 0;
    sp_engine *engines[2] = {engine(1, "auto", "auto"), engine(2, "auto", "auto")};
    sp_session *sessions[2];
    for (size_t t = 0; t < 2; t++) SP_TEST_OK(sp_session_open(&sessions[t], engines[t], err));
    for (size_t i = 0; i < n; i++) {
        sp_request request = sp_request_defaults(engines[0]);
        request.prompt = sp_trial_prompt(engines[0], lines[i]);
        request.seed = 1000 + i;
        request.method = "ar";
        drawn plain = draw(sessions[i % 2], &request);
        request.method = "pathwise";
        for (size_t w = 0; w < sizeof windows / sizeof *windows; w++)
            for (size_t t = 0; t < 2; t++)
                for (const char *const *start = sp_draft_inits(); *start; start++) {
                    /* Every pair of settings meets in the short run too, spread over the prompts. */
                    if (!all() && (w + t + i + (size_t)(start - sp_draft_inits())) % 6) continue;
                    request.window = windows[w];
                    request.tree = (i + w + t) % 4 == 0 ? 2 + (int)((i + 3 * w) % 15) : 1;
                    request.draft_init = *start;
                    drawn fast = draw(sessions[t], &request);
                    assert_same(&plain, &fast);
                    release(&fast);
                    pictures++;
                }
        release(&plain);
    }
    print_message("%zu pictures of %zu prompts are those of ar\n", pictures, n);
    for (size_t t = 0; t < 2; t++) {
        sp_session_close(sessions[t]);
        sp_engine_close(engines[t]);
    }
}

/* Sampling options, both arithmetics and every back end, a few pictures each. */
static void every_setting(void **state)
{
    (void)state;
    static const struct { float cfg_scale, temperature; int top_k; float top_p; } settings[] = {
        {1, 1, 0, 1}, {5, 1.2f, 40, 1}, {3, 0.7f, 0, 0.9f}, {2, 1, 100, 0.95f}, {3, 0, 0, 1}, {3, 1, 1, 1}};
    for (const char *const *kernels = sp_kernel_names(); *kernels; kernels++)
        for (int bf16 = 0; bf16 < 2; bf16++) {
            bool first = kernels == sp_kernel_names() && !bf16;
            if (sp_trial_device() ? !first : strcmp(*kernels, "ref") == 0 && !all()) continue;
            sp_engine *e = engine(2, *kernels, bf16 ? "bf16" : "f32");
            sp_session *s;
            SP_TEST_OK(sp_session_open(&s, e, err));
            drawn greedy = {0};
            int codes = (int)sp_engine_info(e).n_codes;
            for (size_t i = 0; i < sizeof settings / sizeof *settings; i++) {
                sp_request r = sp_request_defaults(e);
                r.prompt = sp_trial_prompt(e, "red heart");
                r.seed = i;
                r.cfg_scale = settings[i].cfg_scale;
                r.temperature = settings[i].temperature;
                r.top_k = settings[i].top_k < codes ? settings[i].top_k : codes;
                r.top_p = settings[i].top_p;
                r.method = "ar";
                drawn plain = draw(s, &r);
                r.method = "pathwise";
                r.window = 24;
                drawn fast = draw(s, &r);
                assert_same(&plain, &fast);
                /* Temperature 0 and top-k 1 are both greedy. */
                if (i == 4) greedy = draw(s, &r);
                if (i == 5) assert_same(&greedy, &fast);
                release(&plain);
                release(&fast);
            }
            release(&greedy);
            sp_session_close(s);
            sp_engine_close(e);
        }
}

static bool has_drafter(const sp_engine *e)
{
    char path[4096];
    snprintf(path, sizeof path, "%s/drafter", sp_engine_info(e).path);
    return access(path, F_OK) == 0;
}

/* At temperature 0 every method gives the tokens of ar; lantern only when no neighbour counts. */
static void greedy_is_ar(void **state)
{
    (void)state;
    sp_engine *e = engine(2, "auto", "auto");
    sp_session *s;
    SP_TEST_OK(sp_session_open(&s, e, err));
    static const char *const prompts[] = {"red heart", "cat face", "a blue car on a yellow background"};
    for (size_t i = 0; i < (all() ? 3 : 1); i++) {
        sp_request r = sp_request_defaults(e);
        r.prompt = sp_trial_prompt(e, prompts[i]);
        r.pixels = false;
        r.temperature = 0;
        r.method = "ar";
        r.lantern_k = 0;
        drawn plain = draw(s, &r);
        for (const sp_method *method = sp_methods(); method->name && !method->continuous; method++) {
            if (method->needs_drafter && !has_drafter(e)) continue;
            for (int window = 0; window <= (all() ? 32 : 16); window += 16)
                for (const char *const *start = sp_draft_inits(); *start; start++) {
                    r.method = method->name;
                    r.seed = (uint64_t)window;
                    r.window = window;
                    r.draft_init = *start;
                    drawn fast = draw(s, &r);
                    assert_same(&plain, &fast);
                    release(&fast);
                }
        }
        release(&plain);
    }
    sp_session_close(s);
    sp_engine_close(e);
}

/* A picture depends on its own seed and number alone: not on what the session drew before. */
static void no_memory_of_the_past(void **state)
{
    (void)state;
    sp_engine *e = engine(2, "auto", "auto");
    sp_session *a, *b;
    SP_TEST_OK(sp_session_open(&a, e, err));
    SP_TEST_OK(sp_session_open(&b, e, err));
    sp_request r = sp_request_defaults(e);
    drawn first[4], second[4];
    for (uint32_t i = 0; i < 4; i++) {
        r.prompt = sp_trial_prompt(e, i % 2 ? "cat face" : "blue heart on yellow background");
        r.image = i;
        first[i] = draw(a, &r);
    }
    for (uint32_t i = 4; i-- > 0;) {
        r.prompt = sp_trial_prompt(e, i % 2 ? "cat face" : "blue heart on yellow background");
        r.image = i;
        second[i] = draw(b, &r);
        assert_same(&first[i], &second[i]);
    }
    assert_memory_not_equal(first[0].tokens, first[2].tokens, first[0].n_tokens * sizeof(int32_t));
    for (size_t i = 0; i < 4; i++) {
        release(&first[i]);
        release(&second[i]);
    }
    sp_session_close(a);
    sp_session_close(b);
    sp_engine_close(e);
}

static bool stop_at_third(void *user, const sp_progress *p)
{
    ++*(int *)user;
    return p->passes < 3;
}

static void interrupted(void **state)
{
    (void)state;
    sp_engine *e = engine(1, "auto", "auto");
    sp_session *s;
    SP_TEST_OK(sp_session_open(&s, e, err));
    sp_request r = sp_request_defaults(e);
    r.prompt = sp_trial_prompt(e, r.prompt);
    drawn whole = draw(s, &r);
    int calls = 0;
    r.progress = stop_at_third;
    r.user = &calls;
    const sp_result *result;
    sp_error err = {0};
    assert_int_equal(sp_generate(s, &r, &result, &err), SP_ECANCELLED);
    assert_null(result);
    assert_int_equal(calls, 3);
    r.progress = NULL;
    drawn again = draw(s, &r);
    assert_same(&whole, &again);
    release(&whole);
    release(&again);
    sp_session_close(s);
    sp_engine_close(e);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(pathwise_is_ar), cmocka_unit_test(every_setting),
                                       cmocka_unit_test(greedy_is_ar),
                                       cmocka_unit_test(no_memory_of_the_past), cmocka_unit_test(interrupted)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
