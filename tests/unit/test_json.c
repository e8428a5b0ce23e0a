#include "support.h"

#include <unistd.h>

#include "base/file.h"
#include "io/json.h"

static void assert_refused(sp_status status, const sp_error *error, const char *part)
{
    assert_int_equal(status, SP_EFORMAT);
    assert_int_equal(error->status, SP_EFORMAT);
    if (!strstr(error->message, part)) fail_msg("'%s' is not in '%s'", part, error->message);
    assert_null(strchr(error->message, '\n'));
}

static void malformed_text_is_refused_with_its_place(void **state)
{
    (void)state;
    const struct {
        const char *text, *part;
    } cases[] = {
        {"", "c.json:1:0"},
        {"{", "c.json:1:1"},
        {"{\n \"a\": 1,\n \"a\": 2}", "c.json:3:4: not valid JSON: duplicate object key"},
        {"{\"a\":{\"b\":1,\"b\":1}}", "duplicate"},
        {"{} {}", "end of file expected"},
        {"{\"a\":\"\\u0000\"}", "\\u0000"},
        {"{\"\\u0000\":1}", "\\u0000"},
        {"{\"a\":\"\xFF\"}", "unable to decode byte 0xff"},
        {"{\"a\":99999999999999999999}", "too big integer"},
        {"{\"a\":1e999}", "real number overflow"},
        {"{\"a\":NaN}", "invalid token"},
        {"\xEF\xBB\xBF{}", "not valid JSON"},
        {"{'a':1}", "not valid JSON"},
        {"{\"a\":1,}", "not valid JSON"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        json_t *root;
        sp_error error = {0};
        assert_refused(sp_json_parse(&root, "c.json", cases[i].text, strlen(cases[i].text), &error), &error,
                       cases[i].part);
        assert_non_null(strstr(error.message, "c.json:"));
        assert_null(root);
    }
    /* Deep nesting ends in an error, not in the end of the stack. */
    char *deep = malloc(100000);
    memset(deep, '[', 100000);
    json_t *root;
    sp_error error = {0};
    assert_refused(sp_json_parse(&root, "c.json", deep, 100000, &error), &error, "maximum parsing depth");
    free(deep);
}

static void size_of_the_text_counts_and_not_its_zero(void **state)
{
    (void)state;
    json_t *root;
    SP_TEST_OK(sp_json_parse(&root, "c.json", "{\"a\":1}xyz", 7, err));
    assert_int_equal(json_integer_value(sp_json_at(root, "a")), 1);
    json_decref(root);
}

static void files_are_loaded_up_to_the_limit(void **state)
{
    (void)state;
    char path[] = "/tmp/specular-json-XXXXXX";
    int descriptor = mkstemp(path);
    assert_true(descriptor >= 0);
    close(descriptor);
    SP_TEST_OK(sp_file_write(path, "{\"a\":1}", 7, err));
    json_t *root;
    SP_TEST_OK(sp_json_load(&root, path, 7, err));
    json_decref(root);
    sp_error error = {0};
    assert_refused(sp_json_load(&root, path, 6, &error), &error, "has 7 bytes, expected at most 6");
    assert_null(root);
    unlink(path);
    error = (sp_error){0};
    assert_refused(sp_json_load(&root, path, 7, &error), &error, "No such file");
}

static const char config[] =
    "{\"a\":{\"b\":{\"c\":7}},\"n\":null,\"negative\":-1,\"real\":0.5,\"whole\":2.0,\"yes\":true,"
    "\"text\":\"bpe\",\"large\":9223372036854775807}";

static json_t *load_config(void)
{
    json_t *root;
    SP_TEST_OK(sp_json_parse(&root, "c.json", config, sizeof config - 1, err));
    return root;
}

static void paths_reach_values(void **state)
{
    (void)state;
    json_t *root = load_config();
    assert_int_equal(json_integer_value(sp_json_at(root, "a.b.c")), 7);
    assert_ptr_equal(sp_json_at(root, ""), root);
    const char *const absent[] = {"x", "a.x", "a.b.c.d", "a..b", "text.x", "."};
    for (size_t i = 0; i < sizeof absent / sizeof absent[0]; i++) assert_null(sp_json_at(root, absent[i]));
    char longest[300];
    memset(longest, 'k', sizeof longest - 1);
    longest[sizeof longest - 1] = 0;
    assert_null(sp_json_at(root, longest));
    assert_null(sp_json_at(NULL, "a"));
    json_decref(root);
}

static void sizes_are_integers_in_their_range(void **state)
{
    (void)state;
    json_t *root = load_config();
    size_t out = 0;
    SP_TEST_OK(sp_json_size(root, "c.json", "a.b.c", 7, 7, &out, err));
    assert_int_equal(out, 7);
    SP_TEST_OK(sp_json_size(root, "c.json", "large", 0, SIZE_MAX, &out, err));
    assert_true(out == INT64_MAX);
    const struct {
        const char *path;
        size_t low, high;
        const char *part;
    } cases[] = {
        {"a.b.c", 8, 9, "c.json: 'a.b.c' is 7, expected 8 to 9"},
        {"a.b.c", 0, 6, "is 7, expected 0 to 6"},
        {"negative", 0, 9, "is -1, expected 0 to 9"},
        {"real", 0, 9, "is a fraction, expected an integer of 0 to 9"},
        {"whole", 0, 9, "is a fraction"},
        {"yes", 0, 9, "is true"},
        {"text", 0, 9, "is a string"},
        {"a", 0, 9, "is an object"},
        {"n", 0, 9, "is null"},
        {"absent", 0, 9, "'absent' is absent"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        sp_error error = {0};
        assert_refused(sp_json_size(root, "c.json", cases[i].path, cases[i].low, cases[i].high, &out, &error), &error,
                       cases[i].part);
    }
    SP_TEST_OK(sp_json_size_or(root, "c.json", "absent", 1, 2, 77, &out, err));
    assert_int_equal(out, 77);
    SP_TEST_OK(sp_json_size_or(root, "c.json", "n", 1, 2, 78, &out, err));
    assert_int_equal(out, 78);
    sp_error error = {0};
    assert_refused(sp_json_size_or(root, "c.json", "a.b.c", 1, 2, 77, &out, &error), &error, "is 7, expected 1 to 2");
    json_decref(root);
}

static void other_values_are_typed(void **state)
{
    (void)state;
    static const char *const names[] = {"unigram", "bpe", NULL};
    json_t *root = load_config();
    double real;
    bool truth;
    int choice;
    SP_TEST_OK(sp_json_real_or(root, "c.json", "real", 0, 1, 9, &real, err));
    assert_true(real == 0.5);
    SP_TEST_OK(sp_json_real_or(root, "c.json", "a.b.c", 0, 7, 9, &real, err));
    assert_true(real == 7);
    SP_TEST_OK(sp_json_real_or(root, "c.json", "n", 0, 1, 9, &real, err));
    assert_true(real == 9);
    SP_TEST_OK(sp_json_bool_or(root, "c.json", "yes", false, &truth, err));
    assert_true(truth);
    SP_TEST_OK(sp_json_bool_or(root, "c.json", "absent", true, &truth, err));
    assert_true(truth);
    SP_TEST_OK(sp_json_choice(root, "c.json", "text", names, -1, &choice, err));
    assert_int_equal(choice, 1);
    SP_TEST_OK(sp_json_choice(root, "c.json", "absent", names, 0, &choice, err));
    assert_int_equal(choice, 0);

    sp_error error = {0};
    assert_refused(sp_json_real_or(root, "c.json", "real", 0.6, 1, 9, &real, &error), &error,
                   "is 0.5, expected 0.6 to 1");
    error = (sp_error){0};
    assert_refused(sp_json_real_or(root, "c.json", "text", 0, 1, 9, &real, &error), &error, "expected a number");
    error = (sp_error){0};
    assert_refused(sp_json_bool_or(root, "c.json", "a.b.c", true, &truth, &error), &error, "expected true or false");
    error = (sp_error){0};
    assert_refused(sp_json_choice(root, "c.json", "absent", names, -1, &choice, &error), &error,
                   "is absent, expected one of unigram, bpe");
    const char *const others[] = {"words", NULL};
    error = (sp_error){0};
    assert_refused(sp_json_choice(root, "c.json", "text", others, 0, &choice, &error), &error,
                   "is 'bpe', expected one of words");
    json_decref(root);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(malformed_text_is_refused_with_its_place),
        cmocka_unit_test(size_of_the_text_counts_and_not_its_zero),
        cmocka_unit_test(files_are_loaded_up_to_the_limit),
        cmocka_unit_test(paths_reach_values),
        cmocka_unit_test(sizes_are_integers_in_their_range),
        cmocka_unit_test(other_values_are_typed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
