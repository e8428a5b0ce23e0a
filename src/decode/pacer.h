#ifndef SP_PACER_H
#define SP_PACER_H
/* --window auto: the window that commits the most tokens a second, from measured pass times and accepted lengths.
 *
 *     size_t window = sp_pacer_window(pacer, limit);
 *     ... one pass over that many rows took ms and committed n tokens ...
 *     sp_pacer_record(pacer, window, n, ms);
 *
 * It keeps a time for each size of a ladder 1, 2, 4, 6, 8, 12, .. 128 and the share of passes that got at least n
 * tokens far, n = 1, 2, ... It climbs the ladder while the next size is predicted or not yet measured to be better, and
 * stays at 1 when no window pays.
 *
 * It knows how many tokens became final and how long passes took, and no draft: an exact rule keeps its law under any
 * choice of windows that does not look at drafts (docs/rules/sjd.md). */
#include <stddef.h>

enum { SP_PACER_STEPS = 13, SP_PACER_REACH = 128 };

typedef struct sp_pacer {
    double ms[SP_PACER_STEPS];           /* 0: not yet measured */
    double tested[SP_PACER_REACH + 1];   /* passes whose window reached n, fading */
    double survived[SP_PACER_REACH + 1]; /* of them, those that committed at least n */
} sp_pacer;

size_t sp_pacer_window(const sp_pacer *pacer, size_t limit);
void sp_pacer_record(sp_pacer *pacer, size_t window, size_t committed, double ms);

#endif
