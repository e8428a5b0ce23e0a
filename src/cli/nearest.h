#ifndef SP_NEAREST_H
#define SP_NEAREST_H
/* The name that a mistyped word was most likely meant to be. Start with {.word = word, .distance = SIZE_MAX}. */
#include <stddef.h>
#include <stdint.h>

typedef struct sp_nearest {
    const char *word;
    const char *best; /* NULL until a name was offered */
    size_t distance;
} sp_nearest;

/* Keeps name if it is nearer (Levenshtein distance; only the first 63 characters count). */
void sp_nearest_offer(sp_nearest *nearest, const char *name);

#endif
