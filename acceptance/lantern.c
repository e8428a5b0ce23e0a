/* LANTERN (Jang et al., arXiv 2410.03355) and LANTERN++ (Park et al., arXiv 2502.06352), docs/rules/lantern.md: as
 * eagle, but the probability of the nearest codes counts for a draft's, within a budget: an additive delta, or
 * lambda - 1 times the draft's own probability. */
#include "acceptance/walk.h"

extern const sp_accept_ops sp_accept_lantern;

/* The order of codes around x: by distance, the smaller code first among equals. */
static bool nearer(const sp_accept_tree *t, int32_t a, int32_t b)
{
    return t->distance[a] < t->distance[b] || (t->distance[a] == t->distance[b] && a < b);
}

/* Restores the heap [n] below a node that may be farther than its children. */
static void sink(const sp_accept_tree *t, size_t node, size_t n)
{
    for (size_t child; (child = 2 * node + 1) < n; node = child) {
        if (child + 1 < n && nearer(t, t->order[child + 1], t->order[child])) child++;
        if (!nearer(t, t->order[child], t->order[node])) return;
        int32_t moved = t->order[node];
        t->order[node] = t->order[child];
        t->order[child] = moved;
    }
}

/* The mass of the m nearest codes, for the largest m up to the limit that keeps within the budget. A code too large for
 * what is left ends the sum, so it is a prefix of the order that moves. */
static double bonus(const sp_accept_tree *t, const float *p, int32_t x)
{
    const sp_accept_window *w = t->window;
    const sp_relaxation *r = w->relaxation;
    double budget = (double)r->near_delta, sum = 0;
    if (r->near_lambda > 0) budget = ((double)r->near_lambda - 1) * (double)p[x];
    /* A draft outside top-k or top-p would be let in on the probability of codes inside. */
    if (r->near == 0 || budget <= 0 || p[x] <= 0) return 0;
    const float *code = r->codes + (size_t)x * r->code_dim;
    size_t n = 0;
    for (int32_t v = 0; (size_t)v < w->n_codes; v++) {
        if (v == x) continue;
        t->distance[v] = sp_code_distance(code, r->codes + (size_t)v * r->code_dim, r->code_dim);
        t->order[n++] = v;
    }
    for (size_t node = n / 2; node-- > 0;) sink(t, node, n);
    for (size_t m = 0; m < r->near && n > 0; m++) {
        double next = sum + (double)p[t->order[0]];
        if (next > budget) break;
        sum = next;
        t->order[0] = t->order[--n];
        sink(t, 0, n);
    }
    return sum;
}

static sp_status walk(const sp_accept_tree *tree, size_t *n_path, int32_t *token, sp_error *err)
{
    return sp_tree_walk(tree, bonus, n_path, token, err);
}

const sp_accept_ops sp_accept_lantern = {
    .name = "lantern",
    .summary = "as eagle, but a guess passes on the probability of the codes nearest to it too",
    .settings = "tree lantern-k lantern-delta lantern-lambda",
    .exactness = SP_RELAXED,
    .drafts = true,
    .walk = walk,
};
