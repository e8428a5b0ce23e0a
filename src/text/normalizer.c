#include "text/normalizer.h"

#include <locale.h>
#include <string.h>
#include <wctype.h>

#include "base/arena.h"
#include "base/utf8.h"
#include "io/json.h"
#include "text/tokenizer.h"

enum { STEPS_LIMIT = 64, DEPTH_LIMIT = 8, TEXT_LIMIT = 8 * SP_TEXT_LIMIT };

/* What NFC may change: marks other than variation selectors, conjoining Jamo, and characters that decompose. It covers
 * every character of Unicode 14 whose NFC_Quick_Check is not Yes or whose combining class is not 0; what that version
 * does not assign is refused too. */
static const char nfc_regex[] =
    "(?![\\x{fe00}-\\x{fe0f}])"
    "[\\p{M}\\p{Cn}\\x{374}\\x{37e}\\x{387}\\x{958}-\\x{95f}\\x{9dc}-\\x{9df}\\x{a33}-\\x{a36}\\x{a59}-\\x{a5e}"
    "\\x{b5c}\\x{b5d}\\x{f43}-\\x{f69}\\x{1100}-\\x{11ff}\\x{1f71}-\\x{1fff}\\x{2000}\\x{2001}\\x{2126}"
    "\\x{212a}\\x{212b}\\x{2329}\\x{232a}\\x{2adc}\\x{f900}-\\x{faff}\\x{fb1d}-\\x{fb4f}\\x{1d15e}-\\x{1d1c0}"
    "\\x{2f800}-\\x{2fa1f}]";

typedef struct normalizer_step normalizer_step;
typedef sp_status apply_step(const normalizer_step *step, sp_matcher *matcher, const sp_buffer *in, sp_buffer *out,
                             sp_error *err);

struct normalizer_step {
    apply_step *apply;
    sp_pattern *pattern; /* Replace, NFC */
    sp_buffer content;   /* Replace, Prepend */
    bool left, right;    /* Strip */
    locale_t locale;     /* Lowercase: borrowed from the normalizer */
};

struct sp_normalizer {
    size_t count;
    normalizer_step steps[STEPS_LIMIT];
    locale_t locale;
};

/* Every step appends through here, so a Replace cannot grow a text without bound. */
static sp_status append(sp_buffer *out, const void *bytes, size_t size, sp_error *err)
{
    if (size > TEXT_LIMIT - out->size)
        return SP_FAIL(err, SP_EARG, "text grows beyond %d bytes when it is normalized; shorten it", TEXT_LIMIT);
    if (sp_buffer_append(out, bytes, size)) return SP_OK;
    return SP_FAIL(err, SP_ENOMEM, "no memory to normalize a text");
}

static const char *chars(const sp_buffer *buffer) { return buffer->data ? (const char *)buffer->data : ""; }

static sp_status apply_lowercase(const normalizer_step *step, sp_matcher *matcher, const sp_buffer *in, sp_buffer *out,
                                 sp_error *err)
{
    (void)matcher;
    static const char i_with_dot[] = "i\xCC\x87"; /* of U+0130, the only capital whose small form has two characters */
    uint32_t code = 0;
    for (size_t i = 0, n; i < in->size; i += n) {
        n = sp_utf8_decode(chars(in) + i, in->size - i, &code);
        char small[4];
        if (code == 0x130)
            SP_TRY(append(out, i_with_dot, sizeof i_with_dot - 1, err));
        else
            SP_TRY(append(out, small, sp_utf8_encode((uint32_t)towlower_l((wint_t)code, step->locale), small), err));
    }
    return SP_OK;
}

static sp_status apply_replace(const normalizer_step *step, sp_matcher *matcher, const sp_buffer *in, sp_buffer *out,
                               sp_error *err)
{
    const char *text = chars(in);
    sp_span match = {0, 0};
    for (size_t from = 0; from < in->size; from = match.end) {
        SP_TRY(sp_pattern_find(step->pattern, matcher, text, in->size, from, &match, err));
        SP_TRY(append(out, text + from, match.begin - from, err));
        if (match.begin < match.end) SP_TRY(append(out, step->content.data, step->content.size, err));
    }
    return SP_OK;
}

static bool is_white_space(uint32_t c)
{
    return (c >= 9 && c <= 13) || c == 0x20 || c == 0x85 || c == 0xA0 || c == 0x1680 || (c >= 0x2000 && c <= 0x200A) ||
           c == 0x2028 || c == 0x2029 || c == 0x202F || c == 0x205F || c == 0x3000;
}

static sp_status apply_strip(const normalizer_step *step, sp_matcher *matcher, const sp_buffer *in, sp_buffer *out,
                             sp_error *err)
{
    (void)matcher;
    const char *text = chars(in);
    size_t begin = in->size, end = 0, n;
    uint32_t code = 0;
    for (size_t i = 0; i < in->size; i += n) {
        n = sp_utf8_decode(text + i, in->size - i, &code);
        if (is_white_space(code)) continue;
        if (begin > i) begin = i;
        end = i + n;
    }
    if (!step->left) begin = 0;
    if (!step->right) end = in->size;
    return begin < end ? append(out, text + begin, end - begin, err) : SP_OK;
}

static sp_status apply_prepend(const normalizer_step *step, sp_matcher *matcher, const sp_buffer *in, sp_buffer *out,
                               sp_error *err)
{
    (void)matcher;
    if (in->size) SP_TRY(append(out, step->content.data, step->content.size, err));
    return append(out, in->data, in->size, err);
}

static sp_status apply_nfc(const normalizer_step *step, sp_matcher *matcher, const sp_buffer *in, sp_buffer *out,
                           sp_error *err)
{
    sp_span match;
    uint32_t code = 0;
    SP_TRY(sp_pattern_find(step->pattern, matcher, chars(in), in->size, 0, &match, err));
    if (match.begin == match.end) return append(out, in->data, in->size, err);
    sp_utf8_decode(chars(in) + match.begin, in->size - match.begin, &code);
    return SP_FAIL(err, SP_EUNSUPPORTED,
                   "text has U+%04X, which NFC normalization may change and this build cannot; write accented letters "
                   "as single characters",
                   (unsigned)code);
}

static sp_status keep_string(sp_buffer *out, const char *file, const json_t *json, const char *key, sp_error *err)
{
    const json_t *value = json_object_get(json, key);
    if (!json_is_string(value)) return SP_FAIL(err, SP_EFORMAT, "%s: normalizer: '%s' is not a string", file, key);
    if (sp_buffer_append(out, json_string_value(value), json_string_length(value))) return SP_OK;
    return SP_FAIL(err, SP_ENOMEM, "%s: no memory for its normalizer", file);
}

static sp_status open_lowercase(sp_normalizer *normalizer, normalizer_step *step, const char *file, sp_error *err)
{
    if (!normalizer->locale) normalizer->locale = newlocale(LC_CTYPE_MASK, "C.UTF-8", (locale_t)0);
    if (!normalizer->locale)
        return SP_FAIL(err, SP_EUNSUPPORTED, "%s: normalizer 'Lowercase' needs the C.UTF-8 locale of the system", file);
    step->apply = apply_lowercase;
    step->locale = normalizer->locale;
    return SP_OK;
}

static sp_status open_steps(sp_normalizer *normalizer, const char *file, const json_t *json, int depth, sp_error *err)
{
    const char *type = json_string_value(json_object_get(json, "type"));
    if (!type) return SP_FAIL(err, SP_EFORMAT, "%s: a normalizer has no 'type'", file);
    if (depth > DEPTH_LIMIT || normalizer->count == STEPS_LIMIT)
        return SP_FAIL(err, SP_EUNSUPPORTED, "%s: normalizer of more than %d levels or %d steps", file, DEPTH_LIMIT,
                       STEPS_LIMIT);
    if (strcmp(type, "Sequence") == 0) {
        const json_t *list = json_object_get(json, "normalizers");
        if (!json_is_array(list)) return SP_FAIL(err, SP_EFORMAT, "%s: 'normalizers' is not an array", file);
        for (size_t i = 0; i < json_array_size(list); i++)
            SP_TRY(open_steps(normalizer, file, json_array_get(list, i), depth + 1, err));
        return SP_OK;
    }
    normalizer_step *step = &normalizer->steps[normalizer->count++];
    if (strcmp(type, "Lowercase") == 0) return open_lowercase(normalizer, step, file, err);
    if (strcmp(type, "Replace") == 0) {
        step->apply = apply_replace;
        SP_TRY(keep_string(&step->content, file, json, "content", err));
        return sp_pattern_open(&step->pattern, file, json_object_get(json, "pattern"), err);
    }
    if (strcmp(type, "Strip") == 0) {
        step->apply = apply_strip;
        SP_TRY(sp_json_bool_or(json, file, "strip_left", true, &step->left, err));
        return sp_json_bool_or(json, file, "strip_right", true, &step->right, err);
    }
    if (strcmp(type, "Prepend") == 0) {
        step->apply = apply_prepend;
        return keep_string(&step->content, file, json, "prepend", err);
    }
    if (strcmp(type, "NFC") == 0) {
        step->apply = apply_nfc;
        return sp_pattern_regex(&step->pattern, file, nfc_regex, err);
    }
    return SP_FAIL(err, SP_EUNSUPPORTED, "%s: normalizer '%.60s' is not supported", file, type);
}

sp_status sp_normalizer_open(sp_normalizer **out, const char *file, const json_t *json, sp_error *err)
{
    *out = sp_alloc(1, sizeof **out);
    if (!*out) return SP_FAIL(err, SP_ENOMEM, "%s: no memory for its normalizer", file);
    if (!json || json_is_null(json)) return SP_OK;
    sp_status status = open_steps(*out, file, json, 0, err);
    if (status != SP_OK) {
        sp_normalizer_close(*out);
        *out = NULL;
    }
    return status;
}

void sp_normalizer_close(sp_normalizer *normalizer)
{
    if (!normalizer) return;
    for (size_t i = 0; i < normalizer->count; i++) {
        sp_pattern_close(normalizer->steps[i].pattern);
        sp_buffer_free(&normalizer->steps[i].content);
    }
    if (normalizer->locale) freelocale(normalizer->locale);
    sp_release(normalizer);
}

sp_status sp_normalizer_apply(const sp_normalizer *normalizer, sp_matcher *matcher, sp_buffer *text, sp_error *err)
{
    for (size_t i = 0; i < normalizer->count; i++) {
        sp_buffer out = {0};
        sp_status status = normalizer->steps[i].apply(&normalizer->steps[i], matcher, text, &out, err);
        sp_buffer_free(status == SP_OK ? text : &out);
        if (status != SP_OK) return status;
        *text = out;
    }
    return SP_OK;
}
