#include "cli/nearest.h"

#include <string.h>

enum { LONGEST = 63 };

static size_t smaller(size_t a, size_t b) { return a < b ? a : b; }

void sp_nearest_offer(sp_nearest *nearest, const char *name)
{
    size_t n = smaller(strlen(name), LONGEST), m = smaller(strlen(nearest->word), LONGEST);
    size_t row[LONGEST + 1];
    for (size_t j = 0; j <= n; j++) row[j] = j;
    for (size_t i = 1; i <= m; i++) {
        size_t diagonal = row[0];
        row[0] = i;
        for (size_t j = 1; j <= n; j++) {
            size_t substituted = diagonal + (nearest->word[i - 1] != name[j - 1]);
            diagonal = row[j];
            row[j] = smaller(substituted, smaller(row[j], row[j - 1]) + 1);
        }
    }
    if (row[n] >= nearest->distance) return;
    nearest->distance = row[n];
    nearest->best = name;
}
