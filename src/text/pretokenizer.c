#include "text/pretokenizer.h"

#include <stdbool.h>
#include <string.h>

#include "base/arena.h"
#include "io/buffer.h"
#include "io/json.h"

enum { STEPS_LIMIT = 64, DEPTH_LIMIT = 8 };

/* What ByteLevel splits by, from GPT-2. */
static const char byte_level_regex[] =
    "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+";

/* ASCII's and that of Unicode 8, at which the reference implementation's table stands. */
static const char punctuation_regex[] =
    "[!-/:-@\\[-`{-~\\x{166d}\\x{111c9}]|"
    "(?![\\x{61d}\\x{9fd}-\\x{a76}\\x{c77}-\\x{c84}\\x{1b7d}\\x{1b7e}\\x{2e43}-\\x{2e5d}\\x{10ead}-\\x{10f89}"
    "\\x{1144b}-\\x{1145d}\\x{11660}-\\x{116b9}\\x{1183b}-\\x{11fff}\\x{12ff1}\\x{12ff2}\\x{16e97}-\\x{16fe2}"
    "\\x{1e95e}\\x{1e95f}])\\p{P}";

/* Cuts at the matches of pattern, or puts a space before a word that has none. */
typedef struct split_step {
    sp_pattern *pattern; /* NULL: the space */
    bool drop_matches, drop_others;
} split_step;

struct sp_pretokenizer {
    size_t count;
    bool byte_level;
    split_step steps[STEPS_LIMIT];
};

static sp_status open_split(split_step *step, const char *file, const json_t *json, sp_error *err)
{
    static const char *const behaviors[] = {"Isolated", "Removed", NULL};
    int behavior;
    bool invert;
    const char *name = json_string_value(json_object_get(json, "behavior"));
    if (name && sp_json_choice(json, file, "behavior", behaviors, -1, &behavior, NULL) != SP_OK)
        return SP_FAIL(err, SP_EUNSUPPORTED, "%s: pre-tokenizer 'Split': behavior '%.60s' is not supported", file,
                       name);
    SP_TRY(sp_json_choice(json, file, "behavior", behaviors, -1, &behavior, err));
    SP_TRY(sp_json_bool_or(json, file, "invert", false, &invert, err));
    step->drop_matches = behavior == 1 && !invert;
    step->drop_others = behavior == 1 && invert;
    return sp_pattern_open(&step->pattern, file, json_object_get(json, "pattern"), err);
}

static sp_status open_digits(split_step *step, const char *file, const json_t *json, sp_error *err)
{
    bool individual;
    SP_TRY(sp_json_bool_or(json, file, "individual_digits", false, &individual, err));
    return sp_pattern_regex(&step->pattern, file, individual ? "\\p{N}" : "\\p{N}+", err);
}

static sp_status open_punctuation(split_step *step, const char *file, const json_t *json, sp_error *err)
{
    const json_t *behavior = json_object_get(json, "behavior");
    const char *name = behavior ? json_string_value(behavior) : "Isolated";
    if (!name || (strcmp(name, "Isolated") != 0 && strcmp(name, "Removed") != 0))
        return SP_FAIL(err, SP_EUNSUPPORTED, "%s: pre-tokenizer 'Punctuation': behavior '%.60s' is not supported", file,
                       name ? name : "(not a string)");
    step->drop_matches = *name == 'R';
    return sp_pattern_regex(&step->pattern, file, punctuation_regex, err);
}

static sp_status add_step(sp_pretokenizer *p, const char *file, split_step **step, sp_error *err)
{
    if (p->count == STEPS_LIMIT)
        return SP_FAIL(err, SP_EUNSUPPORTED, "%s: pre-tokenizer of more than %d steps", file, STEPS_LIMIT);
    *step = &p->steps[p->count++];
    return SP_OK;
}

static sp_status open_byte_level(sp_pretokenizer *p, const char *file, const json_t *json, sp_error *err)
{
    bool space, split;
    split_step *step = NULL;
    SP_TRY(sp_json_bool_or(json, file, "add_prefix_space", true, &space, err));
    SP_TRY(sp_json_bool_or(json, file, "use_regex", true, &split, err));
    p->byte_level = true;
    if (space) SP_TRY(add_step(p, file, &step, err));
    if (!split) return SP_OK;
    SP_TRY(add_step(p, file, &step, err));
    return sp_pattern_regex(&step->pattern, file, byte_level_regex, err);
}

static sp_status open_steps(sp_pretokenizer *p, const char *file, const json_t *json, int depth, sp_error *err)
{
    const char *type = json_string_value(json_object_get(json, "type"));
    if (!type) return SP_FAIL(err, SP_EFORMAT, "%s: a pre-tokenizer has no 'type'", file);
    if (depth > DEPTH_LIMIT)
        return SP_FAIL(err, SP_EUNSUPPORTED, "%s: pre-tokenizer of more than %d levels", file, DEPTH_LIMIT);
    if (strcmp(type, "Sequence") == 0) {
        const json_t *list = json_object_get(json, "pretokenizers");
        if (!json_is_array(list)) return SP_FAIL(err, SP_EFORMAT, "%s: 'pretokenizers' is not an array", file);
        for (size_t i = 0; i < json_array_size(list); i++)
            SP_TRY(open_steps(p, file, json_array_get(list, i), depth + 1, err));
        return SP_OK;
    }
    /* After ByteLevel the text is another one, of the characters that stand for bytes. */
    if (p->byte_level)
        return SP_FAIL(err, SP_EUNSUPPORTED, "%s: pre-tokenizer '%.60s' after 'ByteLevel' is not supported", file,
                       type);
    if (strcmp(type, "ByteLevel") == 0) return open_byte_level(p, file, json, err);
    split_step *step = NULL;
    SP_TRY(add_step(p, file, &step, err));
    if (strcmp(type, "Split") == 0) return open_split(step, file, json, err);
    if (strcmp(type, "Digits") == 0) return open_digits(step, file, json, err);
    if (strcmp(type, "Punctuation") == 0) return open_punctuation(step, file, json, err);
    return SP_FAIL(err, SP_EUNSUPPORTED, "%s: pre-tokenizer '%.60s' is not supported", file, type);
}

sp_status sp_pretokenizer_open(sp_pretokenizer **out, const char *file, const json_t *json, sp_error *err)
{
    *out = NULL;
    if (!json || json_is_null(json))
        return SP_FAIL(err, SP_EUNSUPPORTED, "%s: has no pre-tokenizer, expected one that ends in 'ByteLevel'", file);
    sp_pretokenizer *p = sp_alloc(1, sizeof *p);
    if (!p) return SP_FAIL(err, SP_ENOMEM, "%s: no memory for its pre-tokenizer", file);
    sp_status status = open_steps(p, file, json, 0, err);
    if (status == SP_OK && !p->byte_level)
        status = SP_FAIL(err, SP_EUNSUPPORTED, "%s: pre-tokenizer does not end in 'ByteLevel'", file);
    if (status == SP_OK)
        *out = p;
    else
        sp_pretokenizer_close(p);
    return status;
}

void sp_pretokenizer_close(sp_pretokenizer *pretokenizer)
{
    if (!pretokenizer) return;
    for (size_t i = 0; i < pretokenizer->count; i++) sp_pattern_close(pretokenizer->steps[i].pattern);
    sp_release(pretokenizer);
}

typedef struct word_walk {
    const sp_pretokenizer *pretokenizer;
    sp_matcher *matcher;
    sp_word_call *call;
    void *user;
} word_walk;

static sp_status walk(const word_walk *w, size_t step, const char *text, size_t size, sp_error *err);

static sp_status walk_spaced(const word_walk *w, size_t step, const char *text, size_t size, sp_error *err)
{
    sp_buffer spaced = {0};
    sp_status status = SP_OK;
    if (!sp_buffer_append(&spaced, " ", 1) || !sp_buffer_append(&spaced, text, size))
        status = SP_FAIL(err, SP_ENOMEM, "no memory to split a text");
    if (status == SP_OK) status = walk(w, step + 1, (const char *)spaced.data, spaced.size, err);
    sp_buffer_free(&spaced);
    return status;
}

/* Each piece that a step leaves goes through the later steps on its own. */
static sp_status walk(const word_walk *w, size_t step, const char *text, size_t size, sp_error *err)
{
    if (size == 0) return SP_OK;
    if (step == w->pretokenizer->count) return w->call(w->user, text, size, err);
    const split_step *s = &w->pretokenizer->steps[step];
    if (!s->pattern) return *text == ' ' ? walk(w, step + 1, text, size, err) : walk_spaced(w, step, text, size, err);
    sp_span match = {0, 0};
    for (size_t from = 0; from < size; from = match.end) {
        SP_TRY(sp_pattern_find(s->pattern, w->matcher, text, size, from, &match, err));
        if (!s->drop_others) SP_TRY(walk(w, step + 1, text + from, match.begin - from, err));
        if (!s->drop_matches) SP_TRY(walk(w, step + 1, text + match.begin, match.end - match.begin, err));
    }
    return SP_OK;
}

sp_status sp_pretokenizer_each(const sp_pretokenizer *pretokenizer, sp_matcher *matcher, const char *text, size_t size,
                               sp_word_call *call, void *user, sp_error *err)
{
    const word_walk w = {pretokenizer, matcher, call, user};
    return walk(&w, 0, text, size, err);
}
