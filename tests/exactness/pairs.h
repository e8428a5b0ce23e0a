#ifndef SP_PAIRS_H
#define SP_PAIRS_H
/* The law of the first two tokens that rule gsd gives on the enumerable model with window 2 and uniform starts, as
 * docs/rules/gsd.md derives it, for some groupings of its codes. */
#include "enumerable.h"

enum { V = SP_ENUM_CODES, PAIRS = V * V };

static const float codes[V][2] = {{1, 0}, {0.8f, 0.6f}, {-3, 0.5f}, {0.4f, 1}};
static const int32_t group_of[V] = {0, 1, 0, 1};

typedef struct grouping {
    const char *name;
    sp_relaxation relaxation;
} grouping;

static const grouping groupings[] = {
    {"static pairs", {&codes[0][0], 2, 2, 1, 4, group_of}},
    {"by rank, 3", {&codes[0][0], 2, 3, 1, 5, NULL}},
    {"by rank, 2", {&codes[0][0], 2, 2, 1, 5, NULL}},
    {"by rank, 4, delta", {&codes[0][0], 2, 4, 0.2f, 5, NULL}},
    {"by rank, 4, distance", {&codes[0][0], 2, 4, 1, 0.5f, NULL}},
};

static inline bool in_group(const sp_relaxation *r, const double *p, int32_t draft, int32_t v)
{
    if (v == draft) return true;
    if (r->group_of) return r->group_of[v] == r->group_of[draft];
    int rank[2] = {0, 0};
    for (int32_t o = 0; o < V; o++) {
        rank[0] += p[o] > p[draft] || (p[o] == p[draft] && o < draft);
        rank[1] += p[o] > p[v] || (p[o] == p[v] && o < v);
    }
    int others = (int)r->group_size - 1, below = rank[1] - rank[0];
    double dot = 0, squares[2] = {0, 0};
    for (int i = 0; i < 2; i++) {
        dot += (double)codes[draft][i] * (double)codes[v][i];
        squares[0] += (double)codes[draft][i] * (double)codes[draft][i];
        squares[1] += (double)codes[v][i] * (double)codes[v][i];
    }
    double distance = 2 - 2 * dot / sqrt(squares[0]) / sqrt(squares[1]);
    return below >= -(others / 2) && below <= others - others / 2 &&
           fabs(p[v] - p[draft]) < (double)r->group_delta && distance < (double)r->group_distance;
}

/* Probability that a draft passes. */
static inline double passes(const sp_relaxation *r, const double *p, const double *q, int32_t draft)
{
    double in_p = 0, in_q = 0;
    for (int32_t v = 0; v < V; v++) {
        if (!in_group(r, p, draft, v)) continue;
        in_p += p[v];
        in_q += q[v];
    }
    return fmin(1, in_p / in_q);
}

static inline void residual(const double *p, const double *q, double out[V])
{
    double total = 0;
    for (int v = 0; v < V; v++) total += out[v] = fmax(0, p[v] - q[v]);
    for (int v = 0; v < V; v++) out[v] /= total;
}

/* Law of a token whose draft was drawn from q. */
static inline void one_token(const sp_relaxation *r, const double *p, const double *q, double out[V])
{
    double rest[V], refused = 1;
    residual(p, q, rest);
    for (int v = 0; v < V; v++) refused -= out[v] = q[v] * passes(r, p, q, v);
    for (int v = 0; v < V; v++) out[v] += refused * rest[v];
}

/* Law of the first two tokens with window 2 and uniform starts: with draft d of position 0, the draft of position 1 is
 * drawn from p(. | d); it is final if d passes, and else tested under the token that replaced d. */
static inline void two_tokens(const sp_relaxation *r, const sp_sampling *s, double law[PAIRS])
{
    double first[V], uniform[V], rest[V];
    for (int v = 0; v < V; v++) uniform[v] = 1.0 / V;
    sp_enum_law(NULL, 0, s, first);
    residual(first, uniform, rest);
    for (int i = 0; i < PAIRS; i++) law[i] = 0;
    for (int32_t d = 0; d < V; d++) {
        double after_draft[V], pass = passes(r, first, uniform, d);
        sp_enum_law(&d, 1, s, after_draft);
        for (int v = 0; v < V; v++) law[d * V + v] += pass / V * after_draft[v];
        for (int32_t y = 0; y < V; y++) {
            double after_token[V], out[V];
            sp_enum_law(&y, 1, s, after_token);
            if (y == d) continue; /* rest is 0 wherever a refused draft may be */
            one_token(r, after_token, after_draft, out);
            for (int v = 0; v < V; v++) law[y * V + v] += (1 - pass) / V * rest[y] * out[v];
        }
    }
}

static const sp_relaxation group_of_one = {&codes[0][0], 2, 1, 1, 5, NULL};

/* (X2 - dof) / sqrt(2 dof). */
static inline double chi_square(const double count[PAIRS], const double law[PAIRS], double n)
{
    double x2 = 0;
    for (int i = 0; i < PAIRS; i++) x2 += (count[i] - law[i] * n) * (count[i] - law[i] * n) / (law[i] * n);
    return (x2 - (PAIRS - 1)) / sqrt(2 * (PAIRS - 1));
}

#endif
