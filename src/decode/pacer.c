#include "decode/pacer.h"

#include <stdbool.h>

static const size_t ladder[SP_PACER_STEPS] = {1, 2, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128};

/* Tokens a pass that windows of the ladder's sizes got on the sample model (docs/SPEED.md). Only the shape counts: what
 * is beyond 1 is scaled by the gain. A window's later drafts improve while they wait, so what a large window gets
 * cannot be told from the first tokens of small ones. */
static const double typical[SP_PACER_STEPS] = {1, 1.35, 1.75, 2.05, 2.3, 2.8, 3.25, 3.6, 3.75, 3.95, 4.05, 4.1, 4.15};

/* Old passes count for less, since the picture changes. GAIN_WEIGHT tokens of a gain of 1 come before the first,
 * because a picture's first passes, with little to go on, get few. */
static const double FADE = 0.985, GAIN_WEIGHT = 15;

/* Passes grow slower along a picture, as there is more to attend to, and when the machine has other work: most of a
 * surprise is put down to a level that all sizes share, and a pass that was interrupted counts as OUTLIER slower. */
static const double LEVEL_RATE = 0.1, SIZE_RATE = 0.03, OUTLIER = 0.25;

/* Of two sizes as fast as each other the larger is taken: it needs fewer passes. But none that is slower than 1. */
static const double TIE = 0.97;

/* A size is measured by the better of SAMPLES passes, the first of which touches memory for the first time; after
 * that one pass in PROBE looks whether a neighbour of the best size has become better. */
enum { SAMPLES = 2, PROBE = 40 };

/* What a window of size i gets where drafts are as good as they are now. The gain is all that is learned about drafts:
 * what each size got by itself depends on where in a picture it was tried, and misleads. */
static double tokens(const sp_pacer *p, size_t i)
{
    double gain = p->extra_typical > 0 ? p->extra / p->extra_typical : 1;
    double shape = 1 + gain * (typical[i] - 1), most = (double)ladder[i];
    return shape < most ? shape : most;
}

size_t sp_pacer_window(const sp_pacer *p, size_t limit)
{
    size_t best = 0, n_measured = 0;
    double best_rate = 0, plain_rate = 0;
    for (size_t i = 0; i < SP_PACER_STEPS && ladder[i] <= limit; i++, n_measured++) {
        if (p->samples[i] < SAMPLES) {
            /* A larger window takes no less time, so this is the most that it could commit a millisecond. */
            if (i == 0 || tokens(p, i) / p->ms[i - 1] > best_rate) return ladder[i];
            break;
        }
        double rate = tokens(p, i) / p->ms[i];
        if (i == 0) plain_rate = rate;
        if (rate > TIE * best_rate && rate >= plain_rate) best = i;
        if (rate > best_rate) best_rate = rate;
    }
    if (p->passes % (2 * PROBE) == PROBE && best + 1 < n_measured) return ladder[best + 1];
    if (p->passes % (2 * PROBE) == 0 && best > 0) return ladder[best - 1];
    return ladder[best];
}

static void record_time(sp_pacer *p, size_t i, double ms)
{
    if (p->level == 0) p->level = 1;
    double own = ms / p->level;
    if (p->samples[i] < SAMPLES) {
        if (p->samples[i]++ == 0 || own < p->ms[i]) p->ms[i] = own;
        return;
    }
    double surprise = own / p->ms[i] - 1;
    if (surprise > OUTLIER) surprise = OUTLIER;
    p->level *= 1 + LEVEL_RATE * surprise;
    p->ms[i] *= 1 + SIZE_RATE * surprise;
}

void sp_pacer_record(sp_pacer *p, size_t window, double committed, double ms)
{
    size_t i = 0;
    while (i < SP_PACER_STEPS && ladder[i] != window) i++;
    if (i == SP_PACER_STEPS) return;
    p->passes++;
    record_time(p, i, ms);
    /* A window of one says nothing about drafts. In one longer than the last the later drafts are new, and it gets less
     * than it would in the long run. */
    bool tells = window > 1 && window <= p->last;
    p->last = window;
    if (!tells) return;
    if (p->extra_typical == 0) p->extra = p->extra_typical = GAIN_WEIGHT;
    p->extra = FADE * p->extra + committed - 1;
    p->extra_typical = FADE * p->extra_typical + typical[i] - 1;
}
