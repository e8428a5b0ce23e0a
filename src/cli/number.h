#ifndef SP_NUMBER_H
#define SP_NUMBER_H
/* Numbers as text, read strictly: the whole text, decimal, finite, within the range; no blanks, no hexadecimal. */
#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

bool sp_number_integer(const char *text, int64_t low, int64_t high, int64_t *out);
bool sp_number_unsigned(const char *text, uint64_t *out);
bool sp_number_real(const char *text, double low, double high, double *out);

/* The double of the shortest decimal that reads back as the same float: 0.8f gives 0.8. */
double sp_number_shortest(float value);

/* A seed in JSON: an integer, or a string of decimal digits from 2^63 on, where JSON readers lose digits. */
json_t *sp_json_seed(uint64_t seed);
bool sp_json_seed_value(const json_t *value, uint64_t *seed);

#endif
