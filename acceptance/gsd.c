/* Grouped speculative decoding (So et al., arXiv 2508.07747; docs/rules/gsd.md): a draft passes by the probabilities of
 * a group of tokens around it, P / Q instead of p / q. */
#include "acceptance/verify.h"

extern const sp_accept_ops sp_accept_gsd;

enum { SIDE = SP_MAX_GROUP / 2, BLOCK = 8 };

/* The codes next to the draft in rank on one side of it, the nearest first. */
typedef struct side {
    int32_t code[SIDE];
    size_t n, limit;
} side;

typedef struct sums {
    double p, q;
} sums;

/* above: the codes of this side outrank the draft, and the nearest is the one that all others of it outrank. */
static void offer(side *s, const float *p, int32_t code, bool above)
{
    size_t at = s->n;
    for (; at > 0; at--) {
        int32_t other = s->code[at - 1];
        if (sp_outranks(p[other], other, p[code], code) != above) break;
        if (at < s->limit) s->code[at] = other;
    }
    if (at >= s->limit) return;
    s->code[at] = code;
    if (s->n < s->limit) s->n++;
}

static void add_side(const sp_accept_window *w, size_t j, const float *p, const side *s, sums *total)
{
    const sp_relaxation *r = w->relaxation;
    int32_t draft = w->drafts[j];
    const float *code = r->codes + (size_t)draft * r->code_dim;
    for (size_t i = 0; i < s->n; i++) {
        int32_t v = s->code[i];
        float distance = sp_code_distance(code, r->codes + (size_t)v * r->code_dim, r->code_dim);
        if (!sp_group_admits(p[v], p[draft], r->group_delta, distance, r->group_distance)) continue;
        total->p += (double)p[v];
        total->q += (double)sp_law_at(w->rows[j].law, draft, w->n_codes, v);
    }
}

/* The farthest probability that a side still takes. */
static float limit_of(const side *s, const float *p, float none, float nearest)
{
    if (s->limit == 0) return nearest;
    return s->n < s->limit ? none : p[s->code[s->limit - 1]];
}

/* Whether one of n probabilities is within limits: a loop without branches, many codes at a time. */
static bool any_within(const float *p, size_t n, float low, float high)
{
    int any = 0;
    for (size_t i = 0; i < n; i++) any |= (p[i] > 0) & (p[i] >= low) & (p[i] <= high);
    return any;
}

/* group_size codes in rank, the draft among them, of which more lie below it when there are an odd number of others. */
static void add_neighbours(const sp_accept_window *w, size_t j, const float *p, sums *total)
{
    size_t size = w->relaxation->group_size;
    int32_t draft = w->drafts[j];
    side above, below;
    above.n = below.n = 0;
    above.limit = (size - 1) / 2;
    below.limit = size / 2;
    for (size_t start = 0; start < w->n_codes; start += BLOCK) {
        size_t end = start + BLOCK < w->n_codes ? start + BLOCK : w->n_codes;
        float low = limit_of(&below, p, 0, p[draft]), high = limit_of(&above, p, INFINITY, p[draft]);
        if (!any_within(p + start, end - start, low, high)) continue;
        for (int32_t v = (int32_t)start; (size_t)v < end; v++) {
            if (v == draft || p[v] <= 0) continue;
            bool outranks = sp_outranks(p[v], v, p[draft], draft);
            offer(outranks ? &above : &below, p, v, outranks);
        }
    }
    add_side(w, j, p, &above, total);
    add_side(w, j, p, &below, total);
}

static void add_group(const sp_accept_window *w, size_t j, const float *p, sums *total)
{
    const int32_t *group_of = w->relaxation->group_of;
    int32_t draft = w->drafts[j];
    for (int32_t v = 0; (size_t)v < w->n_codes; v++) {
        if (v == draft || group_of[v] != group_of[draft]) continue;
        total->p += (double)p[v];
        total->q += (double)sp_law_at(w->rows[j].law, draft, w->n_codes, v);
    }
}

static bool group_test(const sp_accept_window *w, size_t j, const float *p)
{
    const sp_law *law = w->rows[j].law;
    int32_t draft = w->drafts[j];
    sums one = {(double)p[draft], (double)sp_law_at(law, draft, w->n_codes, draft)}, total = one;
    /* A draft that was certain would be let in on the probability of tokens that could not have been drafted, and one
     * outside top-k or top-p on that of tokens inside. */
    if (law->kind != SP_LAW_POINT && p[draft] > 0 && w->relaxation->group_size > 1) {
        if (w->relaxation->group_of) add_group(w, j, p, &total);
        else add_neighbours(w, j, p, &total);
    }
    *w->deviation += fabs(sp_ratio(total.p, total.q) - sp_ratio(one.p, one.q));
    return sp_ratio_passes(sp_row_uniform(w, SP_DRAW_ACCEPT, j), total.p, total.q);
}

static sp_status accept(const sp_accept_window *w, size_t *n_final, sp_error *err)
{
    return sp_verify_rows(w, group_test, SP_AFTER_REDRAW, n_final, err);
}

const sp_accept_ops sp_accept_gsd = {
    .name = "gsd",
    .summary = "as sjd, but a draft passes by the probability of a group of similar tokens",
    .settings = "groups group-size group-delta group-distance",
    .exactness = SP_RELAXED,
    .drafts = true,
    .records = true,
    .accept = accept,
};
