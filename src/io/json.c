#include "io/json.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"

sp_status sp_json_parse(json_t **out, const char *name, const char *text, size_t size, sp_error *err)
{
    json_error_t error;
    *out = json_loadb(text, size, JSON_REJECT_DUPLICATES | JSON_DECODE_ANY, &error);
    if (*out) return SP_OK;
    /* Where jansson finds no memory it mostly returns without a word. */
    if (json_error_code(&error) == json_error_out_of_memory || error.text[0] == '\0')
        return SP_FAIL(err, SP_ENOMEM, "%s: no memory for its JSON", name);
    return SP_FAIL(err, SP_EFORMAT, "%s:%d:%d: not valid JSON: %s", name, error.line, error.column, error.text);
}

sp_status sp_json_load(json_t **out, const char *path, size_t limit, sp_error *err)
{
    *out = NULL;
    sp_bytes bytes;
    SP_TRY(sp_file_read(path, limit, &bytes, err));
    sp_status status = sp_json_parse(out, path, (const char *)bytes.data, bytes.size, err);
    sp_bytes_free(&bytes);
    return status;
}

static const json_t *element(const json_t *list, const char *key)
{
    char *end;
    unsigned long index = strtoul(key, &end, 10);
    return key[0] >= '0' && key[0] <= '9' && *end == 0 ? json_array_get(list, index) : NULL;
}

json_t *sp_json_at(const json_t *root, const char *path)
{
    const json_t *value = root;
    char key[128];
    while (value && *path) {
        size_t length = strcspn(path, ".");
        if (length >= sizeof key) return NULL;
        memcpy(key, path, length);
        key[length] = 0;
        value = json_is_array(value) ? element(value, key) : json_object_get(value, key);
        path += length + (path[length] == '.');
    }
    return (json_t *)(uintptr_t)value; /* jansson's getters take const and give what is theirs to change */
}

/* What a message says was found. */
static const char *kind_name(const json_t *value)
{
    if (!value) return "absent";
    switch (json_typeof(value)) {
    case JSON_OBJECT: return "an object";
    case JSON_ARRAY: return "an array";
    case JSON_STRING: return "a string";
    case JSON_INTEGER: return "an integer";
    case JSON_REAL: return "a fraction";
    case JSON_TRUE: return "true";
    case JSON_FALSE: return "false";
    case JSON_NULL: return "null";
    }
    return "unknown";
}

static bool is_absent(const json_t *value) { return !value || json_is_null(value); }

sp_status sp_json_size(const json_t *root, const char *file, const char *path, size_t low, size_t high, size_t *out,
                       sp_error *err)
{
    const json_t *value = sp_json_at(root, path);
    if (!json_is_integer(value))
        return SP_FAIL(err, SP_EFORMAT, "%s: '%s' is %s, expected an integer of %zu to %zu", file, path,
                       kind_name(value), low, high);
    json_int_t integer = json_integer_value(value);
    if (integer < 0 || (uintmax_t)integer < low || (uintmax_t)integer > high)
        return SP_FAIL(err, SP_EFORMAT, "%s: '%s' is %lld, expected %zu to %zu", file, path, (long long)integer, low,
                       high);
    *out = (size_t)integer;
    return SP_OK;
}

sp_status sp_json_size_or(const json_t *root, const char *file, const char *path, size_t low, size_t high,
                          size_t fallback, size_t *out, sp_error *err)
{
    *out = fallback;
    if (is_absent(sp_json_at(root, path))) return SP_OK;
    return sp_json_size(root, file, path, low, high, out, err);
}

sp_status sp_json_real_or(const json_t *root, const char *file, const char *path, double low, double high,
                          double fallback, double *out, sp_error *err)
{
    const json_t *value = sp_json_at(root, path);
    *out = fallback;
    if (is_absent(value)) return SP_OK;
    if (!json_is_number(value))
        return SP_FAIL(err, SP_EFORMAT, "%s: '%s' is %s, expected a number of %g to %g", file, path, kind_name(value),
                       low, high);
    double real = json_number_value(value);
    if (!(real >= low && real <= high))
        return SP_FAIL(err, SP_EFORMAT, "%s: '%s' is %g, expected %g to %g", file, path, real, low, high);
    *out = real;
    return SP_OK;
}

sp_status sp_json_bool_or(const json_t *root, const char *file, const char *path, bool fallback, bool *out,
                          sp_error *err)
{
    const json_t *value = sp_json_at(root, path);
    *out = fallback;
    if (is_absent(value)) return SP_OK;
    if (!json_is_boolean(value))
        return SP_FAIL(err, SP_EFORMAT, "%s: '%s' is %s, expected true or false", file, path, kind_name(value));
    *out = json_is_true(value);
    return SP_OK;
}

/* "a, b, c" as far as it fits. */
static void join_names(char *out, size_t room, const char *const *names)
{
    size_t used = 0;
    out[0] = 0;
    for (size_t i = 0; names[i] && used + strlen(names[i]) + 3 < room; i++) {
        size_t length = strlen(names[i]);
        if (i) {
            memcpy(out + used, ", ", 2);
            used += 2;
        }
        memcpy(out + used, names[i], length + 1);
        used += length;
    }
}

sp_status sp_json_choice(const json_t *root, const char *file, const char *path, const char *const *names, int fallback,
                         int *out, sp_error *err)
{
    const json_t *value = sp_json_at(root, path);
    if (is_absent(value) && fallback >= 0) {
        *out = fallback;
        return SP_OK;
    }
    const char *text = json_string_value(value);
    for (int i = 0; text && names[i]; i++) {
        if (strcmp(text, names[i]) == 0) {
            *out = i;
            return SP_OK;
        }
    }
    char choices[256];
    join_names(choices, sizeof choices, names);
    return SP_FAIL(err, SP_EFORMAT, "%s: '%s' is %s%.100s%s, expected one of %s", file, path,
                   text ? "'" : kind_name(value), text ? text : "", text ? "'" : "", choices);
}
