#ifndef SP_JSON_H
#define SP_JSON_H
/* JSON files and typed access by path, on jansson. Every message names the file and the key.
 *
 *     json_t *root;
 *     SP_TRY(sp_json_load(&root, "config.json", SP_JSON_LIMIT, err));
 *     SP_TRY(sp_json_size(root, "config.json", "transformer.dim", 1, 65536, &dim, err));  */
#include <jansson.h>
#include <stdbool.h>

#include "base/error.h"

enum { SP_JSON_LIMIT = 64 << 20 }; /* bytes of a file */

SP_CHECK sp_status sp_json_load(json_t **out, const char *path, size_t limit, sp_error *err);

/* Text [size] of one JSON value; duplicate keys are refused; name is for messages. */
SP_CHECK sp_status sp_json_parse(json_t **out, const char *name, const char *text, size_t size, sp_error *err);

/* The value at a dotted path of keys, each below 128 bytes, or NULL. */
json_t *sp_json_at(const json_t *root, const char *path);

/* Required values; the _or forms take fallback when the key is absent or null. */
SP_CHECK sp_status sp_json_size(const json_t *root, const char *file, const char *path, size_t low, size_t high,
                                size_t *out, sp_error *err);
SP_CHECK sp_status sp_json_size_or(const json_t *root, const char *file, const char *path, size_t low, size_t high,
                                   size_t fallback, size_t *out, sp_error *err);
SP_CHECK sp_status sp_json_real_or(const json_t *root, const char *file, const char *path, double low, double high,
                                   double fallback, double *out, sp_error *err);
SP_CHECK sp_status sp_json_bool_or(const json_t *root, const char *file, const char *path, bool fallback, bool *out,
                                   sp_error *err);

/* One of the names (NULL at the end): *out is its index. fallback < 0 makes the key required. */
SP_CHECK sp_status sp_json_choice(const json_t *root, const char *file, const char *path, const char *const *names,
                                  int fallback, int *out, sp_error *err);

#endif
