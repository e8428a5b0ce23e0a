#include "text/tokenizer.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "base/arena.h"
#include "base/utf8.h"
#include "io/buffer.h"
#include "io/json.h"
#include "text/normalizer.h"
#include "text/pretokenizer.h"
#include "text/word_model.h"

static const sp_word_model *const word_models[] = {
#define SP_TOKENIZER(name) &sp_word_model_##name,
#include "text/tokenizers.def"
#undef SP_TOKENIZER
};

/* A token that is cut out of the text before anything else is done to it. */
typedef struct added_token {
    sp_buffer text;
    int32_t id;
} added_token;

/* Sorted by text. */
typedef struct added_list {
    size_t count;
    added_token *tokens;
} added_list;

struct sp_tokenizer {
    sp_normalizer *normalizer;
    sp_pretokenizer *pretokenizer;
    const sp_word_model *kind;
    void *model;
    added_list raw;        /* looked for in the text as it is given */
    added_list normalized; /* and in what the normalizer makes of the rest */
    size_t vocab;
};

static int order_added(const void *a, const void *b)
{
    const sp_buffer *x = &((const added_token *)a)->text, *y = &((const added_token *)b)->text;
    int order = memcmp(x->data, y->data, x->size < y->size ? x->size : y->size);
    return order ? order : (x->size > y->size) - (x->size < y->size);
}

static sp_status read_id(const sp_tokenizer *t, const char *file, const json_t *model, const json_t *json,
                         const char *content, int32_t *out, sp_error *err)
{
    size_t id;
    SP_TRY(sp_json_size(json, file, "id", 0, INT32_MAX - 1, &id, err));
    int32_t known = t->kind->find(model, content);
    if (known >= 0 ? (size_t)known != id : id < t->kind->vocab(t->model))
        return SP_FAIL(err, SP_EFORMAT, "%s: added token '%.60s' has id %zu, which the vocabulary gives otherwise",
                       file, content, id);
    *out = (int32_t)id;
    return SP_OK;
}

static sp_status read_added(sp_tokenizer *t, const char *file, const json_t *model, const json_t *json,
                            sp_matcher *matcher, sp_error *err)
{
    static const char *const flags[] = {"single_word", "lstrip", "rstrip"};
    const char *content = json_string_value(json_object_get(json, "content"));
    if (!content || !*content) return SP_FAIL(err, SP_EFORMAT, "%s: an added token has no 'content'", file);
    bool set, normalized;
    for (size_t i = 0; i < sizeof flags / sizeof flags[0]; i++) {
        SP_TRY(sp_json_bool_or(json, file, flags[i], false, &set, err));
        if (set)
            return SP_FAIL(err, SP_EUNSUPPORTED, "%s: added token '%.60s': '%s' is not supported", file, content,
                           flags[i]);
    }
    SP_TRY(sp_json_bool_or(json, file, "normalized", false, &normalized, err));
    int32_t id = 0;
    SP_TRY(read_id(t, file, model, json, content, &id, err));
    if (t->vocab <= (size_t)id) t->vocab = (size_t)id + 1;
    added_list *list = normalized ? &t->normalized : &t->raw;
    added_token *token = &list->tokens[list->count++];
    token->id = id;
    if (!sp_buffer_append(&token->text, content, strlen(content)))
        return SP_FAIL(err, SP_ENOMEM, "%s: no memory for its added tokens", file);
    if (normalized) SP_TRY(sp_normalizer_apply(t->normalizer, matcher, &token->text, err));
    if (token->text.size == 0)
        return SP_FAIL(err, SP_EUNSUPPORTED, "%s: added token '%.60s' is normalized to nothing", file, content);
    return SP_OK;
}

static sp_status sort_added(const char *file, added_list *list, sp_error *err)
{
    qsort(list->tokens, list->count, sizeof *list->tokens, order_added);
    for (size_t i = 1; i < list->count; i++)
        if (order_added(&list->tokens[i - 1], &list->tokens[i]) == 0)
            return SP_FAIL(err, SP_EFORMAT, "%s: added tokens %d and %d are the same text", file,
                           (int)list->tokens[i - 1].id, (int)list->tokens[i].id);
    return SP_OK;
}

static sp_status open_added(sp_tokenizer *t, const char *file, const json_t *model, const json_t *json, sp_error *err)
{
    size_t count = json_array_size(json);
    if (json && !json_is_null(json) && !json_is_array(json))
        return SP_FAIL(err, SP_EFORMAT, "%s: 'added_tokens' is not an array", file);
    t->raw.tokens = sp_alloc(count, sizeof *t->raw.tokens);
    t->normalized.tokens = sp_alloc(count, sizeof *t->normalized.tokens);
    if (!t->raw.tokens || !t->normalized.tokens)
        return SP_FAIL(err, SP_ENOMEM, "%s: no memory for %zu added tokens", file, count);
    sp_matcher matcher;
    SP_TRY(sp_matcher_open(&matcher, SP_TEXT_LIMIT, err));
    sp_status status = SP_OK;
    for (size_t i = 0; status == SP_OK && i < count; i++)
        status = read_added(t, file, model, json_array_get(json, i), &matcher, err);
    sp_matcher_close(&matcher);
    SP_TRY(status);
    SP_TRY(sort_added(file, &t->raw, err));
    return sort_added(file, &t->normalized, err);
}

/* What a post-processor adds (BOS and the like) is the business of the model's family; only its kind is checked. */
static sp_status check_post_processor(const char *file, const json_t *json, sp_error *err)
{
    static const char *const known[] = {"ByteLevel", "TemplateProcessing", "Sequence"};
    if (!json || json_is_null(json)) return SP_OK;
    const char *type = json_string_value(json_object_get(json, "type"));
    for (size_t i = 0; type && i < sizeof known / sizeof known[0]; i++)
        if (strcmp(type, known[i]) == 0) return SP_OK;
    return SP_FAIL(err, SP_EUNSUPPORTED, "%s: post-processor '%.60s' is not supported", file, type ? type : "(none)");
}

static sp_status open_model(sp_tokenizer *t, const char *file, const json_t *json, sp_error *err)
{
    const char *type = json_string_value(json_object_get(json, "type"));
    if (!type) return SP_FAIL(err, SP_EFORMAT, "%s: 'model.type' is absent; is it a tokenizer.json?", file);
    for (size_t i = 0; i < sizeof word_models / sizeof word_models[0]; i++)
        if (strcmp(word_models[i]->type, type) == 0) t->kind = word_models[i];
    if (!t->kind) return SP_FAIL(err, SP_EUNSUPPORTED, "%s: model '%.60s' is not supported", file, type);
    SP_TRY(t->kind->open(&t->model, file, json, err));
    t->vocab = t->kind->vocab(t->model);
    return SP_OK;
}

static sp_status open_parts(sp_tokenizer *t, const char *file, const json_t *root, sp_error *err)
{
    const json_t *model = json_object_get(root, "model");
    SP_TRY(sp_normalizer_open(&t->normalizer, file, json_object_get(root, "normalizer"), err));
    SP_TRY(sp_pretokenizer_open(&t->pretokenizer, file, json_object_get(root, "pre_tokenizer"), err));
    SP_TRY(check_post_processor(file, json_object_get(root, "post_processor"), err));
    SP_TRY(open_model(t, file, model, err));
    return open_added(t, file, model, json_object_get(root, "added_tokens"), err);
}

static sp_status open_root(sp_tokenizer **out, const char *file, json_t *root, sp_error *err)
{
    sp_tokenizer *t = sp_alloc(1, sizeof *t);
    sp_status status = t ? open_parts(t, file, root, err) : SP_FAIL(err, SP_ENOMEM, "%s: no memory to open it", file);
    json_decref(root);
    if (status == SP_OK)
        *out = t;
    else
        sp_tokenizer_close(t);
    return status;
}

sp_status sp_tokenizer_open(sp_tokenizer **out, const char *path, sp_error *err)
{
    *out = NULL;
    json_t *root;
    SP_TRY(sp_json_load(&root, path, SP_JSON_LIMIT, err));
    return open_root(out, path, root, err);
}

sp_status sp_tokenizer_parse(sp_tokenizer **out, const char *name, const char *text, size_t size, sp_error *err)
{
    *out = NULL;
    json_t *root;
    SP_TRY(sp_json_parse(&root, name, text, size, err));
    return open_root(out, name, root, err);
}

static void free_added(added_list *list)
{
    for (size_t i = 0; i < list->count; i++) sp_buffer_free(&list->tokens[i].text);
    sp_release(list->tokens);
}

void sp_tokenizer_close(sp_tokenizer *tokenizer)
{
    if (!tokenizer) return;
    sp_normalizer_close(tokenizer->normalizer);
    sp_pretokenizer_close(tokenizer->pretokenizer);
    if (tokenizer->kind) tokenizer->kind->close(tokenizer->model);
    free_added(&tokenizer->raw);
    free_added(&tokenizer->normalized);
    sp_release(tokenizer);
}

size_t sp_tokenizer_vocab(const sp_tokenizer *tokenizer) { return tokenizer->vocab; }

/* One call of encode. */
typedef struct encoding {
    const sp_tokenizer *tokenizer;
    sp_matcher matcher;
    sp_ids ids;
} encoding;

typedef sp_status encode_call(encoding *e, const char *text, size_t size, sp_error *err);

/* First index in [low, high) whose byte at depth is at least byte; every entry there is longer than depth. */
static size_t lower_bound(const added_list *list, size_t low, size_t high, size_t depth, unsigned byte)
{
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (list->tokens[middle].text.data[depth] < byte)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

/* The longest added token that text begins with, or NULL: the range of entries with the same first bytes is narrowed
 * byte by byte, and the entry that ends there stands first in it. */
static const added_token *longest_added(const added_list *list, const char *text, size_t size)
{
    const added_token *longest = NULL;
    size_t low = 0, high = list->count;
    for (size_t depth = 0; low < high; depth++) {
        if (list->tokens[low].text.size == depth) longest = &list->tokens[low++];
        if (depth == size) break;
        unsigned byte = (unsigned char)text[depth];
        low = lower_bound(list, low, high, depth, byte);
        high = lower_bound(list, low, high, depth, byte + 1);
    }
    return longest;
}

/* Ids of the added tokens, leftmost and longest first; what lies between goes to call. */
static sp_status cut_added(encoding *e, const added_list *list, const char *text, size_t size, encode_call *call,
                           sp_error *err)
{
    size_t from = 0, at = 0;
    while (list->count > 0 && at < size) {
        const added_token *token = longest_added(list, text + at, size - at);
        if (!token) {
            at++;
            continue;
        }
        if (from < at) SP_TRY(call(e, text + from, at - from, err));
        sp_ids_add(&e->ids, token->id);
        at += token->text.size;
        from = at;
    }
    return from < size ? call(e, text + from, size - from, err) : SP_OK;
}

static sp_status encode_word(void *user, const char *word, size_t size, sp_error *err)
{
    encoding *e = user;
    return e->tokenizer->kind->encode(e->tokenizer->model, word, size, &e->ids, err);
}

static sp_status encode_words(encoding *e, const char *text, size_t size, sp_error *err)
{
    return sp_pretokenizer_each(e->tokenizer->pretokenizer, &e->matcher, text, size, encode_word, e, err);
}

static sp_status encode_raw(encoding *e, const char *text, size_t size, sp_error *err)
{
    sp_buffer buffer = {0};
    sp_status status = SP_OK;
    if (!sp_buffer_append(&buffer, text, size)) status = SP_FAIL(err, SP_ENOMEM, "no memory to encode a text");
    if (status == SP_OK) status = sp_normalizer_apply(e->tokenizer->normalizer, &e->matcher, &buffer, err);
    if (status == SP_OK)
        status = cut_added(e, &e->tokenizer->normalized, (const char *)buffer.data, buffer.size, encode_words, err);
    sp_buffer_free(&buffer);
    return status;
}

sp_status sp_tokenizer_encode(const sp_tokenizer *tokenizer, const char *text, size_t size, int32_t *ids,
                              size_t capacity, size_t *count, sp_error *err)
{
    *count = 0;
    if (size > SP_TEXT_LIMIT)
        return SP_FAIL(err, SP_EARG, "text of %zu bytes, expected at most %d", size, SP_TEXT_LIMIT);
    size_t bad = sp_utf8_invalid(text, size);
    if (bad < size) return SP_FAIL(err, SP_EARG, "text is not UTF-8: byte %zu of %zu", bad, size);
    encoding e = {.tokenizer = tokenizer, .ids = {ids, capacity, 0}};
    SP_TRY(sp_matcher_open(&e.matcher, size, err));
    sp_status status = cut_added(&e, &tokenizer->raw, text, size, encode_raw, err);
    sp_matcher_close(&e.matcher);
    if (status == SP_OK) *count = e.ids.count;
    return status;
}
