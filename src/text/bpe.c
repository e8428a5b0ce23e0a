/* Byte-level byte-pair encoding (Sennrich et al. 2016; the bytes are GPT-2's). A word begins as its bytes; of the pairs
 * of neighbours that the list of merges knows, the one that stands first in the list is joined, the leftmost where it
 * occurs twice, until none is known. A heap of candidates makes that O(n log n) for a word of n bytes. */
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "base/arena.h"
#include "base/utf8.h"
#include "io/buffer.h"
#include "io/json.h"
#include "text/word_model.h"

typedef struct bpe_token {
    const unsigned char *bytes; /* in bpe.memory */
    size_t size;
    int32_t id;
} bpe_token;

typedef struct bpe_merge {
    uint64_t pair; /* left id << 32 | right id */
    uint32_t rank; /* place in the list */
    int32_t id;    /* of what it makes */
} bpe_merge;

typedef struct bpe {
    unsigned char *memory;
    size_t n_tokens;
    bpe_token *tokens; /* sorted by bytes */
    size_t n_merges;
    bpe_merge *merges;    /* sorted by pair */
    int32_t byte_id[256]; /* -1: the vocabulary lacks it */
    size_t vocab;
    bool ignore_merges; /* a word that is a token is not split */
} bpe;

enum { BYTE_CODES = 256 + 68 };

/* GPT-2 writes each byte as a printable character: itself where it is one, else the next of U+0100 and up. */
static void fill_bytes_of_codes(int16_t bytes[BYTE_CODES])
{
    int next = 256;
    for (int i = 0; i < BYTE_CODES; i++) bytes[i] = -1;
    for (int b = 0; b < 256; b++) {
        bool printable = (b >= 33 && b <= 126) || (b >= 161 && b <= 172) || b >= 174;
        bytes[printable ? b : next++] = (int16_t)b;
    }
}

/* Bytes that text [length] stands for, into out [length]; false if a character stands for none. */
static bool decode_bytes(const int16_t bytes[BYTE_CODES], const char *text, size_t length, unsigned char *out,
                         size_t *size)
{
    uint32_t code = 0;
    *size = 0;
    for (size_t i = 0, n; i < length; i += n) {
        n = sp_utf8_decode(text + i, length - i, &code);
        if (n == 0 || code >= BYTE_CODES || bytes[code] < 0) return false;
        out[(*size)++] = (unsigned char)bytes[code];
    }
    return true;
}

static int order_bytes(const void *a, const void *b)
{
    const bpe_token *x = a, *y = b;
    int order = memcmp(x->bytes, y->bytes, x->size < y->size ? x->size : y->size);
    return order ? order : (x->size > y->size) - (x->size < y->size);
}

static int order_ids(const void *a, const void *b)
{
    int32_t x = *(const int32_t *)a, y = *(const int32_t *)b;
    return (x > y) - (x < y);
}

static int order_pairs(const void *a, const void *b)
{
    const bpe_merge *x = a, *y = b;
    return (x->pair > y->pair) - (x->pair < y->pair);
}

static int32_t id_of_bytes(const bpe *model, const unsigned char *bytes, size_t size)
{
    const bpe_token key = {bytes, size, 0};
    const bpe_token *found = bsearch(&key, model->tokens, model->n_tokens, sizeof key, order_bytes);
    return found ? found->id : -1;
}

static sp_status check_ids(const char *file, int32_t *ids, size_t count, sp_error *err)
{
    qsort(ids, count, sizeof *ids, order_ids);
    for (size_t i = 1; i < count; i++)
        if (ids[i - 1] == ids[i])
            return SP_FAIL(err, SP_EFORMAT, "%s: two tokens of the vocabulary have id %d", file, (int)ids[i]);
    return SP_OK;
}

/* Tokens with characters that stand for no byte are special ones: they are found as added tokens, never by merging. */
static sp_status read_vocab(bpe *model, const char *file, const json_t *vocab, int32_t *ids, sp_error *err)
{
    int16_t bytes[BYTE_CODES];
    fill_bytes_of_codes(bytes);
    unsigned char *memory = model->memory;
    const char *text;
    json_t *value;
    size_t count = 0;
    json_object_foreach((json_t *)(uintptr_t)vocab, text, value) {
        json_int_t id = json_is_integer(value) ? json_integer_value(value) : -1;
        if (id < 0 || id >= INT32_MAX)
            return SP_FAIL(err, SP_EFORMAT, "%s: id of token '%.60s' is not an integer of 0 to %d", file, text,
                           INT32_MAX - 1);
        ids[count++] = (int32_t)id;
        if (model->vocab <= (size_t)id) model->vocab = (size_t)id + 1;
        bpe_token *token = &model->tokens[model->n_tokens];
        if (!*text || !decode_bytes(bytes, text, strlen(text), memory, &token->size)) continue;
        token->bytes = memory;
        token->id = (int32_t)id;
        memory += token->size;
        if (token->size == 1) model->byte_id[token->bytes[0]] = token->id;
        model->n_tokens++;
    }
    qsort(model->tokens, model->n_tokens, sizeof *model->tokens, order_bytes);
    return check_ids(file, ids, count, err);
}

static sp_status open_vocab(bpe *model, const char *file, const json_t *vocab, sp_error *err)
{
    const char *text;
    json_t *value;
    size_t room = 0, count = json_object_size(vocab);
    if (count == 0) return SP_FAIL(err, SP_EFORMAT, "%s: 'model.vocab' is absent or empty", file);
    json_object_foreach((json_t *)(uintptr_t)vocab, text, value) room += strlen(text);
    model->memory = sp_alloc(room, 1);
    model->tokens = sp_alloc(count, sizeof *model->tokens);
    int32_t *ids = sp_alloc(count, sizeof *ids);
    sp_status status = SP_OK;
    if (!model->memory || !model->tokens || !ids)
        status = SP_FAIL(err, SP_ENOMEM, "%s: no memory for a vocabulary of %zu", file, count);
    if (status == SP_OK) status = read_vocab(model, file, vocab, ids, err);
    sp_release(ids);
    return status;
}

/* The halves of a merge, borrowed from json, which is "left right" or ["left", "right"]. */
typedef struct merge_text {
    const char *left, *right;
    size_t n_left, n_right; /* bytes */
} merge_text;

static bool split_merge(const json_t *json, merge_text *out)
{
    const char *space = json_is_string(json) ? strchr(json_string_value(json), ' ') : NULL;
    if (space) {
        out->left = json_string_value(json);
        out->right = space + 1;
        out->n_left = (size_t)(space - out->left);
    } else {
        out->left = json_string_value(json_array_get(json, 0));
        out->right = json_string_value(json_array_get(json, 1));
        if (!out->left || !out->right || json_array_size(json) != 2) return false;
        out->n_left = strlen(out->left);
    }
    out->n_right = strlen(out->right);
    return out->n_left > 0 && out->n_right > 0 && !(space && strchr(out->right, ' '));
}

/* scratch is kept from merge to merge. */
static sp_status read_merge(bpe *model, const char *file, const int16_t *codes, const json_t *json, size_t rank,
                            sp_buffer *scratch, sp_error *err)
{
    merge_text m;
    if (!split_merge(json, &m)) return SP_FAIL(err, SP_EFORMAT, "%s: merge %zu is not a pair of tokens", file, rank);
    size_t n_left = 0, n_right = 0;
    scratch->size = 0;
    if (!sp_buffer_append(scratch, m.left, m.n_left) || !sp_buffer_append(scratch, m.right, m.n_right))
        return SP_FAIL(err, SP_ENOMEM, "%s: no memory for its merges", file);
    unsigned char *bytes = scratch->data;
    int32_t ids[3] = {-1, -1, -1};
    if (decode_bytes(codes, m.left, m.n_left, bytes, &n_left) &&
        decode_bytes(codes, m.right, m.n_right, bytes + n_left, &n_right)) {
        ids[0] = id_of_bytes(model, bytes, n_left);
        ids[1] = id_of_bytes(model, bytes + n_left, n_right);
        ids[2] = id_of_bytes(model, bytes, n_left + n_right);
    }
    if (ids[0] < 0 || ids[1] < 0 || ids[2] < 0)
        return SP_FAIL(err, SP_EFORMAT, "%s: merge %zu, '%.60s': %s not in the vocabulary", file, rank, m.left,
                       ids[0] < 0   ? "the first is"
                       : ids[1] < 0 ? "the second is"
                                    : "their union is");
    model->merges[rank] = (bpe_merge){(uint64_t)ids[0] << 32 | (uint32_t)ids[1], (uint32_t)rank, ids[2]};
    return SP_OK;
}

static sp_status open_merges(bpe *model, const char *file, const json_t *merges, sp_error *err)
{
    if (!json_is_array(merges)) return SP_FAIL(err, SP_EFORMAT, "%s: 'model.merges' is not an array", file);
    int16_t codes[BYTE_CODES];
    fill_bytes_of_codes(codes);
    sp_buffer scratch = {0};
    sp_status status = SP_OK;
    model->n_merges = json_array_size(merges);
    model->merges = sp_alloc(model->n_merges, sizeof *model->merges);
    if (!model->merges) status = SP_FAIL(err, SP_ENOMEM, "%s: no memory for %zu merges", file, model->n_merges);
    for (size_t i = 0; status == SP_OK && i < model->n_merges; i++)
        status = read_merge(model, file, codes, json_array_get(merges, i), i, &scratch, err);
    sp_buffer_free(&scratch);
    if (status != SP_OK) return status;
    qsort(model->merges, model->n_merges, sizeof *model->merges, order_pairs);
    for (size_t i = 1; i < model->n_merges; i++)
        if (model->merges[i - 1].pair == model->merges[i].pair)
            return SP_FAIL(err, SP_EFORMAT, "%s: merges %u and %u are the same", file, model->merges[i - 1].rank,
                           model->merges[i].rank);
    return SP_OK;
}

/* Options of the format that change the ids and are not done here; absent, null, false, 0 and "" turn them off. */
static sp_status check_options(const char *file, const json_t *json, sp_error *err)
{
    static const char *const names[] = {"dropout", "continuing_subword_prefix", "end_of_word_suffix", "byte_fallback"};
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        const json_t *value = json_object_get(json, names[i]);
        bool off = !value || json_is_null(value) || json_is_false(value) ||
                   (json_is_number(value) && json_number_value(value) == 0) ||
                   (json_is_string(value) && json_string_length(value) == 0);
        if (!off) return SP_FAIL(err, SP_EUNSUPPORTED, "%s: model 'BPE': option '%s' is not supported", file, names[i]);
    }
    return SP_OK;
}

static void close_bpe(void *model)
{
    bpe *b = model;
    if (!b) return;
    sp_release(b->memory);
    sp_release(b->tokens);
    sp_release(b->merges);
    sp_release(b);
}

static sp_status open_bpe(void **out, const char *file, const json_t *json, sp_error *err)
{
    *out = NULL;
    bpe *model = sp_alloc(1, sizeof *model);
    if (!model) return SP_FAIL(err, SP_ENOMEM, "%s: no memory for its model", file);
    for (int i = 0; i < 256; i++) model->byte_id[i] = -1;
    sp_status status;
    SP_GO(check_options(file, json, err));
    SP_GO(sp_json_bool_or(json, file, "ignore_merges", false, &model->ignore_merges, err));
    SP_GO(open_vocab(model, file, json_object_get(json, "vocab"), err));
    SP_GO(open_merges(model, file, json_object_get(json, "merges"), err));
    *out = model;
    return SP_OK;
out:
    close_bpe(model);
    return status;
}

static size_t vocab_bpe(const void *model) { return ((const bpe *)model)->vocab; }

static int32_t find_bpe(const json_t *json, const char *token)
{
    const json_t *id = json_object_get(json_object_get(json, "vocab"), token);
    return id ? (int32_t)json_integer_value(id) : -1;
}

/* A word in the making: symbols are linked from left to right, one that was joined to its left is dead. */
typedef struct symbol {
    int32_t id; /* -1: dead */
    uint32_t left, right;
} symbol;

/* A join that was possible when it was found: of the symbol at and its right neighbour. */
typedef struct candidate {
    uint32_t rank, at;
} candidate;

typedef struct joiner {
    const bpe *model;
    symbol *symbols;
    candidate *heap; /* lowest rank first, then leftmost */
    size_t n_heap;
    uint32_t end; /* count of symbols; as a neighbour: none */
} joiner;

static const bpe_merge *find_merge(const joiner *j, uint32_t at)
{
    uint32_t right = j->symbols[at].right;
    if (right == j->end || j->model->n_merges == 0) return NULL;
    const bpe_merge key = {(uint64_t)j->symbols[at].id << 32 | (uint32_t)j->symbols[right].id, 0, 0};
    return bsearch(&key, j->model->merges, j->model->n_merges, sizeof key, order_pairs);
}

static bool comes_before(candidate a, candidate b) { return a.rank != b.rank ? a.rank < b.rank : a.at < b.at; }

static void push(joiner *j, uint32_t at)
{
    const bpe_merge *merge = find_merge(j, at);
    if (!merge) return;
    const candidate new = {merge->rank, at};
    size_t i = j->n_heap++;
    for (; i > 0 && comes_before(new, j->heap[(i - 1) / 2]); i = (i - 1) / 2) j->heap[i] = j->heap[(i - 1) / 2];
    j->heap[i] = new;
}

static candidate pop(joiner *j)
{
    const candidate first = j->heap[0], last = j->heap[--j->n_heap];
    size_t i = 0;
    for (size_t child; (child = 2 * i + 1) < j->n_heap; i = child) {
        if (child + 1 < j->n_heap && comes_before(j->heap[child + 1], j->heap[child])) child++;
        if (!comes_before(j->heap[child], last)) break;
        j->heap[i] = j->heap[child];
    }
    j->heap[i] = last;
    return first;
}

static void join_all(joiner *j)
{
    for (uint32_t at = 0; at < j->end; at++) push(j, at);
    while (j->n_heap > 0) {
        const candidate top = pop(j);
        symbol *s = &j->symbols[top.at];
        const bpe_merge *merge = s->id < 0 ? NULL : find_merge(j, top.at);
        /* A neighbour has changed since: the pair that is there now has its own candidate. */
        if (!merge || merge->rank != top.rank) continue;
        symbol *right = &j->symbols[s->right];
        s->id = merge->id;
        right->id = -1;
        s->right = right->right;
        if (s->right != j->end) j->symbols[s->right].left = top.at;
        if (s->left != j->end) push(j, s->left);
        push(j, top.at);
    }
}

/* Each byte begins at most one candidate, and each of the fewer joins adds at most two. */
static sp_status join_word(const bpe *model, const unsigned char *word, uint32_t size, sp_ids *ids, sp_error *err)
{
    joiner j = {.model = model, .end = size};
    sp_arena arena = {0};
    for (int pass = 0; pass < 2; pass++) {
        j.symbols = sp_arena_take(&arena, size, sizeof *j.symbols);
        j.heap = sp_arena_take(&arena, (size_t)3 * size, sizeof *j.heap);
        if (pass == 0) SP_TRY(sp_arena_commit(&arena, "word", err));
    }
    for (uint32_t i = 0; i < size; i++) j.symbols[i] = (symbol){model->byte_id[word[i]], i ? i - 1 : size, i + 1};
    join_all(&j);
    for (uint32_t i = 0; i != size; i = j.symbols[i].right) sp_ids_add(ids, j.symbols[i].id);
    sp_arena_free(&arena);
    return SP_OK;
}

static sp_status encode_bpe(const void *model, const char *word, size_t size, sp_ids *ids, sp_error *err)
{
    const bpe *b = model;
    const unsigned char *bytes = (const unsigned char *)word;
    if (size > UINT32_MAX / 4)
        return SP_FAIL(err, SP_EARG, "word of %zu bytes, expected fewer; shorten the text", size);
    if (b->ignore_merges) {
        int32_t id = id_of_bytes(b, bytes, size);
        if (id >= 0) {
            sp_ids_add(ids, id);
            return SP_OK;
        }
    }
    for (size_t i = 0; i < size; i++)
        if (b->byte_id[bytes[i]] < 0)
            return SP_FAIL(err, SP_EUNSUPPORTED, "the tokenizer's vocabulary has no token for byte 0x%02X of the text",
                           bytes[i]);
    return join_word(b, bytes, (uint32_t)size, ids, err);
}

const sp_word_model sp_word_model_bpe = {
    .type = "BPE",
    .open = open_bpe,
    .close = close_bpe,
    .vocab = vocab_bpe,
    .find = find_bpe,
    .encode = encode_bpe,
};
