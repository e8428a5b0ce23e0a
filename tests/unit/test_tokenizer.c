#include "support.h"

#include <jansson.h>
#include <stdbool.h>

#include "base/arena.h"
#include "base/file.h"
#include "text/tokenizer.h"

#define DATA SP_SOURCE_DIR "/tests/data/tokenizer-"

static void assert_ids(const sp_tokenizer *tokenizer, const char *text, size_t size, const json_t *expected)
{
    int32_t ids[1024];
    size_t count;
    SP_TEST_OK(sp_tokenizer_encode(tokenizer, text, size, ids, 1024, &count, err));
    bool same = count == json_array_size(expected);
    for (size_t i = 0; same && i < count; i++) same = ids[i] == json_integer_value(json_array_get(expected, i));
    if (!same) fail_msg("other ids for '%.200s'", text);
}

/* tests/data/tokenizers.py made the ids with the reference implementation. */
static void ids_are_those_of_the_reference(void **state)
{
    (void)state;
    static const char *const names[] = {"gpt2", "qwen", "pieces", "words"};
    sp_tokenizer *tokenizers[4];
    size_t seen[4] = {0};
    for (size_t i = 0; i < 4; i++) {
        char path[256];
        snprintf(path, sizeof path, DATA "%s.json", names[i]);
        SP_TEST_OK(sp_tokenizer_open(&tokenizers[i], path, err));
    }
    sp_bytes cases;
    SP_TEST_OK(sp_file_read(DATA "cases.jsonl", 1 << 20, &cases, err));
    for (char *line = (char *)cases.data, *end; (end = strchr(line, '\n')); line = end + 1) {
        json_t *one = json_loadb(line, (size_t)(end - line), JSON_ALLOW_NUL, NULL);
        const json_t *text = json_object_get(one, "text");
        for (size_t i = 0; i < 4; i++) {
            if (strcmp(names[i], json_string_value(json_object_get(one, "tokenizer"))) != 0) continue;
            assert_ids(tokenizers[i], json_string_value(text), json_string_length(text), json_object_get(one, "ids"));
            seen[i]++;
        }
        json_decref(one);
    }
    sp_bytes_free(&cases);
    for (size_t i = 0; i < 4; i++) {
        assert_true(seen[i] > 80);
        sp_tokenizer_close(tokenizers[i]);
    }
}

/* A small tokenizer whose parts can be replaced. */
#define BYTES "{\"type\":\"ByteLevel\",\"add_prefix_space\":false,\"use_regex\":true}"
#define VOCAB "{\"a\":0,\"b\":1,\"c\":2,\"ab\":3,\"bc\":4,\"abc\":5,\"\\u0120\":6,\"aa\":7}"
#define MERGES "[\"b c\",[\"a\",\"b\"],\"a bc\",\"a a\"]"
#define MODEL "{\"type\":\"BPE\",\"vocab\":" VOCAB ",\"merges\":" MERGES "}"
#define FILE_OF(added, normalizer, pre, post, model)                                                                   \
    "{\"added_tokens\":" added ",\"normalizer\":" normalizer ",\"pre_tokenizer\":" pre ",\"post_processor\":" post     \
    ",\"model\":" model "}"
#define WITH_ADDED(added) FILE_OF(added, "null", BYTES, "null", MODEL)
#define WITH_NORMALIZER(normalizer) FILE_OF("[]", normalizer, BYTES, "null", MODEL)
#define WITH_PRE(pre) FILE_OF("[]", "null", pre, "null", MODEL)
#define WITH_MODEL(model) FILE_OF("[]", "null", BYTES, "null", model)
#define WITH_REGEX(regex)                                                                                              \
    WITH_NORMALIZER("{\"type\":\"Replace\",\"pattern\":{\"Regex\":\"" regex "\"},\"content\":\"\"}")

static sp_tokenizer *parse(const char *json)
{
    sp_tokenizer *tokenizer;
    SP_TEST_OK(sp_tokenizer_parse(&tokenizer, "t.json", json, strlen(json), err));
    return tokenizer;
}

/* ids are digits: "53" is 5, 3. */
static void assert_digits(const char *json, const char *text, const char *ids)
{
    sp_tokenizer *tokenizer = parse(json);
    json_t *expected = json_array();
    for (; *ids; ids++) json_array_append_new(expected, json_integer(*ids - '0'));
    assert_ids(tokenizer, text, strlen(text), expected);
    json_decref(expected);
    sp_tokenizer_close(tokenizer);
}

static void merges_go_by_rank_and_then_from_the_left(void **state)
{
    (void)state;
    const char *json = WITH_MODEL(MODEL);
    assert_digits(json, "abc", "5"); /* b c first, then a bc */
    assert_digits(json, "ab", "3");
    assert_digits(json, "aab", "03");
    assert_digits(json, "aaa", "70");
    assert_digits(json, "aaaa", "77");
    assert_digits(json, "abcabcab", "553");
    assert_digits(json, "", "");
    /* ignore_merges finds a token that merging cannot reach. */
    const char *unreachable =
        "{\"type\":\"BPE\",\"ignore_merges\":%s,\"vocab\":{\"a\":0,\"b\":1,\"ab\":2},\"merges\":[]}";
    for (int ignore = 0; ignore < 2; ignore++) {
        char model[160], file[512];
        snprintf(model, sizeof model, unreachable, ignore ? "true" : "false");
        snprintf(file, sizeof file, WITH_MODEL("%s"), model);
        assert_digits(file, "ab", ignore ? "2" : "01");
    }
}

static void added_tokens_are_cut_out_leftmost_and_longest(void **state)
{
    (void)state;
    const char *json =
        WITH_ADDED("[{\"id\":8,\"content\":\"<a\"},{\"id\":9,\"content\":\"<a>\"},{\"id\":5,\"content\":\"abc\"}]");
    assert_digits(json, "b<a>b", "191");
    assert_digits(json, "<a<a>", "89");
    assert_digits(json, "<a>", "9");
    assert_digits(json, "abcab", "53");
    assert_digits(json, "aabc", "05"); /* without the added token: aa, bc */
    sp_tokenizer *tokenizer = parse(json);
    assert_int_equal(sp_tokenizer_vocab(tokenizer), 10);
    sp_tokenizer_close(tokenizer);
}

static void few_ids_are_kept_and_all_counted(void **state)
{
    (void)state;
    sp_tokenizer *tokenizer = parse(WITH_MODEL(MODEL));
    int32_t ids[3] = {-7, -7, -7};
    size_t count;
    SP_TEST_OK(sp_tokenizer_encode(tokenizer, "c c c", 5, ids, 2, &count, err));
    assert_int_equal(count, 5);
    assert_int_equal(ids[0], 2);
    assert_int_equal(ids[1], 6);
    assert_int_equal(ids[2], -7);
    SP_TEST_OK(sp_tokenizer_encode(tokenizer, "c c c", 5, NULL, 0, &count, err));
    assert_int_equal(count, 5);
    sp_tokenizer_close(tokenizer);
}

static void assert_refused(sp_status status, sp_status expected, const sp_error *error, const char *part)
{
    assert_int_equal(error->status, status);
    if (!strstr(error->message, part)) fail_msg("'%s' is not in '%s'", part, error->message);
    assert_int_equal(status, expected);
    assert_null(strchr(error->message, '\n'));
}

static void bad_texts_are_arguments(void **state)
{
    (void)state;
    sp_tokenizer *plain = parse(WITH_MODEL(MODEL)), *nfc = parse(WITH_NORMALIZER("{\"type\":\"NFC\"}"));
    char *longest = malloc(SP_TEXT_LIMIT + 1);
    memset(longest, 'a', SP_TEXT_LIMIT + 1);
    size_t count;
    SP_TEST_OK(sp_tokenizer_encode(plain, longest, SP_TEXT_LIMIT, NULL, 0, &count, err));
    assert_int_equal(count, SP_TEXT_LIMIT / 2);
    const struct {
        const sp_tokenizer *tokenizer;
        const char *text;
        size_t size;
        sp_status status;
        const char *part;
    } cases[] = {
        {plain, longest, SP_TEXT_LIMIT + 1, SP_EARG, "text of 1048577 bytes, expected at most 1048576"},
        {plain, "ab\xFF", 3, SP_EARG, "byte 2 of 3"},
        {plain, "\xED\xA0\x80", 3, SP_EARG, "byte 0 of 3"},
        {plain, "ab\xC3", 3, SP_EARG, "byte 2 of 3"},
        {plain, "axb", 3, SP_EUNSUPPORTED, "no token for byte 0x78"},
        {nfc, "a\xCC\x81", 3, SP_EUNSUPPORTED, "U+0301, which NFC"},
        {nfc, "\xE2\x84\xAA", 3, SP_EUNSUPPORTED, "U+212A, which NFC"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        sp_error error = {0};
        sp_status status =
            sp_tokenizer_encode(cases[i].tokenizer, cases[i].text, cases[i].size, NULL, 0, &count, &error);
        assert_refused(status, cases[i].status, &error, cases[i].part);
        assert_int_equal(count, 0);
    }
    free(longest);
    sp_tokenizer_close(plain);
    sp_tokenizer_close(nfc);
}

static void hostile_patterns_end(void **state)
{
    (void)state;
    sp_tokenizer *tokenizer = parse(WITH_REGEX("(?:a|aa)+$"));
    char text[201];
    memset(text, 'a', 200);
    text[199] = 'b';
    size_t count;
    sp_error error = {0};
    assert_refused(sp_tokenizer_encode(tokenizer, text, 200, NULL, 0, &count, &error), SP_EARG, &error,
                   "too many steps");
    sp_tokenizer_close(tokenizer);
    /* Each character becomes sixteen. */
    tokenizer = parse(
        WITH_NORMALIZER("{\"type\":\"Replace\",\"pattern\":{\"String\":\"a\"},\"content\":\"aaaaaaaaaaaaaaaa\"}"));
    char *longest = malloc(SP_TEXT_LIMIT);
    memset(longest, 'a', SP_TEXT_LIMIT);
    error = (sp_error){0};
    assert_refused(sp_tokenizer_encode(tokenizer, longest, SP_TEXT_LIMIT, NULL, 0, &count, &error), SP_EARG, &error,
                   "grows beyond 8388608 bytes");
    free(longest);
    sp_tokenizer_close(tokenizer);
}

static const struct {
    const char *json;
    sp_status status;
    const char *part;
} refused[] = {
    {"", SP_EFORMAT, "not valid JSON"},
    {"[]", SP_EUNSUPPORTED, "has no pre-tokenizer"},
    {"{\"pre_tokenizer\":" BYTES "}", SP_EFORMAT, "'model.type' is absent"},
    {WITH_MODEL("{\"type\":\"Unigram\"}"), SP_EUNSUPPORTED, "model 'Unigram' is not supported"},
    {WITH_MODEL("{\"type\":\"BPE\"}"), SP_EFORMAT, "'model.vocab' is absent"},
    {WITH_MODEL("{\"type\":\"BPE\",\"vocab\":{\"a\":-1},\"merges\":[]}"), SP_EFORMAT, "id of token 'a'"},
    {WITH_MODEL("{\"type\":\"BPE\",\"vocab\":{\"a\":1.0},\"merges\":[]}"), SP_EFORMAT, "id of token 'a'"},
    {WITH_MODEL("{\"type\":\"BPE\",\"vocab\":{\"a\":2147483647},\"merges\":[]}"), SP_EFORMAT, "id of token 'a'"},
    {WITH_MODEL("{\"type\":\"BPE\",\"vocab\":{\"a\":1,\"b\":1},\"merges\":[]}"), SP_EFORMAT, "two tokens"},
    {WITH_MODEL("{\"type\":\"BPE\",\"vocab\":{\"a\":1,\"a\":2},\"merges\":[]}"), SP_EFORMAT, "duplicate"},
    {WITH_MODEL("{\"type\":\"BPE\",\"vocab\":{\"a\":1}}"), SP_EFORMAT, "'model.merges' is not an array"},
    {WITH_MODEL("{\"type\":\"BPE\",\"vocab\":{\"a\":1},\"merges\":[\"a\"]}"), SP_EFORMAT, "merge 0 is not a pair"},
    {WITH_MODEL("{\"type\":\"BPE\",\"vocab\":{\"a\":1},\"merges\":[\"a a a\"]}"), SP_EFORMAT, "merge 0 is not a pair"},
    {WITH_MODEL("{\"type\":\"BPE\",\"vocab\":{\"a\":1},\"merges\":[[\"a\",1]]}"), SP_EFORMAT, "merge 0 is not a pair"},
    {WITH_MODEL("{\"type\":\"BPE\",\"vocab\":{\"a\":1},\"merges\":[[\"a\"]]}"), SP_EFORMAT, "merge 0 is not a pair"},
    {WITH_MODEL("{\"type\":\"BPE\",\"vocab\":{\"a\":1},\"merges\":[\"b a\"]}"), SP_EFORMAT, "the first is not"},
    {WITH_MODEL("{\"type\":\"BPE\",\"vocab\":{\"a\":1},\"merges\":[\"a b\"]}"), SP_EFORMAT, "the second is not"},
    {WITH_MODEL("{\"type\":\"BPE\",\"vocab\":{\"a\":1},\"merges\":[\"a a\"]}"), SP_EFORMAT, "their union is not"},
    {WITH_MODEL("{\"type\":\"BPE\",\"vocab\":{\"a\":1},\"merges\":[\" a\"]}"), SP_EFORMAT, "merge 0 is not a pair"},
    {WITH_MODEL("{\"type\":\"BPE\",\"vocab\":{\"a\":1},\"merges\":[[\"\\u4e2d\",\"a\"]]}"), SP_EFORMAT,
     "the first is not"},
    {WITH_MODEL("{\"type\":\"BPE\",\"vocab\":" VOCAB ",\"merges\":[\"a b\",\"a b\"]}"), SP_EFORMAT, "are the same"},
    {WITH_MODEL("{\"type\":\"BPE\",\"dropout\":0.1,\"vocab\":" VOCAB ",\"merges\":[]}"), SP_EUNSUPPORTED, "'dropout'"},
    {WITH_MODEL("{\"type\":\"BPE\",\"byte_fallback\":true,\"vocab\":" VOCAB ",\"merges\":[]}"), SP_EUNSUPPORTED,
     "'byte_fallback'"},
    {WITH_MODEL("{\"type\":\"BPE\",\"end_of_word_suffix\":\"</w>\",\"vocab\":" VOCAB ",\"merges\":[]}"),
     SP_EUNSUPPORTED, "'end_of_word_suffix'"},
    {WITH_MODEL("{\"type\":\"BPE\",\"continuing_subword_prefix\":\"##\",\"vocab\":" VOCAB ",\"merges\":[]}"),
     SP_EUNSUPPORTED, "'continuing_subword_prefix'"},
    {WITH_MODEL("{\"type\":\"BPE\",\"ignore_merges\":1,\"vocab\":" VOCAB ",\"merges\":[]}"), SP_EFORMAT,
     "'ignore_merges'"},
    {WITH_ADDED("{}"), SP_EFORMAT, "'added_tokens' is not an array"},
    {WITH_ADDED("[{\"id\":9}]"), SP_EFORMAT, "an added token has no 'content'"},
    {WITH_ADDED("[{\"id\":9,\"content\":\"\"}]"), SP_EFORMAT, "an added token has no 'content'"},
    {WITH_ADDED("[{\"content\":\"x\"}]"), SP_EFORMAT, "'id' is absent"},
    {WITH_ADDED("[{\"id\":3,\"content\":\"x\"}]"), SP_EFORMAT, "'x' has id 3"},
    {WITH_ADDED("[{\"id\":9,\"content\":\"a\"}]"), SP_EFORMAT, "'a' has id 9"},
    {WITH_ADDED("[{\"id\":9,\"content\":\"x\"},{\"id\":10,\"content\":\"x\"}]"), SP_EFORMAT, "are the same text"},
    {WITH_ADDED("[{\"id\":9,\"content\":\"x\",\"lstrip\":true}]"), SP_EUNSUPPORTED, "'lstrip'"},
    {WITH_ADDED("[{\"id\":9,\"content\":\"x\",\"rstrip\":true}]"), SP_EUNSUPPORTED, "'rstrip'"},
    {WITH_ADDED("[{\"id\":9,\"content\":\"x\",\"single_word\":true}]"), SP_EUNSUPPORTED, "'single_word'"},
    {FILE_OF("[{\"id\":9,\"content\":\" \",\"normalized\":true}]", "{\"type\":\"Strip\"}", BYTES, "null", MODEL),
     SP_EUNSUPPORTED, "is normalized to nothing"},
    {FILE_OF("[]", "null", BYTES, "{\"type\":\"BertProcessing\"}", MODEL), SP_EUNSUPPORTED,
     "post-processor 'BertProcessing'"},
    {WITH_NORMALIZER("{}"), SP_EFORMAT, "a normalizer has no 'type'"},
    {WITH_NORMALIZER("{\"type\":\"NFKC\"}"), SP_EUNSUPPORTED, "normalizer 'NFKC' is not supported"},
    {WITH_NORMALIZER("{\"type\":\"Sequence\",\"normalizers\":[{\"type\":\"Lowercase\"},{\"type\":\"StripAccents\"}]}"),
     SP_EUNSUPPORTED, "normalizer 'StripAccents'"},
    {WITH_NORMALIZER("{\"type\":\"Sequence\"}"), SP_EFORMAT, "'normalizers' is not an array"},
    {WITH_NORMALIZER("{\"type\":\"Prepend\"}"), SP_EFORMAT, "'prepend' is not a string"},
    {WITH_NORMALIZER("{\"type\":\"Replace\",\"pattern\":{\"String\":\"a\"}}"), SP_EFORMAT, "'content' is not a string"},
    {WITH_NORMALIZER("{\"type\":\"Replace\",\"content\":\"\",\"pattern\":\"a\"}"), SP_EFORMAT, "a pattern is not"},
    {WITH_NORMALIZER("{\"type\":\"Replace\",\"content\":\"\",\"pattern\":{\"Glob\":\"a\"}}"), SP_EFORMAT,
     "a pattern is not"},
    {WITH_NORMALIZER("{\"type\":\"Replace\",\"content\":\"\",\"pattern\":{\"String\":\"\"}}"), SP_EUNSUPPORTED,
     "can match nothing"},
    {WITH_PRE("null"), SP_EUNSUPPORTED, "has no pre-tokenizer"},
    {WITH_PRE("{}"), SP_EFORMAT, "a pre-tokenizer has no 'type'"},
    {WITH_PRE("{\"type\":\"Whitespace\"}"), SP_EUNSUPPORTED, "pre-tokenizer 'Whitespace' is not supported"},
    {WITH_PRE("{\"type\":\"Punctuation\"}"), SP_EUNSUPPORTED, "does not end in 'ByteLevel'"},
    {WITH_PRE("{\"type\":\"Sequence\",\"pretokenizers\":[" BYTES ",{\"type\":\"Digits\"}]}"), SP_EUNSUPPORTED,
     "'Digits' after 'ByteLevel'"},
    {WITH_PRE("{\"type\":\"Split\",\"pattern\":{\"String\":\"a\"},\"behavior\":\"MergedWithNext\"}"), SP_EUNSUPPORTED,
     "behavior 'MergedWithNext'"},
    {WITH_PRE("{\"type\":\"Split\",\"pattern\":{\"String\":\"a\"}}"), SP_EFORMAT, "'behavior' is absent"},
    {WITH_PRE("{\"type\":\"Punctuation\",\"behavior\":\"Contiguous\"}"), SP_EUNSUPPORTED, "behavior 'Contiguous'"},
    {WITH_PRE("{\"type\":\"Sequence\",\"pretokenizers\":1}"), SP_EFORMAT, "'pretokenizers' is not an array"},
    {WITH_REGEX("("), SP_EFORMAT, "pattern '('"},
    {WITH_REGEX("a*"), SP_EUNSUPPORTED, "can match nothing"},
    {WITH_REGEX("\\\\w"), SP_EUNSUPPORTED, "'\\w' at byte 0 is not supported"},
    {WITH_REGEX("a\\\\b"), SP_EUNSUPPORTED, "'\\b' at byte 1"},
    {WITH_REGEX("\\\\h"), SP_EUNSUPPORTED, "'\\h'"},
    {WITH_REGEX("\\\\v"), SP_EUNSUPPORTED, "'\\v'"},
    {WITH_REGEX("(a)\\\\1"), SP_EUNSUPPORTED, "'\\1'"},
    {WITH_REGEX("\\\\"), SP_EUNSUPPORTED, "'\\'"},
    {WITH_REGEX("\\\\p{Han}"), SP_EUNSUPPORTED, "'\\p{Han}'"},
    {WITH_REGEX("\\\\p{^L}"), SP_EUNSUPPORTED, "'\\p{^L}'"},
    {WITH_REGEX("\\\\pL"), SP_EUNSUPPORTED, "'\\pL'"},
    {WITH_REGEX("\\\\x80"), SP_EUNSUPPORTED, "'\\x80'"},
    {WITH_REGEX("\\\\x{12"), SP_EUNSUPPORTED, "'\\x{12'"},
    {WITH_REGEX("\\\\u12"), SP_EUNSUPPORTED, "'\\u12'"},
    {WITH_REGEX("[a[b]]"), SP_EUNSUPPORTED, "'[b]]' at byte 2"},
    {WITH_REGEX("[[:alpha:]]"), SP_EUNSUPPORTED, "'[:alpha:]]' at byte 1"},
    {WITH_REGEX("[a-z&&b]"), SP_EUNSUPPORTED, "'&&b]'"},
    {WITH_REGEX("[]a]"), SP_EUNSUPPORTED, "']a]'"},
    {WITH_REGEX("[\\\\S]"), SP_EUNSUPPORTED, "'\\S]'"},
    {WITH_REGEX("[\\\\s-a]"), SP_EUNSUPPORTED, "'\\s-a]'"},
    {WITH_REGEX("[a-\\\\s]"), SP_EUNSUPPORTED, "'\\s]'"},
    {WITH_REGEX("(?i)a"), SP_EUNSUPPORTED, "'(?i)a'"},
    {WITH_REGEX("(?<n>a)"), SP_EUNSUPPORTED, "'(?<n>a)'"},
    {WITH_REGEX("(*FAIL)"), SP_EUNSUPPORTED, "'(*FAIL)'"},
    {WITH_REGEX("a{,2}"), SP_EUNSUPPORTED, "'{,2}'"},
    {WITH_REGEX("a{2}+"), SP_EUNSUPPORTED, "'{2}+'"},
    {WITH_REGEX("a{2}?"), SP_EUNSUPPORTED, "'{2}?'"},
    {WITH_REGEX("((((a{999}){999}){999}){999})"), SP_EFORMAT, "too large"},
};

static void what_is_not_known_is_refused_by_name(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof refused / sizeof refused[0]; i++) {
        sp_tokenizer *tokenizer;
        sp_error error = {0};
        sp_status status = sp_tokenizer_parse(&tokenizer, "t.json", refused[i].json, strlen(refused[i].json), &error);
        assert_refused(status, refused[i].status, &error, refused[i].part);
        assert_non_null(strstr(error.message, "t.json"));
        assert_null(tokenizer);
    }
    sp_tokenizer_close(NULL);
}

/* What a pattern matches is removed; the rest is encoded. */
static void patterns_mean_what_they_say(void **state)
{
    (void)state;
    const struct {
        const char *json, *text, *ids;
    } cases[] = {
        {WITH_REGEX("\\\\u0061"), "abc", "4"},
        {WITH_REGEX("\\\\x61"), "abc", "4"},
        {WITH_REGEX("\\\\x{61}"), "abc", "4"},
        {WITH_REGEX("a{2,3}"), "aaaab", "3"},
        {WITH_REGEX("\\\\s"),
         "a\xE3\x80\x80"
         "b",
         "3"},
        {WITH_REGEX("[\\\\s]"),
         "a\t\xC2\xA0"
         "b",
         "3"},
        {WITH_REGEX("\\\\S+ "), "abc b", "1"},
        {WITH_REGEX("\\\\p{Ll}"), "a\xC3\xA9 ", "6"},
        {WITH_REGEX("\\\\P{L}"), "a1b", "3"},
        {WITH_REGEX("(?i:A)"), "abc", "4"},
        {WITH_REGEX("b(?!c)"), "abcb", "5"},
        {WITH_REGEX("(?<=a)b"), "abcb", "021"},
        {WITH_REGEX("\\n|^a"), "a\nab", "1"},
        {WITH_REGEX("[^bc]"), "a b\xF0\x9F\x99\x82", "1"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
        assert_digits(cases[i].json, cases[i].text, cases[i].ids);
}

static void file_cut_anywhere_is_refused(void **state)
{
    (void)state;
    sp_bytes bytes;
    SP_TEST_OK(sp_file_read(DATA "words.json", 1 << 20, &bytes, err));
    for (size_t i = 0; i < 50; i++) {
        sp_tokenizer *tokenizer;
        sp_error error = {0};
        size_t size = bytes.size * i / 50;
        assert_int_equal(sp_tokenizer_parse(&tokenizer, "t.json", (char *)bytes.data, size, &error), SP_EFORMAT);
        assert_null(tokenizer);
    }
    sp_bytes_free(&bytes);
    sp_tokenizer *tokenizer;
    sp_error error = {0};
    assert_refused(sp_tokenizer_open(&tokenizer, DATA "absent.json", &error), SP_EFORMAT, &error, "No such file");
}

static void every_lost_allocation_is_reported(void **state)
{
    (void)state;
    const char *json = FILE_OF("[{\"id\":8,\"content\":\"<s>\"},{\"id\":9,\"content\":\"Y\",\"normalized\":true}]",
                               "{\"type\":\"Sequence\",\"normalizers\":[{\"type\":\"Lowercase\"},{\"type\":\"Prepend\","
                               "\"prepend\":\" \"}]}",
                               "{\"type\":\"ByteLevel\",\"add_prefix_space\":true}", "null", MODEL);
    sp_status status = SP_ENOMEM;
    for (size_t n = 0; status != SP_OK; n++) {
        assert_true(n < 200);
        sp_test_allow_allocations(n);
        sp_tokenizer *tokenizer;
        sp_error error = {0};
        size_t count = 0;
        status = sp_tokenizer_parse(&tokenizer, "t.json", json, strlen(json), &error);
        if (status == SP_OK) status = sp_tokenizer_encode(tokenizer, "abc<s>b c", 9, NULL, 0, &count, &error);
        sp_alloc_hook(NULL);
        if (status == SP_OK ? n < 20 || count != 7 : status != SP_ENOMEM) fail_msg("%zu: %s", n, error.message);
        assert_int_equal(error.status, status);
        sp_tokenizer_close(tokenizer);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(ids_are_those_of_the_reference),
        cmocka_unit_test(merges_go_by_rank_and_then_from_the_left),
        cmocka_unit_test(added_tokens_are_cut_out_leftmost_and_longest),
        cmocka_unit_test(few_ids_are_kept_and_all_counted),
        cmocka_unit_test(bad_texts_are_arguments),
        cmocka_unit_test(hostile_patterns_end),
        cmocka_unit_test(what_is_not_known_is_refused_by_name),
        cmocka_unit_test(patterns_mean_what_they_say),
        cmocka_unit_test(file_cut_anywhere_is_refused),
        cmocka_unit_test(every_lost_allocation_is_reported),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
