#include "support.h"

#include <stdbool.h>
#include <unistd.h>

#include "base/arena.h"
#include "base/file.h"
#include "io/prompts.h"

static sp_prompts parse(const char *name, const char *text, size_t size)
{
    sp_prompts prompts;
    SP_TEST_OK(sp_prompts_parse(&prompts, name, text, size, err));
    return prompts;
}

static void assert_error(const sp_prompt *p, size_t line, const char *part)
{
    assert_int_equal(p->line, line);
    if (!p->error || !strstr(p->error, part)) fail_msg("'%s' is not in '%s'", part, p->error ? p->error : "(no error)");
    assert_null(p->id);
    assert_null(p->prompt);
}

static void assert_prompt(const sp_prompt *p, size_t line, const char *id, const char *prompt)
{
    if (p->error) fail_msg("line %zu: %s", p->line, p->error);
    assert_int_equal(p->line, line);
    assert_string_equal(p->id, id);
    assert_string_equal(p->prompt, prompt);
}

static void text_has_a_prompt_a_line(void **state)
{
    (void)state;
    const char text[] = "\xEF\xBB\xBFred heart\r\n\n \t \n# not special\n  spaces stay \n{\"prompt\":\"x\"}\nlast";
    sp_prompts p = parse("a.txt", text, sizeof text - 1);
    assert_int_equal(p.count, 5);
    assert_prompt(&p.items[0], 1, "000001", "red heart");
    assert_prompt(&p.items[1], 4, "000004", "# not special");
    assert_prompt(&p.items[2], 5, "000005", "  spaces stay ");
    assert_prompt(&p.items[3], 6, "000006", "{\"prompt\":\"x\"}");
    assert_prompt(&p.items[4], 7, "000007", "last");
    for (size_t i = 0; i < p.count; i++) assert_int_equal(p.items[i].has, 0);
    sp_prompts_free(&p);
    p = parse("a.txt", "", 0);
    assert_int_equal(p.count, 0);
    sp_prompts_free(&p);
}

static void jsonl_sets_what_it_names(void **state)
{
    (void)state;
    const char text[] =
        "{\"prompt\":\"h\\u00e9\",\"id\":\"A-1_b.c\",\"seed\":\"18446744073709551615\",\"n\":3,\"method\":\"ar\","
        "\"window\":16,\"cfg_scale\":3.5,\"temperature\":0,\"top_k\":40,\"top_p\":0.5,\"draft_init\":\"left\"}\n"
        "{\"prompt\":\"b\",\"window\":\"auto\",\"seed\":9223372036854775807}\n"
        "{\"prompt\":\"c\",\"seed\":null,\"method\":null}\r\n";
    sp_prompts p = parse("a.jsonl", text, sizeof text - 1);
    assert_int_equal(p.count, 3);
    const sp_prompt *first = &p.items[0];
    assert_prompt(first, 1, "A-1_b.c", "h\xC3\xA9");
    assert_int_equal(first->has, 127);
    assert_true(first->seed == UINT64_MAX);
    assert_int_equal(first->n, 3);
    assert_string_equal(first->method, "ar");
    assert_int_equal(first->window, 16);
    assert_true(first->cfg_scale == 3.5f && first->temperature == 0.0f && first->top_p == 0.5f);
    assert_int_equal(first->top_k, 40);
    assert_string_equal(first->draft_init, "left");
    assert_prompt(&p.items[1], 2, "000002", "b");
    assert_int_equal(p.items[1].has, SP_PROMPT_WINDOW | SP_PROMPT_SEED);
    assert_int_equal(p.items[1].window, 0);
    assert_true(p.items[1].seed == INT64_MAX);
    assert_null(p.items[1].method);
    assert_int_equal(p.items[2].has, 0);
    sp_prompts_free(&p);
}

/* Each bad line stands between two good ones, which are read all the same. */
static void bad_lines_are_named_and_the_others_read(void **state)
{
    (void)state;
    char longest_id[103];
    memset(longest_id, 'x', 101);
    longest_id[101] = 0;
    char too_long[160];
    snprintf(too_long, sizeof too_long, "{\"prompt\":\"a\",\"id\":\"%s\"}", longest_id);
    const struct {
        const char *line, *part;
        size_t size; /* 0: strlen */
    } cases[] = {
        {"{\"prompt\":", "column 10: not valid JSON"},
        {"{\"prompt\":\"a\"} x", "end of file expected"},
        {"[\"a\"]", "is not a JSON object"},
        {"\"a\"", "is not a JSON object"},
        {"red heart", "not valid JSON"},
        {"{}", "has no 'prompt'"},
        {"{\"prompt\":null}", "has no 'prompt'"},
        {"{\"prompt\":\"\"}", "'prompt' is not a string of at least one character"},
        {"{\"prompt\":7}", "'prompt' is not a string"},
        {"{\"prompt\":\"a\",\"prompt\":\"b\"}", "duplicate"},
        {"{\"promt\":\"a\"}", "unknown key 'promt'"},
        {"{\"prompt\":\"a\\u0000b\"}", "\\u0000"},
        {"{\"prompt\":\"a\0b\"}", "has a zero byte", 16},
        {"{\"prompt\":\"\xFF\"}", "byte 12 is not UTF-8"},
        {"{\"prompt\":\"a\",\"id\":\"\"}", "'id' is not a file name"},
        {"{\"prompt\":\"a\",\"id\":\".a\"}", "'id' is not a file name"},
        {"{\"prompt\":\"a\",\"id\":\"../a\"}", "'id' is not a file name"},
        {"{\"prompt\":\"a\",\"id\":\"a/b\"}", "'id' is not a file name"},
        {"{\"prompt\":\"a\",\"id\":\"a b\"}", "'id' is not a file name"},
        {"{\"prompt\":\"a\",\"id\":\"\xC3\xA9\"}", "'id' is not a file name"},
        {"{\"prompt\":\"a\",\"id\":1}", "'id' is not a file name"},
        {too_long, "'id' is not a file name of 1 to 100 characters"},
        {"{\"prompt\":\"a\",\"seed\":-1}", "'seed' is not an integer of 0 to 9223372036854775807"},
        {"{\"prompt\":\"a\",\"seed\":1.5}", "'seed' is not an integer"},
        {"{\"prompt\":\"a\",\"seed\":9223372036854775808}", "too big integer"},
        {"{\"prompt\":\"a\",\"seed\":\"18446744073709551616\"}",
         "'seed' is not a decimal number of 0 to 18446744073709551615"},
        {"{\"prompt\":\"a\",\"seed\":\"\"}", "'seed' is not a decimal number"},
        {"{\"prompt\":\"a\",\"seed\":\"0x1\"}", "'seed' is not a decimal number"},
        {"{\"prompt\":\"a\",\"seed\":\" 1\"}", "'seed' is not a decimal number"},
        {"{\"prompt\":\"a\",\"seed\":true}", "'seed' is not an integer"},
        {"{\"prompt\":\"a\",\"n\":0}", "'n' is not an integer of 1 to 1000000"},
        {"{\"prompt\":\"a\",\"n\":1000001}", "'n' is not an integer"},
        {"{\"prompt\":\"a\",\"n\":\"2\"}", "'n' is not an integer"},
        {"{\"prompt\":\"a\",\"window\":0}", "'window' is not an integer of 1"},
        {"{\"prompt\":\"a\",\"window\":2147483648}", "'window' is not an integer"},
        {"{\"prompt\":\"a\",\"window\":\"wide\"}", "'window' is not an integer"},
        {"{\"prompt\":\"a\",\"cfg_scale\":\"3\"}", "'cfg_scale' is not a finite number"},
        {"{\"prompt\":\"a\",\"cfg_scale\":1e39}", "'cfg_scale' is not a finite number"},
        {"{\"prompt\":\"a\",\"cfg_scale\":1e999}", "real number overflow"},
        {"{\"prompt\":\"a\",\"temperature\":NaN}", "not valid JSON"},
        {"{\"prompt\":\"a\",\"temperature\":[]}", "'temperature' is not a finite number"},
        {"{\"prompt\":\"a\",\"top_k\":-1}", "'top_k' is not an integer of 0"},
        {"{\"prompt\":\"a\",\"top_k\":1.0}", "'top_k' is not an integer"},
        {"{\"prompt\":\"a\",\"top_p\":false}", "'top_p' is not a finite number"},
        {"{\"prompt\":\"a\",\"method\":\"\"}", "'method' is not a string"},
        {"{\"prompt\":\"a\",\"draft_init\":3}", "'draft_init' is not a string"},
        {"{\"prompt\":\"a\",\"id\":\"first\"}", "id 'first' is already that of line 1"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        static const char before[] = "{\"prompt\":\"a\",\"id\":\"first\"}\n", after[] = "\n{\"prompt\":\"b\"}\n";
        char text[512];
        size_t size = cases[i].size ? cases[i].size : strlen(cases[i].line), at = sizeof before - 1;
        memcpy(text, before, at);
        memcpy(text + at, cases[i].line, size);
        memcpy(text + at + size, after, sizeof after - 1);
        sp_prompts p = parse("a.jsonl", text, at + size + sizeof after - 1);
        assert_int_equal(p.count, 3);
        assert_prompt(&p.items[0], 1, "first", "a");
        assert_error(&p.items[1], 2, cases[i].part);
        assert_prompt(&p.items[2], 3, "000003", "b");
        sp_prompts_free(&p);
    }
}

static void bad_text_lines_are_named(void **state)
{
    (void)state;
    const char text[] = "good\nzero\0byte\n\xC3\n\0\nend\xFF";
    sp_prompts p = parse("a.txt", text, sizeof text - 1);
    assert_int_equal(p.count, 5);
    assert_prompt(&p.items[0], 1, "000001", "good");
    assert_error(&p.items[1], 2, "has a zero byte");
    assert_error(&p.items[2], 3, "byte 1 is not UTF-8");
    assert_error(&p.items[3], 4, "has a zero byte");
    assert_error(&p.items[4], 5, "byte 4 is not UTF-8");
    sp_prompts_free(&p);
}

static void torn_last_line_is_said_to_be_cut(void **state)
{
    (void)state;
    const char text[] = "{\"prompt\":\"a\"}\n{\"prompt\":\"bcd\"}";
    for (size_t length = 15; length < sizeof text - 1; length++) {
        sp_prompts p = parse("a.jsonl", text, length);
        assert_prompt(&p.items[0], 1, "000001", "a");
        assert_int_equal(p.count, length > 15 ? 2 : 1);
        if (length > 15) assert_error(&p.items[1], 2, "is the file cut?");
        sp_prompts_free(&p);
    }
    sp_prompts p = parse("a.jsonl", text, sizeof text - 1);
    assert_prompt(&p.items[1], 2, "000002", "bcd");
    sp_prompts_free(&p);
}

static void lines_are_limited(void **state)
{
    (void)state;
    char *line = malloc(SP_PROMPT_LINE_LIMIT + 4);
    memset(line, 'a', SP_PROMPT_LINE_LIMIT + 1);
    memcpy(line + SP_PROMPT_LINE_LIMIT, "\nb\n", 3);
    sp_prompts p = parse("a.txt", line, SP_PROMPT_LINE_LIMIT + 3);
    assert_int_equal(p.count, 2);
    assert_null(p.items[0].error);
    sp_prompts_free(&p);
    memcpy(line + SP_PROMPT_LINE_LIMIT, "a\nb", 3);
    p = parse("a.txt", line, SP_PROMPT_LINE_LIMIT + 3);
    assert_int_equal(p.count, 2);
    assert_error(&p.items[0], 1, "has 1048577 bytes, expected at most 1048576");
    assert_prompt(&p.items[1], 2, "000002", "b");
    sp_prompts_free(&p);
    free(line);
}

static void format_is_by_name_or_by_first_byte(void **state)
{
    (void)state;
    const struct {
        const char *name, *text;
        bool jsonl;
    } cases[] = {
        {"a.txt", "{\"prompt\":\"x\"}", false},
        {"a.jsonl", "{\"prompt\":\"x\"}", true},
        {"-", "{\"prompt\":\"x\"}", true},
        {"-", " \n\t{\"prompt\":\"x\"}", true},
        {"-", "\xEF\xBB\xBF{\"prompt\":\"x\"}", true},
        {"-", "x {", false},
        {"prompts", "{\"prompt\":\"x\"}", true},
        {"prompts.json", "{\"prompt\":\"x\"}", true},
        {".txt.jsonl", "{\"prompt\":\"x\"}", true},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        sp_prompts p = parse(cases[i].name, cases[i].text, strlen(cases[i].text));
        assert_int_equal(p.count, 1);
        assert_int_equal(strcmp(p.items[0].prompt, "x") == 0, cases[i].jsonl);
        sp_prompts_free(&p);
    }
}

static void duplicates_name_the_first_line(void **state)
{
    (void)state;
    const char text[] =
        "{\"prompt\":\"a\",\"id\":\"000003\"}\n{\"prompt\":\"b\",\"id\":\"x\"}\n{\"prompt\":\"c\"}\n"
        "{\"prompt\":\"d\",\"id\":\"x\"}\n{\"prompt\":\"e\",\"id\":\"x\"}\n{\"prompt\":\"f\",\"id\":\"X\"}\n";
    sp_prompts p = parse("a.jsonl", text, sizeof text - 1);
    assert_int_equal(p.count, 6);
    assert_prompt(&p.items[0], 1, "000003", "a");
    assert_prompt(&p.items[1], 2, "x", "b");
    assert_error(&p.items[2], 3, "id '000003' is already that of line 1");
    assert_error(&p.items[3], 4, "id 'x' is already that of line 2");
    assert_error(&p.items[4], 5, "id 'x' is already that of line 2");
    assert_prompt(&p.items[5], 6, "X", "f");
    sp_prompts_free(&p);
}

static void files_are_read(void **state)
{
    (void)state;
    char path[] = "/tmp/specular-prompts-XXXXXX";
    int descriptor = mkstemp(path);
    assert_true(descriptor >= 0);
    close(descriptor);
    SP_TEST_OK(sp_file_write(path, "a\nb\n", 4, err));
    sp_prompts p;
    SP_TEST_OK(sp_prompts_read(&p, path, err));
    assert_int_equal(p.count, 2);
    sp_prompts_free(&p);
    unlink(path);
    sp_error error = {0};
    assert_int_equal(sp_prompts_read(&p, path, &error), SP_EFORMAT);
    assert_int_equal(p.count, 0);
    assert_non_null(strstr(error.message, path));
}

static void every_lost_allocation_is_reported(void **state)
{
    (void)state;
    const char text[] = "{\"prompt\":\"a\",\"id\":\"x\",\"method\":\"ar\"}\n{\n{\"prompt\":\"b\",\"id\":\"x\"}\n";
    sp_status status = SP_ENOMEM;
    for (size_t n = 0; status != SP_OK; n++) {
        assert_true(n < 100);
        sp_test_allow_allocations(n);
        sp_prompts p;
        sp_error error = {0};
        status = sp_prompts_parse(&p, "a.jsonl", text, sizeof text - 1, &error);
        sp_alloc_hook(NULL);
        assert_true(status == SP_OK ? n >= 7 && p.count == 3 : status == SP_ENOMEM && p.count == 0);
        assert_int_equal(error.status, status);
        sp_prompts_free(&p);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(text_has_a_prompt_a_line),
        cmocka_unit_test(jsonl_sets_what_it_names),
        cmocka_unit_test(bad_lines_are_named_and_the_others_read),
        cmocka_unit_test(bad_text_lines_are_named),
        cmocka_unit_test(torn_last_line_is_said_to_be_cut),
        cmocka_unit_test(lines_are_limited),
        cmocka_unit_test(format_is_by_name_or_by_first_byte),
        cmocka_unit_test(duplicates_name_the_first_line),
        cmocka_unit_test(files_are_read),
        cmocka_unit_test(every_lost_allocation_is_reported),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
