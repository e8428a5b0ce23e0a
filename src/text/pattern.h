#ifndef SP_PATTERN_H
#define SP_PATTERN_H
/* The patterns of a tokenizer.json: {"Regex": ...} in the syntax of Oniguruma, or {"String": ...} taken literally.
 * PCRE2 does the matching. What the two engines read differently (\w, \b, \h, nested sets and the like) is refused by
 * name; \s is spelled out, because they disagree about U+180E.
 *
 *     sp_pattern *pattern;
 *     SP_TRY(sp_pattern_open(&pattern, "tokenizer.json", json_object_get(component, "pattern"), err));
 *     sp_matcher matcher;
 *     SP_TRY(sp_matcher_open(&matcher, size, err));
 *     sp_span match = {0};
 *     while (sp_pattern_find(pattern, &matcher, text, size, match.end, &match, err) == SP_OK && match.begin < size) ...
 *     sp_matcher_close(&matcher);  */
#include <jansson.h>

#include "base/error.h"

typedef struct sp_pattern sp_pattern; /* read-only, shared by threads */

SP_CHECK sp_status sp_pattern_open(sp_pattern **out, const char *file, const json_t *pattern, sp_error *err);
SP_CHECK sp_status sp_pattern_regex(sp_pattern **out, const char *file, const char *regex, sp_error *err);
void sp_pattern_close(sp_pattern *pattern);

/* Scratch of one thread. The steps of a search are limited in proportion to the longest text, so that no pattern can
 * run for an exponential time. */
typedef struct sp_matcher {
    void *data, *context; /* owned */
} sp_matcher;

SP_CHECK sp_status sp_matcher_open(sp_matcher *matcher, size_t longest, sp_error *err);
void sp_matcher_close(sp_matcher *matcher);

typedef struct sp_span {
    size_t begin, end;
} sp_span;

/* First match in text [size], valid UTF-8, at or after from; begin = end = size if there is none. A match is never
 * empty. SP_EARG when the limit of steps is reached. */
SP_CHECK sp_status sp_pattern_find(const sp_pattern *pattern, sp_matcher *matcher, const char *text, size_t size,
                                   size_t from, sp_span *match, sp_error *err);

#endif
