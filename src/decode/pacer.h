#ifndef SP_PACER_H
#define SP_PACER_H
/* --window auto: the window that commits the most tokens a second, from measured pass times and accepted lengths.
 *
 *     size_t window = sp_pacer_window(pacer, limit);
 *     ... one pass over that many rows took ms and committed n tokens ...
 *     sp_pacer_record(pacer, window, n, ms);
 *
 * Of several pictures that share their passes n is what one committed on average: all have the same time.
 *
 * It keeps a time for each size of a ladder 1, 2, 4, 6, 8, 12, .. 128, and how the tokens that passes commit compare
 * with what windows of their sizes typically get. It climbs the ladder as long as the next size could still be better
 * if it took the time of the one below, and stays at 1 when no window pays.
 *
 * It knows how many tokens became final and how long passes took, and no draft: an exact rule keeps its law under any
 * choice of windows that does not look at drafts (docs/rules/sjd.md). */
#include <stddef.h>

enum { SP_PACER_STEPS = 13 };

typedef struct sp_pacer {
    double ms[SP_PACER_STEPS];        /* at level 1 */
    double level;                     /* how slow passes of every size are now; 0 at first */
    unsigned samples[SP_PACER_STEPS]; /* of ms, up to what makes a measurement */
    size_t passes;
    size_t last;                      /* window of the last pass */
    double extra, extra_typical;      /* tokens beyond one a pass, and what the typical shape has, fading */
} sp_pacer;

size_t sp_pacer_window(const sp_pacer *pacer, size_t limit);
void sp_pacer_record(sp_pacer *pacer, size_t window, double committed, double ms);

#endif
