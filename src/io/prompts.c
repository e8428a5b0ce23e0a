#include "io/prompts.h"

#include <float.h>
#include <jansson.h>
#include <limits.h>
#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/arena.h"
#include "base/file.h"
#include "base/utf8.h"
#include "io/buffer.h"

enum { ID_LIMIT = 100, IMAGES_LIMIT = 1000000 };

/* Failures of a line go to its own sp_error and become the item's text, except SP_ENOMEM. */
typedef sp_status read_field(sp_prompt *prompt, const char *key, const json_t *value, sp_error *err);

static sp_status copy_string(char **out, const char *text, size_t size, sp_error *err)
{
    *out = sp_alloc(size + 1, 1);
    if (!*out) return SP_FAIL(err, SP_ENOMEM, "no memory for a prompt");
    memcpy(*out, text, size);
    return SP_OK;
}

static sp_status read_string(char **out, const char *key, const json_t *value, sp_error *err)
{
    if (!json_is_string(value) || json_string_length(value) == 0)
        return SP_FAIL(err, SP_EFORMAT, "'%s' is not a string of at least one character", key);
    return copy_string(out, json_string_value(value), json_string_length(value), err);
}

static sp_status read_integer(const char *key, const json_t *value, json_int_t low, json_int_t high, json_int_t *out,
                              sp_error *err)
{
    *out = json_integer_value(value);
    if (!json_is_integer(value) || *out < low || *out > high)
        return SP_FAIL(err, SP_EFORMAT, "'%s' is not an integer of %lld to %lld", key, (long long)low, (long long)high);
    return SP_OK;
}

static sp_status read_real(const char *key, const json_t *value, float *out, sp_error *err)
{
    double real = json_number_value(value);
    if (!json_is_number(value) || !(fabs(real) <= (double)FLT_MAX))
        return SP_FAIL(err, SP_EFORMAT, "'%s' is not a finite number", key);
    *out = (float)real;
    return SP_OK;
}

static sp_status read_id(sp_prompt *prompt, const char *key, const json_t *value, sp_error *err)
{
    static const char safe[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-";
    const char *id = json_string_value(value);
    size_t length = json_string_length(value);
    if (!id || length == 0 || length > ID_LIMIT || id[0] == '.' || strspn(id, safe) != length)
        return SP_FAIL(err, SP_EFORMAT,
                       "'%s' is not a file name of 1 to %d characters A-Z a-z 0-9 . _ - that does not start with '.'",
                       key, ID_LIMIT);
    return copy_string(&prompt->id, id, length, err);
}

static sp_status read_prompt(sp_prompt *prompt, const char *key, const json_t *value, sp_error *err)
{
    return read_string(&prompt->prompt, key, value, err);
}

static sp_status read_method(sp_prompt *prompt, const char *key, const json_t *value, sp_error *err)
{
    return read_string(&prompt->method, key, value, err);
}

static sp_status read_draft_init(sp_prompt *prompt, const char *key, const json_t *value, sp_error *err)
{
    return read_string(&prompt->draft_init, key, value, err);
}

/* JSON integers end at 2^63 - 1 here; the upper half of the seeds is written as a string. */
static sp_status read_seed(sp_prompt *prompt, const char *key, const json_t *value, sp_error *err)
{
    prompt->has |= SP_PROMPT_SEED;
    const char *text = json_string_value(value);
    if (!text) {
        json_int_t seed;
        SP_TRY(read_integer(key, value, 0, LLONG_MAX, &seed, err));
        prompt->seed = (uint64_t)seed;
        return SP_OK;
    }
    bool good = *text != 0;
    for (; good && *text; text++) {
        unsigned digit = (unsigned)(*text - '0');
        good = digit < 10 && prompt->seed <= (UINT64_MAX - digit) / 10;
        prompt->seed = prompt->seed * 10 + digit;
    }
    if (good) return SP_OK;
    return SP_FAIL(err, SP_EFORMAT, "'%s' is not a decimal number of 0 to %llu", key, (unsigned long long)UINT64_MAX);
}

static sp_status read_n(sp_prompt *prompt, const char *key, const json_t *value, sp_error *err)
{
    prompt->has |= SP_PROMPT_N;
    json_int_t n = 0;
    SP_TRY(read_integer(key, value, 1, IMAGES_LIMIT, &n, err));
    prompt->n = (uint32_t)n;
    return SP_OK;
}

static sp_status read_window(sp_prompt *prompt, const char *key, const json_t *value, sp_error *err)
{
    prompt->has |= SP_PROMPT_WINDOW;
    json_int_t window = 0;
    if (json_is_string(value) && strcmp(json_string_value(value), "auto") == 0) return SP_OK;
    SP_TRY(read_integer(key, value, 1, INT_MAX, &window, err));
    prompt->window = (int)window;
    return SP_OK;
}

static sp_status read_cfg_scale(sp_prompt *prompt, const char *key, const json_t *value, sp_error *err)
{
    prompt->has |= SP_PROMPT_CFG_SCALE;
    return read_real(key, value, &prompt->cfg_scale, err);
}

static sp_status read_temperature(sp_prompt *prompt, const char *key, const json_t *value, sp_error *err)
{
    prompt->has |= SP_PROMPT_TEMPERATURE;
    return read_real(key, value, &prompt->temperature, err);
}

static sp_status read_top_k(sp_prompt *prompt, const char *key, const json_t *value, sp_error *err)
{
    prompt->has |= SP_PROMPT_TOP_K;
    json_int_t top_k = 0;
    SP_TRY(read_integer(key, value, 0, INT_MAX, &top_k, err));
    prompt->top_k = (int)top_k;
    return SP_OK;
}

static sp_status read_top_p(sp_prompt *prompt, const char *key, const json_t *value, sp_error *err)
{
    prompt->has |= SP_PROMPT_TOP_P;
    return read_real(key, value, &prompt->top_p, err);
}

static const struct {
    const char *key;
    read_field *read;
} fields[] = {
    {"id", read_id},
    {"prompt", read_prompt},
    {"seed", read_seed},
    {"n", read_n},
    {"method", read_method},
    {"window", read_window},
    {"cfg_scale", read_cfg_scale},
    {"temperature", read_temperature},
    {"top_k", read_top_k},
    {"top_p", read_top_p},
    {"draft_init", read_draft_init},
};
enum { N_FIELDS = sizeof fields / sizeof fields[0] };

static sp_status read_object(sp_prompt *prompt, const json_t *object, sp_error *err)
{
    const char *key;
    json_t *value;
    json_object_foreach((json_t *)(uintptr_t)object, key, value) {
        size_t i = 0;
        while (i < N_FIELDS && strcmp(fields[i].key, key) != 0) i++;
        if (i == N_FIELDS)
            return SP_FAIL(err, SP_EFORMAT,
                           "unknown key '%.60s', expected id, prompt, seed, n, method, window, cfg_scale, temperature, "
                           "top_k, top_p or draft_init",
                           key);
        if (!json_is_null(value)) SP_TRY(fields[i].read(prompt, key, value, err));
    }
    if (!prompt->prompt) return SP_FAIL(err, SP_EFORMAT, "has no 'prompt'");
    return SP_OK;
}

static sp_status read_json(sp_prompt *prompt, const char *line, size_t size, bool torn, sp_error *err)
{
    json_error_t error;
    json_t *object = json_loadb(line, size, JSON_REJECT_DUPLICATES | JSON_DECODE_ANY, &error);
    sp_status status;
    if (object)
        status = json_is_object(object) ? read_object(prompt, object, err)
                                        : SP_FAIL(err, SP_EFORMAT, "is not a JSON object; expected {\"prompt\": ...}");
    else if (json_error_code(&error) == json_error_out_of_memory)
        status = SP_FAIL(err, SP_ENOMEM, "no memory for a prompt");
    else
        status = SP_FAIL(err, SP_EFORMAT, "column %d: not valid JSON: %s%s", error.column, error.text,
                         torn ? "; the line has no end, is the file cut?" : "");
    json_decref(object);
    return status;
}

static sp_status read_line(sp_prompt *prompt, const char *line, size_t size, bool jsonl, bool torn, sp_error *err)
{
    if (size > SP_PROMPT_LINE_LIMIT)
        return SP_FAIL(err, SP_EFORMAT, "has %zu bytes, expected at most %d", size, SP_PROMPT_LINE_LIMIT);
    if (memchr(line, 0, size)) return SP_FAIL(err, SP_EFORMAT, "has a zero byte, expected text");
    size_t bad = sp_utf8_invalid(line, size);
    if (bad < size) return SP_FAIL(err, SP_EFORMAT, "byte %zu is not UTF-8", bad + 1);
    if (jsonl)
        SP_TRY(read_json(prompt, line, size, torn, err));
    else
        SP_TRY(copy_string(&prompt->prompt, line, size, err));
    if (prompt->id) return SP_OK;
    char id[32];
    return copy_string(&prompt->id, id, (size_t)snprintf(id, sizeof id, "%06zu", prompt->line), err);
}

static void free_prompt(sp_prompt *prompt)
{
    sp_release(prompt->error);
    sp_release(prompt->id);
    sp_release(prompt->prompt);
    sp_release(prompt->method);
    sp_release(prompt->draft_init);
}

/* Leaves only line and error. */
static sp_status spoil(sp_prompt *prompt, const char *why, sp_error *err)
{
    char *text;
    SP_TRY(copy_string(&text, why, strlen(why), err));
    free_prompt(prompt);
    *prompt = (sp_prompt){.line = prompt->line, .error = text};
    return SP_OK;
}

static int order_by_id(const void *a, const void *b)
{
    const sp_prompt *x = *(const sp_prompt *const *)a, *y = *(const sp_prompt *const *)b;
    int order = strcmp(x->id, y->id);
    return order ? order : (x->line > y->line) - (x->line < y->line);
}

/* The first line with an id keeps it. */
static sp_status refuse_duplicates(sp_prompts *prompts, sp_error *err)
{
    sp_prompt **sorted = sp_alloc(prompts->count, sizeof *sorted);
    if (!sorted) return SP_FAIL(err, SP_ENOMEM, "no memory for %zu prompts", prompts->count);
    size_t n = 0;
    for (size_t i = 0; i < prompts->count; i++)
        if (!prompts->items[i].error) sorted[n++] = &prompts->items[i];
    qsort(sorted, n, sizeof *sorted, order_by_id);
    sp_status status = SP_OK;
    for (size_t i = 1, first = 0; status == SP_OK && i < n; i++) {
        if (strcmp(sorted[first]->id, sorted[i]->id) != 0) {
            first = i;
            continue;
        }
        char why[ID_LIMIT + 80];
        snprintf(why, sizeof why, "id '%s' is already that of line %zu", sorted[i]->id, sorted[first]->line);
        status = spoil(sorted[i], why, err);
    }
    sp_release(sorted);
    return status;
}

static bool ends_with(const char *text, const char *end)
{
    size_t length = strlen(text), n = strlen(end);
    return length >= n && strcmp(text + length - n, end) == 0;
}

static bool is_space(char c) { return c == ' ' || (c >= '\t' && c <= '\r'); }

static bool is_jsonl(const char *name, const char *text, size_t size)
{
    if (ends_with(name, ".jsonl")) return true;
    if (ends_with(name, ".txt")) return false;
    size_t i = 0;
    while (i < size && is_space(text[i])) i++;
    return i < size && text[i] == '{';
}

static bool is_blank(const char *line, size_t size)
{
    for (size_t i = 0; i < size; i++)
        if (!is_space(line[i])) return false;
    return true;
}

static sp_status add_line(sp_buffer *items, size_t number, const char *line, size_t size, bool jsonl, bool torn,
                          sp_error *err)
{
    sp_prompt prompt = {.line = number};
    sp_error reason = {0};
    sp_status status = read_line(&prompt, line, size, jsonl, torn, &reason);
    if (status != SP_OK && status != SP_ENOMEM) status = spoil(&prompt, reason.message, &reason);
    if (status == SP_OK && !sp_buffer_append(items, &prompt, sizeof prompt))
        status = SP_FAIL(&reason, SP_ENOMEM, "no memory for a prompt");
    if (status == SP_OK) return SP_OK;
    free_prompt(&prompt);
    return SP_FAIL(err, SP_ENOMEM, "no memory for the prompt of line %zu", number);
}

sp_status sp_prompts_parse(sp_prompts *out, const char *name, const char *text, size_t size, sp_error *err)
{
    static const char mark[] = "\xEF\xBB\xBF";
    *out = (sp_prompts){0};
    const char *end = text + size;
    if (size >= 3 && memcmp(text, mark, 3) == 0) text += 3;
    bool jsonl = is_jsonl(name, text, (size_t)(end - text));
    sp_buffer items = {0};
    sp_status status = SP_OK;
    for (size_t number = 1; status == SP_OK && text < end; number++) {
        const char *newline = memchr(text, '\n', (size_t)(end - text));
        size_t length = (size_t)((newline ? newline : end) - text);
        const char *line = text;
        text += length + (newline != NULL);
        if (length > 0 && line[length - 1] == '\r') length--;
        if (!is_blank(line, length)) status = add_line(&items, number, line, length, jsonl, !newline, err);
    }
    /* A buffer's memory is aligned for any object. */
    *out = (sp_prompts){items.size / sizeof(sp_prompt), (sp_prompt *)(void *)items.data};
    if (status == SP_OK) status = refuse_duplicates(out, err);
    if (status != SP_OK) sp_prompts_free(out);
    return status;
}

sp_status sp_prompts_read(sp_prompts *out, const char *path, sp_error *err)
{
    *out = (sp_prompts){0};
    sp_bytes bytes;
    SP_TRY(sp_file_read(path, SP_PROMPT_FILE_LIMIT, &bytes, err));
    sp_status status = sp_prompts_parse(out, path, (const char *)bytes.data, bytes.size, err);
    sp_bytes_free(&bytes);
    return status;
}

void sp_prompts_free(sp_prompts *prompts)
{
    for (size_t i = 0; i < prompts->count; i++) free_prompt(&prompts->items[i]);
    sp_release(prompts->items);
    *prompts = (sp_prompts){0};
}
