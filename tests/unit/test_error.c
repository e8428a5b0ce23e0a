#include "support.h"

static sp_status fails_late(int *after, sp_error *err)
{
    SP_TRY(SP_OK);
    SP_TRY(SP_FAIL(err, SP_EFORMAT, "config.json: dim is 0; expected 1 to 65536"));
    *after = 1;
    return SP_OK;
}

static sp_status frees(int *freed, sp_status with, sp_error *err)
{
    sp_status status;
    SP_GO(with == SP_OK ? SP_OK : SP_FAIL(err, with, "x"));
out:
    *freed = 1;
    return status;
}

static void first_failure_wins(void **state)
{
    (void)state;
    sp_error err = {0};
    int line = __LINE__ + 1;
    assert_int_equal(SP_FAIL_ERRNO(&err, SP_EOUTPUT, 28, "out.png: %s", "no space"), SP_EOUTPUT);
    assert_int_equal(SP_FAIL(&err, SP_EBUG, "a consequence"), SP_EBUG);
    assert_int_equal(err.status, SP_EOUTPUT);
    assert_int_equal(err.system_errno, 28);
    assert_int_equal(err.line, line);
    assert_non_null(strstr(err.file, "test_error.c"));
    assert_string_equal(err.message, "out.png: no space");
}

static void null_error_is_fine(void **state)
{
    (void)state;
    assert_int_equal(SP_FAIL(NULL, SP_ENOMEM, "nowhere to write %d", 1), SP_ENOMEM);
}

static void message_is_one_line(void **state)
{
    (void)state;
    sp_error err = {0};
    (void)SP_FAIL(&err, SP_EFORMAT, "%s: no such tensor", "a\nb\r\tc\x1b[31m\x7f");
    assert_string_equal(err.message, "a?b??c?[31m?: no such tensor");
    err = (sp_error){0};
    (void)SP_FAIL(&err, SP_EFORMAT, "%s", "c\xc3\xb4t\xc3\xa9");
    assert_string_equal(err.message, "c\xc3\xb4t\xc3\xa9");
}

static void long_message_is_cut(void **state)
{
    (void)state;
    struct {
        sp_error err;
        char guard[8];
    } box = {.guard = "guarded"};
    char text[2000];
    memset(text, 'x', sizeof text - 1);
    text[sizeof text - 1] = 0;
    (void)SP_FAIL(&box.err, SP_EARG, "%s", text);
    assert_int_equal(strlen(box.err.message), sizeof box.err.message - 1);
    assert_string_equal(box.guard, "guarded");
}

static void macros_leave_at_the_failure(void **state)
{
    (void)state;
    sp_error err = {0};
    int after = 0, freed = 0;
    assert_int_equal(fails_late(&after, &err), SP_EFORMAT);
    assert_int_equal(after, 0);
    assert_int_equal(frees(&freed, SP_EDEVICE, NULL), SP_EDEVICE);
    assert_int_equal(freed, 1);
    freed = 0;
    assert_int_equal(frees(&freed, SP_OK, NULL), SP_OK);
    assert_int_equal(freed, 1);
}

static void every_status_has_its_text(void **state)
{
    (void)state;
    for (int a = SP_OK; a <= SP_EBUG; a++) {
        assert_string_not_equal(sp_status_text((sp_status)a), "unknown status");
        for (int b = SP_OK; b < a; b++)
            assert_string_not_equal(sp_status_text((sp_status)a), sp_status_text((sp_status)b));
    }
    assert_string_equal(sp_status_text((sp_status)(SP_EBUG + 1)), "unknown status");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(first_failure_wins),   cmocka_unit_test(null_error_is_fine),
        cmocka_unit_test(message_is_one_line),  cmocka_unit_test(long_message_is_cut),
        cmocka_unit_test(macros_leave_at_the_failure), cmocka_unit_test(every_status_has_its_text),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
