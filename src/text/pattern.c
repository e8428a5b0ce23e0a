#include "text/pattern.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <ctype.h>
#include <pcre2.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "base/arena.h"
#include "io/buffer.h"

enum {
    LENGTH_LIMIT = 1 << 16, /* bytes of a pattern */
    STEPS = 100000,         /* of a search, beside one a byte */
    HEAP_LIMIT = 64 << 10   /* KiB of backtracking */
};

/* Unicode's White_Space, which is Oniguruma's \s. */
#define WHITE_SPACE                                                                                                    \
    "\\x{9}-\\x{d}\\x{20}\\x{85}\\x{a0}\\x{1680}\\x{2000}-\\x{200a}\\x{2028}\\x{2029}\\x{202f}\\x{205f}\\x{3000}"

struct sp_pattern {
    pcre2_code *code;
};

static void *allocate(size_t size, void *unused)
{
    (void)unused;
    return sp_alloc(size, 1);
}

static void release(void *memory, void *unused)
{
    (void)unused;
    sp_release(memory);
}

typedef struct translation {
    const char *file, *regex; /* for messages; regex is what is read */
    size_t at;                /* of the next character */
    bool in_class;
    sp_buffer out;
} translation;

static sp_status emit(translation *t, const char *text, size_t size, sp_error *err)
{
    if (sp_buffer_append(&t->out, text, size)) return SP_OK;
    return SP_FAIL(err, SP_ENOMEM, "%s: no memory for a pattern", t->file);
}

/* Copies the next size bytes. */
static sp_status copy(translation *t, size_t size, sp_error *err)
{
    SP_TRY(emit(t, t->regex + t->at, size, err));
    t->at += size;
    return SP_OK;
}

static sp_status refuse(const translation *t, sp_error *err)
{
    return SP_FAIL(err, SP_EUNSUPPORTED, "%s: regex '%.200s': '%.12s' at byte %zu is not supported", t->file, t->regex,
                   t->regex + t->at, t->at);
}

static size_t hex_digits(const char *text)
{
    size_t n = 0;
    while (isxdigit((unsigned char)text[n])) n++;
    return n;
}

/* \s and \S; a range that ends or begins with them has no common reading. */
static sp_status translate_space(translation *t, sp_error *err)
{
    bool negated = t->regex[t->at + 1] == 'S';
    if (!t->in_class) {
        SP_TRY(emit(t, "[^", negated ? 2 : 1, err));
    } else if (negated || t->regex[t->at - 1] == '-' || t->regex[t->at + 2] == '-') {
        return refuse(t, err);
    }
    SP_TRY(emit(t, WHITE_SPACE, sizeof WHITE_SPACE - 1, err));
    if (!t->in_class) SP_TRY(emit(t, "]", 1, err));
    t->at += 2;
    return SP_OK;
}

/* A general category: \p{L}, \P{Lu}. Scripts and binary properties differ between the engines and their versions. */
static sp_status translate_property(translation *t, sp_error *err)
{
    const char *name = t->regex + t->at + 2;
    if (name[0] != '{' || !name[1] || !strchr("LMNPSZC", name[1])) return refuse(t, err);
    if (name[2] == '}') return copy(t, 5, err);
    if (name[2] >= 'a' && name[2] <= 'z' && name[3] == '}') return copy(t, 6, err);
    return refuse(t, err);
}

static sp_status translate_escape(translation *t, sp_error *err)
{
    const char *next = t->regex + t->at + 1;
    size_t digits;
    switch (*next) {
    case 's':
    case 'S': return translate_space(t, err);
    case 'p':
    case 'P': return translate_property(t, err);
    case 'd':
    case 'D':
    case 'n':
    case 'r':
    case 't':
    case 'f': return copy(t, 2, err);
    case 'u':
        if (hex_digits(next + 1) < 4) return refuse(t, err);
        SP_TRY(emit(t, "\\x{", 3, err));
        t->at += 2;
        SP_TRY(copy(t, 4, err));
        return emit(t, "}", 1, err);
    case 'x':
        /* Without braces Oniguruma means a byte, which is a character only below 0x80. */
        if (next[1] >= '0' && next[1] <= '7' && isxdigit((unsigned char)next[2])) return copy(t, 4, err);
        digits = next[1] == '{' ? hex_digits(next + 2) : 0;
        if (digits == 0 || next[2 + digits] != '}') return refuse(t, err);
        return copy(t, 4 + digits, err);
    default: break;
    }
    if (!ispunct((unsigned char)*next)) return refuse(t, err);
    return copy(t, 2, err);
}

static sp_status translate_class(translation *t, sp_error *err)
{
    const char *here = t->regex + t->at;
    if (here[0] == '[' || (here[0] == '&' && here[1] == '&')) return refuse(t, err);
    if (here[0] == ']') t->in_class = false;
    return copy(t, 1, err);
}

static sp_status open_class(translation *t, sp_error *err)
{
    SP_TRY(copy(t, 1, err));
    if (t->regex[t->at] == '^') SP_TRY(copy(t, 1, err));
    if (t->regex[t->at] == ']') return refuse(t, err);
    t->in_class = true;
    return SP_OK;
}

static sp_status translate_group(translation *t, sp_error *err)
{
    static const char *const known[] = {"(?:", "(?i:", "(?=", "(?!", "(?<=", "(?<!", "(?>"};
    const char *here = t->regex + t->at;
    if (here[1] == '*') return refuse(t, err);
    if (here[1] != '?') return copy(t, 1, err);
    for (size_t i = 0; i < sizeof known / sizeof known[0]; i++)
        if (strncmp(here, known[i], strlen(known[i])) == 0) return copy(t, strlen(known[i]), err);
    return refuse(t, err);
}

/* {n}, {n,} or {n,m}, greedy: what a further ? or + would mean differs. */
static sp_status translate_count(translation *t, sp_error *err)
{
    const char *here = t->regex + t->at;
    size_t n = 1 + strspn(here + 1, "0123456789");
    if (n == 1) return refuse(t, err);
    if (here[n] == ',') n += 1 + strspn(here + n + 1, "0123456789");
    if (here[n] != '}' || here[n + 1] == '?' || here[n + 1] == '+') return refuse(t, err);
    return copy(t, n + 1, err);
}

static sp_status translate(translation *t, sp_error *err)
{
    while (t->regex[t->at]) {
        char c = t->regex[t->at];
        if (c == '\\')
            SP_TRY(translate_escape(t, err));
        else if (t->in_class)
            SP_TRY(translate_class(t, err));
        else if (c == '[')
            SP_TRY(open_class(t, err));
        else if (c == '(')
            SP_TRY(translate_group(t, err));
        else if (c == '{')
            SP_TRY(translate_count(t, err));
        else
            SP_TRY(copy(t, 1, err));
    }
    return SP_OK;
}

/* text is for messages, code for the compiler. */
static sp_status compile(sp_pattern **out, const char *file, const char *text, const unsigned char *code, size_t size,
                         uint32_t options, sp_error *err)
{
    int number = 0;
    uint32_t may_be_empty = 1;
    PCRE2_SIZE offset = 0;
    sp_pattern *pattern = sp_alloc(1, sizeof *pattern);
    pcre2_general_context *memory = pcre2_general_context_create(allocate, release, NULL);
    pcre2_compile_context *context = memory ? pcre2_compile_context_create(memory) : NULL;
    sp_status status = SP_OK;
    if (pattern && context) {
        pcre2_set_newline(context, PCRE2_NEWLINE_LF);
        pcre2_set_max_pattern_length(context, LENGTH_LIMIT);
        pattern->code = pcre2_compile(code, size, options | PCRE2_UTF, &number, &offset, context);
    }
    if (!pattern || !context || (!pattern->code && number == PCRE2_ERROR_HEAP_FAILED)) {
        status = SP_FAIL(err, SP_ENOMEM, "%s: no memory for pattern '%.200s'", file, text);
    } else if (!pattern->code) {
        char why[128] = "";
        pcre2_get_error_message(number, (PCRE2_UCHAR *)why, sizeof why);
        status = SP_FAIL(err, SP_EFORMAT, "%s: pattern '%.200s': %s", file, text, why);
    } else if (pcre2_pattern_info(pattern->code, PCRE2_INFO_MATCHEMPTY, &may_be_empty) != 0 || may_be_empty) {
        status =
            SP_FAIL(err, SP_EUNSUPPORTED, "%s: pattern '%.200s' can match nothing, which is not supported", file, text);
    }
    pcre2_compile_context_free(context);
    pcre2_general_context_free(memory);
    if (status != SP_OK) {
        sp_pattern_close(pattern);
        pattern = NULL;
    }
    *out = pattern;
    return status;
}

sp_status sp_pattern_regex(sp_pattern **out, const char *file, const char *regex, sp_error *err)
{
    *out = NULL;
    translation t = {.file = file, .regex = regex};
    sp_status status = translate(&t, err);
    if (status == SP_OK)
        status =
            compile(out, file, regex, t.out.data, t.out.size, PCRE2_UCP | PCRE2_MULTILINE | PCRE2_NO_AUTO_CAPTURE, err);
    sp_buffer_free(&t.out);
    return status;
}

sp_status sp_pattern_open(sp_pattern **out, const char *file, const json_t *pattern, sp_error *err)
{
    *out = NULL;
    const char *regex = json_string_value(json_object_get(pattern, "Regex"));
    const char *string = json_string_value(json_object_get(pattern, "String"));
    if (json_object_size(pattern) != 1 || (!regex && !string))
        return SP_FAIL(err, SP_EFORMAT, "%s: a pattern is not {\"Regex\": ...} or {\"String\": ...}", file);
    if (regex) return sp_pattern_regex(out, file, regex, err);
    return compile(out, file, string, (const unsigned char *)string, strlen(string), PCRE2_LITERAL, err);
}

void sp_pattern_close(sp_pattern *pattern)
{
    if (!pattern) return;
    pcre2_code_free(pattern->code);
    sp_release(pattern);
}

sp_status sp_matcher_open(sp_matcher *matcher, size_t longest, sp_error *err)
{
    pcre2_general_context *memory = pcre2_general_context_create(allocate, release, NULL);
    pcre2_match_context *context = memory ? pcre2_match_context_create(memory) : NULL;
    *matcher = (sp_matcher){.context = context};
    if (context) {
        pcre2_set_match_limit(context, (uint32_t)(longest < UINT32_MAX / 2 ? longest : UINT32_MAX / 2) + STEPS);
        pcre2_set_heap_limit(context, HEAP_LIMIT);
        matcher->data = pcre2_match_data_create(1, memory);
    }
    pcre2_general_context_free(memory);
    if (matcher->data) return SP_OK;
    sp_matcher_close(matcher);
    return SP_FAIL(err, SP_ENOMEM, "no memory to match patterns");
}

void sp_matcher_close(sp_matcher *matcher)
{
    pcre2_match_data_free(matcher->data);
    pcre2_match_context_free(matcher->context);
    *matcher = (sp_matcher){0};
}

sp_status sp_pattern_find(const sp_pattern *pattern, sp_matcher *matcher, const char *text, size_t size, size_t from,
                          sp_span *match, sp_error *err)
{
    *match = (sp_span){size, size};
    if (from >= size) return SP_OK;
    int result =
        pcre2_match(pattern->code, (PCRE2_SPTR)text, size, from, PCRE2_NO_UTF_CHECK, matcher->data, matcher->context);
    if (result >= 0) {
        const PCRE2_SIZE *span = pcre2_get_ovector_pointer(matcher->data);
        *match = (sp_span){span[0], span[1]};
        return SP_OK;
    }
    switch (result) {
    case PCRE2_ERROR_NOMATCH: return SP_OK;
    case PCRE2_ERROR_NOMEMORY: return SP_FAIL(err, SP_ENOMEM, "no memory to match a pattern");
    case PCRE2_ERROR_MATCHLIMIT:
    case PCRE2_ERROR_DEPTHLIMIT:
    case PCRE2_ERROR_HEAPLIMIT:
        return SP_FAIL(err, SP_EARG, "text of %zu bytes takes a pattern of the tokenizer too many steps; shorten it",
                       size);
    default: return SP_FAIL(err, SP_EBUG, "PCRE2 failed with %d", result);
    }
}
