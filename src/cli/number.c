#include "cli/number.h"

#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* strtoll and strtod skip blanks and take words such as inf: only these characters may start and form a number. */
static bool looks_like_number(const char *text, const char *alphabet)
{
    const char *digits = text + (*text == '-');
    return *digits != '\0' && *digits != '-' && *digits != '+' && text[strspn(text, alphabet)] == '\0';
}

bool sp_number_integer(const char *text, int64_t low, int64_t high, int64_t *out)
{
    if (!looks_like_number(text, "0123456789-")) return false;
    char *end;
    errno = 0;
    long long value = strtoll(text, &end, 10);
    if (errno != 0 || *end != '\0' || value < low || value > high) return false;
    *out = value;
    return true;
}

bool sp_number_unsigned(const char *text, uint64_t *out)
{
    if (!looks_like_number(text, "0123456789")) return false;
    char *end;
    errno = 0;
    unsigned long long value = strtoull(text, &end, 10);
    if (errno != 0 || *end != '\0') return false;
    *out = value;
    return true;
}

bool sp_number_real(const char *text, double low, double high, double *out)
{
    if (!looks_like_number(text, "0123456789+-.eE")) return false;
    char *end;
    double value = strtod(text, &end);
    if (end == text || *end != '\0' || !isfinite(value) || value < low || value > high) return false;
    *out = value;
    return true;
}

double sp_number_shortest(float value)
{
    char text[32];
    for (int digits = 1; digits <= 9; digits++) {
        snprintf(text, sizeof text, "%.*g", digits, (double)value);
        if (strtof(text, NULL) == value) break;
    }
    return strtod(text, NULL);
}

json_t *sp_json_seed(uint64_t seed)
{
    if (seed <= INT64_MAX) return json_integer((json_int_t)seed);
    char text[24];
    snprintf(text, sizeof text, "%" PRIu64, seed);
    return json_string(text);
}

bool sp_json_seed_value(const json_t *value, uint64_t *seed)
{
    if (json_is_string(value)) return sp_number_unsigned(json_string_value(value), seed);
    if (!json_is_integer(value) || json_integer_value(value) < 0) return false;
    *seed = (uint64_t)json_integer_value(value);
    return true;
}
