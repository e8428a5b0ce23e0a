#include "decode/pacer.h"

static const size_t ladder[SP_PACER_STEPS] = {1, 2, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128};

/* Old passes count for less: the picture and the machine change. */
static const double FADE = 0.97;

/* Expected tokens of a pass over n rows: one is certain, the k-th comes if the k - 1 before it did. Sizes not yet tried
 * are given the chance of the last step that was. */
static double expected(const sp_pacer *p, size_t n)
{
    double sum = 1, reach = 1, step = 0.8;
    for (size_t k = 2; k <= n; k++) {
        if (p->tested[k] > 0.5) {
            double now = (p->survived[k] + 0.2) / (p->tested[k] + 0.4);
            step = reach > 0 ? now / reach : 0;
            if (step > 1) step = 1;
            reach = now < reach ? now : reach;
        } else {
            reach *= step;
        }
        sum += reach;
    }
    return sum;
}

size_t sp_pacer_window(const sp_pacer *p, size_t limit)
{
    size_t best = 1;
    double best_rate = 0;
    for (size_t i = 0; i < SP_PACER_STEPS; i++) {
        if (ladder[i] > limit) break;
        /* The first size without a time is tried only from below: the last measured one must have been the best. */
        if (p->ms[i] == 0) {
            if (i == 0 || best == ladder[i - 1]) return ladder[i];
            break;
        }
        double rate = expected(p, ladder[i]) / p->ms[i];
        if (rate > best_rate) {
            best_rate = rate;
            best = ladder[i];
        }
    }
    return best;
}

void sp_pacer_record(sp_pacer *p, size_t window, size_t committed, double ms)
{
    for (size_t i = 0; i < SP_PACER_STEPS; i++) {
        if (ladder[i] != window) continue;
        /* A pass is never faster than its work but often slower for other reasons: lean towards the shorter times. */
        if (p->ms[i] == 0) p->ms[i] = ms;
        else p->ms[i] += (ms < p->ms[i] ? 0.3 : 0.05) * (ms - p->ms[i]);
    }
    for (size_t n = 1; n <= window && n <= SP_PACER_REACH; n++) {
        p->tested[n] = FADE * p->tested[n] + 1;
        p->survived[n] = FADE * p->survived[n] + (committed >= n);
    }
}
