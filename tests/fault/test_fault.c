/* Memory runs out at every place in turn, once or from there on: each failure is SP_ENOMEM in one line, and what is
 * asked again afterwards is right. Allocations are those of sp_alloc and of jansson. Leaks are found by LeakSanitizer,
 * under which tools/test runs this too. */
#include "support.h"

#include <jansson.h>
#include <malloc.h>
#include <unistd.h>

#include "base/arena.h"
#include "specular.h"

static size_t calls, first_failure, failures; /* first_failure counts from 1; 0 never */
static bool persistent, first_was_jansson;

static bool fails(bool jansson)
{
    calls++;
    bool failed = first_failure != 0 && (persistent ? calls >= first_failure : calls == first_failure);
    if (failed && failures++ == 0) first_was_jansson = jansson;
    return failed;
}

static void *hooked_alloc(size_t bytes) { return fails(false) ? NULL : aligned_alloc(64, bytes); }
static void *hooked_malloc(size_t bytes) { return fails(true) ? NULL : malloc(bytes); }

static void inject(size_t first, bool on)
{
    calls = failures = 0;
    first_failure = first;
    persistent = on;
}

static void hooks(bool on)
{
    inject(0, false);
    sp_alloc_hook(on ? hooked_alloc : NULL);
    json_set_alloc_funcs(on ? hooked_malloc : malloc, free);
}

static char picture[64];

typedef struct sample {
    const char *model;
    const char *prompt;
    int batch_size; /* 0: one picture at a time */
} sample;

static const sample TINY = {SP_SOURCE_DIR "/tests/golden/llamagen-tiny", "3", 0};

static sample shipped(void)
{
    const char *model = getenv("SP_TEST_MODEL");
    return (sample){model ? model : SP_SOURCE_DIR "/samples/emoji", "red heart", 0};
}

enum { BATCH = 3, MANY = BATCH + 2 };

static sp_status count_picture(void *user, size_t index, const sp_result *result, const sp_error *why, sp_error *err)
{
    (void)index, (void)err;
    if (!result) fail_msg("%s", why->message);
    ++*(size_t *)user;
    return SP_OK;
}

/* More pictures than places, in passes that they share. */
static sp_status draw_many(sp_session *session, const sp_request *one, sp_error *err)
{
    sp_request requests[MANY];
    size_t n = 0;
    for (size_t i = 0; i < MANY; i++) {
        requests[i] = *one;
        requests[i].seed = i;
    }
    SP_TRY(sp_generate_many(session, requests, MANY, count_picture, &n, err));
    assert_int_equal(n, MANY);
    return SP_OK;
}

/* Open, generate, write, close. */
static sp_status draw(sample what, sp_error *err)
{
    sp_engine *engine = NULL;
    sp_session *session = NULL;
    const sp_result *result;
    sp_status status;
    sp_engine_options options = sp_engine_defaults();
    options.model = what.model;
    options.threads = 1;
    if (what.batch_size) options.batch_size = what.batch_size;
    SP_GO(sp_engine_open(&engine, &options, err));
    SP_GO(sp_session_open(&session, engine, err));
    sp_request request = sp_request_defaults(engine);
    request.prompt = what.prompt;
    request.window = 16;
    if (what.batch_size) SP_GO(draw_many(session, &request, err));
    SP_GO(sp_generate(session, &request, &result, err));
    SP_GO(sp_picture_write(picture, result->rgb, result->width, result->height, NULL, 0, err));
out:
    sp_session_close(session);
    sp_engine_close(engine);
    return status;
}

/* Fails allocation first, first + stride ... until a run meets none. Runs a failing draw. */
static void fail_each(sample what, size_t first, size_t stride, bool on)
{
    for (size_t n = first;; n += stride) {
        sp_error err = {0};
        inject(n, on);
        sp_status status = draw(what, &err);
        bool met = failures > 0;
        inject(0, false);
        if (!met) {
            if (status != SP_OK) fail_msg("no failure, and yet: %s", err.message);
            assert_true(n > first);
            return;
        }
        /* jansson takes the lack of memory for a syntax error at some places. */
        if (status != SP_ENOMEM && !(first_was_jansson && status == SP_EFORMAT))
            fail_msg("allocation %zu: status %d: %s", n, (int)status, err.message);
        assert_int_equal(err.status, status);
        assert_true(strlen(err.message) > 0 && strchr(err.message, '\n') == NULL);
    }
}

static void every_allocation_fails_once(void **state)
{
    (void)state;
    fail_each(TINY, 1, 1, false);
}

static void every_allocation_fails_from_there_on(void **state)
{
    (void)state;
    fail_each(TINY, 1, 1, true);
}

static void a_batch_runs_out(void **state)
{
    (void)state;
    fail_each((sample){TINY.model, TINY.prompt, BATCH}, 1, 1, false);
}

static void a_batch_allocates_nothing(void **state)
{
    (void)state;
    sp_engine *engine = NULL;
    sp_session *session = NULL;
    sp_engine_options options = sp_engine_defaults();
    options.model = TINY.model;
    options.batch_size = BATCH;
    SP_TEST_OK(sp_engine_open(&engine, &options, err));
    SP_TEST_OK(sp_session_open(&session, engine, err));
    sp_request request = sp_request_defaults(engine);
    request.prompt = TINY.prompt;
    inject(0, false);
    SP_TEST_OK(draw_many(session, &request, err));
    assert_int_equal(calls, 0);
    sp_session_close(session);
    sp_engine_close(engine);
}

/* The shipped model has thousands, most of them alike, in its tokenizer: about 40 of them, or 400. */
static void a_text_model_runs_out(void **state)
{
    (void)state;
    sample what = shipped();
    if (access(what.model, R_OK) != 0) fail_msg("%s: no model; set SP_TEST_MODEL", what.model);
    inject(0, false);
    sp_error err = {0};
    assert_int_equal(draw(what, &err), SP_OK);
    size_t stride = calls / (getenv("SP_TEST_ALL") ? 400 : 40) + 1;
    fail_each(what, 1 + stride / 3, stride, false);
}

/* Where memory comes back, a session goes on as if nothing had been. */
static void a_session_survives(void **state)
{
    (void)state;
    sp_engine *engine = NULL;
    sp_session *session = NULL;
    const sp_result *result;
    sp_engine_options options = sp_engine_defaults();
    options.model = TINY.model;
    SP_TEST_OK(sp_engine_open(&engine, &options, err));
    SP_TEST_OK(sp_session_open(&session, engine, err));
    sp_request request = sp_request_defaults(engine);
    request.prompt = TINY.prompt;
    SP_TEST_OK(sp_generate(session, &request, &result, err));
    int32_t first[1024];
    assert_true(result->n_tokens <= 1024);
    memcpy(first, result->tokens, result->n_tokens * sizeof *first);
    size_t n = 1;
    for (;; n++) {
        inject(n, true);
        sp_status status = sp_picture_write(picture, result->rgb, result->width, result->height, NULL, 0, NULL);
        bool met = failures > 0;
        inject(0, false);
        assert_int_equal(status, met ? SP_ENOMEM : SP_OK);
        if (!met) break;
    }
    assert_true(n > 1);
    SP_TEST_OK(sp_generate(session, &request, &result, err));
    assert_memory_equal(first, result->tokens, result->n_tokens * sizeof *first);
    sp_session_close(session);
    sp_engine_close(engine);
}

/* A drafter is loaded by the first request that needs it, and may come later when there was no memory for it. */
static void a_drafter_comes_later(void **state)
{
    (void)state;
    sample what = shipped();
    sp_engine *engine = NULL;
    sp_session *session = NULL;
    sp_engine_options options = sp_engine_defaults();
    options.model = what.model;
    SP_TEST_OK(sp_engine_open(&engine, &options, err));
    SP_TEST_OK(sp_session_open(&session, engine, err));
    sp_request request = sp_request_defaults(engine);
    request.prompt = what.prompt;
    request.method = "eagle";
    size_t n = 1, reading;
    inject(0, false);
    SP_TEST_OK(sp_prompt_tokens(engine, what.prompt, &reading, err));
    reading = calls;
    for (;; n++) {
        sp_error err = {0};
        const sp_result *result = NULL;
        inject(n, false);
        sp_status status = sp_generate(session, &request, &result, &err);
        bool met = failures > 0;
        inject(0, false);
        if (!met) {
            assert_int_equal(status, SP_OK);
            assert_int_equal(result->n_tokens, 256);
            break;
        }
        if (status != SP_ENOMEM && !(first_was_jansson && status == SP_EFORMAT))
            fail_msg("allocation %zu: status %d: %s", n, (int)status, err.message);
    }
    assert_true(n > reading + 1);
    sp_session_close(session);
    sp_engine_close(engine);
}

static size_t heap(void)
{
    struct mallinfo2 info = mallinfo2();
    return info.uordblks + info.hblkhd;
}

/* Besides what a text prompt costs, which is the same for every method. */
static void allocates_nothing(sample what, bool all_methods)
{
    sp_engine *engine = NULL;
    sp_session *session = NULL;
    const sp_result *result;
    sp_engine_options options = sp_engine_defaults();
    options.model = what.model;
    options.threads = 2;
    SP_TEST_OK(sp_engine_open(&engine, &options, err));
    SP_TEST_OK(sp_session_open(&session, engine, err));
    size_t count, reading;
    inject(0, false);
    SP_TEST_OK(sp_prompt_tokens(engine, what.prompt, &count, err));
    reading = calls;
    for (const sp_method *method = sp_methods(); method->name; method++) {
        if (method->continuous != sp_engine_info(engine).continuous) continue;
        if (!all_methods && method->needs_drafter) continue;
        sp_request request = sp_request_defaults(engine);
        request.prompt = what.prompt;
        request.method = method->name;
        if (method->needs_drafter) SP_TEST_OK(sp_generate(session, &request, &result, err));
        inject(0, false);
        size_t before = heap();
        SP_TEST_OK(sp_generate(session, &request, &result, err));
        assert_int_equal(calls, reading);
        /* What a prompt frees stays with the thread for a while. */
        if (reading == 0) assert_int_equal(heap(), before);
    }
    sp_session_close(session);
    sp_engine_close(engine);
}

static void generate_allocates_nothing(void **state)
{
    (void)state;
    allocates_nothing(TINY, false);
    allocates_nothing(shipped(), true);
}

static int begin(void **state)
{
    (void)state;
    char folder[] = "/tmp/specular-XXXXXX";
    if (!mkdtemp(folder)) return -1;
    snprintf(picture, sizeof picture, "%s/picture.png", folder);
    hooks(true);
    return 0;
}

static int end(void **state)
{
    (void)state;
    hooks(false);
    unlink(picture);
    *strrchr(picture, '/') = 0;
    return rmdir(picture);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_allocation_fails_once), cmocka_unit_test(every_allocation_fails_from_there_on),
        cmocka_unit_test(a_batch_runs_out), cmocka_unit_test(a_batch_allocates_nothing),
        cmocka_unit_test(a_text_model_runs_out),       cmocka_unit_test(a_session_survives),
        cmocka_unit_test(a_drafter_comes_later),
        cmocka_unit_test(generate_allocates_nothing),
    };
    return cmocka_run_group_tests(tests, begin, end);
}
