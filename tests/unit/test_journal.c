#include "support.h"

#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/arena.h"
#include "base/file.h"
#include "io/journal.h"

static char path[] = "/tmp/specular-journal-XXXXXX";

static int enter(void **state)
{
    (void)state;
    return sp_test_file_make(path);
}

static int leave(void **state)
{
    (void)state;
    return unlink(path);
}

static void put(const char *text, size_t size) { SP_TEST_OK(sp_file_write(path, text, size, err)); }

static void assert_content(const char *expected)
{
    sp_bytes bytes;
    SP_TEST_OK(sp_file_read(path, 1 << 20, &bytes, err));
    assert_string_equal((const char *)bytes.data, expected);
    assert_int_equal(bytes.size, strlen(expected));
    sp_bytes_free(&bytes);
}

typedef struct sums {
    size_t count;
    json_int_t last, stop_at;
} sums;

static sp_status add(void *user, const json_t *record, sp_error *err)
{
    sums *s = user;
    s->count++;
    s->last = json_integer_value(json_object_get(record, "n"));
    return s->stop_at && s->last == s->stop_at ? SP_FAIL(err, SP_ECANCELLED, "stopped") : SP_OK;
}

static void append(sp_journal *journal, int n)
{
    json_t *record = json_pack("{s:i, s:s}", "n", n, "text", "a\nb");
    SP_TEST_OK(sp_journal_append(journal, record, err));
    json_decref(record);
}

static void records_survive(void **state)
{
    (void)state;
    unlink(path);
    sp_journal *journal;
    sums s = {0};
    SP_TEST_OK(sp_journal_open(&journal, path, err));
    SP_TEST_OK(sp_journal_each(journal, add, &s, err));
    assert_int_equal(s.count, 0);
    append(journal, 1);
    append(journal, 2);
    SP_TEST_OK(sp_journal_each(journal, add, &s, err));
    assert_int_equal(s.count, 2);
    sp_journal_close(journal);
    assert_content("{\"n\":1,\"text\":\"a\\nb\"}\n{\"n\":2,\"text\":\"a\\nb\"}\n");

    SP_TEST_OK(sp_journal_open(&journal, path, err));
    assert_int_equal(sp_journal_torn(journal), 0);
    append(journal, 3);
    s = (sums){0};
    SP_TEST_OK(sp_journal_each(journal, add, &s, err));
    assert_int_equal(s.count, 3);
    assert_int_equal(s.last, 3);
    s = (sums){.stop_at = 2};
    sp_error error = {0};
    assert_int_equal(sp_journal_each(journal, add, &s, &error), SP_ECANCELLED);
    assert_int_equal(s.count, 2);
    sp_journal_close(journal);
    sp_journal_close(NULL);
}

/* Cut after every byte: whole lines are kept, the rest is reported and goes with the next append. */
static void torn_line_is_dropped_wherever_it_was_cut(void **state)
{
    (void)state;
    const char *text = "{\"n\":1}\n{\"n\":22}\n";
    for (size_t length = 0; length <= strlen(text); length++) {
        put(text, length);
        size_t whole = length < 8 ? 0 : length < 17 ? 8 : 17;
        sp_journal *journal;
        SP_TEST_OK(sp_journal_open(&journal, path, err));
        assert_int_equal(sp_journal_torn(journal), length - whole);
        sums s = {0};
        SP_TEST_OK(sp_journal_each(journal, add, &s, err));
        assert_int_equal(s.count, (whole > 0) + (whole > 8));
        json_t *record = json_pack("{s:i}", "n", 3);
        SP_TEST_OK(sp_journal_append(journal, record, err));
        json_decref(record);
        assert_int_equal(sp_journal_torn(journal), 0);
        sp_journal_close(journal);
        char expected[64];
        snprintf(expected, sizeof expected, "%.*s{\"n\":3}\n", (int)whole, text);
        assert_content(expected);
    }
}

/* Longer than the block in which the end is looked for. */
static void long_torn_line_is_dropped(void **state)
{
    (void)state;
    enum { SIZE = 20000 };
    char *text = malloc(SIZE);
    memset(text, 'x', SIZE);
    memcpy(text, "{\"n\":1}\n", 8);
    put(text, SIZE);
    sp_journal *journal;
    SP_TEST_OK(sp_journal_open(&journal, path, err));
    assert_int_equal(sp_journal_torn(journal), SIZE - 8);
    append(journal, 2);
    sp_journal_close(journal);
    assert_content("{\"n\":1}\n{\"n\":2,\"text\":\"a\\nb\"}\n");
    free(text);
}

static void bad_line_is_named(void **state)
{
    (void)state;
    const char *const cases[] = {"{\"n\":1}\n[2]\n{\"n\":3}\n", "{\"n\":1}\n\n", "{\"n\":1}\n{\"n\":\n",
                                 "{\"n\":1}\n{\"n\":1,\"n\":2}\n"};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        put(cases[i], strlen(cases[i]));
        sp_journal *journal;
        SP_TEST_OK(sp_journal_open(&journal, path, err));
        sums s = {0};
        sp_error error = {0};
        assert_int_equal(sp_journal_each(journal, add, &s, &error), SP_EFORMAT);
        assert_int_equal(s.count, 1);
        assert_non_null(strstr(error.message, "line 2 is not a JSON object"));
        sp_journal_close(journal);
    }
}

static void second_holder_is_refused(void **state)
{
    (void)state;
    put("", 0);
    sp_journal *journal, *other = NULL;
    SP_TEST_OK(sp_journal_open(&journal, path, err));
    sp_error error = {0};
    assert_int_equal(sp_journal_open(&other, path, &error), SP_EOUTPUT);
    assert_null(other);
    assert_non_null(strstr(error.message, "another process is writing here"));
    pid_t child = fork();
    if (child == 0) _exit(sp_journal_open(&other, path, NULL) == SP_EOUTPUT ? 0 : 1);
    int result;
    assert_int_equal(waitpid(child, &result, 0), child);
    assert_int_equal(result, 0);
    sp_journal_close(journal);
    SP_TEST_OK(sp_journal_open(&other, path, err));
    sp_journal_close(other);
}

static void places_that_cannot_hold_it_are_refused(void **state)
{
    (void)state;
    const char *const places[] = {"/tmp", "/dev/null", "/nowhere/journal.jsonl", ""};
    for (size_t i = 0; i < sizeof places / sizeof places[0]; i++) {
        sp_journal *journal;
        sp_error error = {0};
        assert_int_equal(sp_journal_open(&journal, places[i], &error), SP_EOUTPUT);
        assert_null(journal);
        assert_true(error.message[0] != 0);
    }
}

/* A limit on file sizes stands in for a full disk: part of a record is written, and taken back. */
static void full_disk_leaves_the_whole_records(void **state)
{
    (void)state;
    put("", 0);
    pid_t child = fork();
    if (child == 0) {
        sp_journal *journal;
        sp_error error = {0};
        struct rlimit limit = {40, 40};
        signal(SIGXFSZ, SIG_IGN);
        json_t *record = json_pack("{s:s}", "text", "0123456789");
        if (sp_journal_open(&journal, path, NULL) || setrlimit(RLIMIT_FSIZE, &limit)) _exit(1);
        if (sp_journal_append(journal, record, NULL)) _exit(2);
        if (sp_journal_append(journal, record, &error) != SP_EOUTPUT) _exit(3);
        if (!strstr(error.message, "writing failed")) _exit(4);
        json_decref(record);
        record = json_pack("{s:i}", "n", 1);
        if (sp_journal_append(journal, record, NULL)) _exit(5);
        _exit(0);
    }
    int result;
    assert_int_equal(waitpid(child, &result, 0), child);
    assert_int_equal(WEXITSTATUS(result), 0);
    assert_content("{\"text\":\"0123456789\"}\n{\"n\":1}\n");
}

static void every_lost_allocation_is_reported(void **state)
{
    (void)state;
    put("", 0);
    json_t *record = json_pack("{s:i}", "n", 1);
    sp_status status = SP_ENOMEM;
    for (size_t n = 0; status != SP_OK; n++) {
        assert_true(n < 100);
        sp_test_allow_allocations(n);
        sp_journal *journal;
        status = sp_journal_open(&journal, path, NULL);
        if (status == SP_OK) {
            status = sp_journal_append(journal, record, NULL);
            sp_journal_close(journal);
        }
        sp_alloc_hook(NULL);
        assert_true(status == SP_OK ? n >= 3 : status == SP_ENOMEM);
        assert_content(status == SP_OK ? "{\"n\":1}\n" : "");
    }
    json_decref(record);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(records_survive),
        cmocka_unit_test(torn_line_is_dropped_wherever_it_was_cut),
        cmocka_unit_test(long_torn_line_is_dropped),
        cmocka_unit_test(bad_line_is_named),
        cmocka_unit_test(second_holder_is_refused),
        cmocka_unit_test(places_that_cannot_hold_it_are_refused),
        cmocka_unit_test(full_disk_leaves_the_whole_records),
        cmocka_unit_test(every_lost_allocation_is_reported),
    };
    return cmocka_run_group_tests(tests, enter, leave);
}
