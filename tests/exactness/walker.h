#ifndef SP_WALKER_H
#define SP_WALKER_H
/* For the tests of rules over trees: a drafting model over the enumerable model, the closed form of the law that a walk
 * gives to every sequence, and a walk that can be told to go wrong. */
#include "enumerable.h"

#include "acceptance/verify.h"

enum { V = SP_ENUM_CODES, N = SP_ENUM_POSITIONS, CODE_DIM = 2 };

/* Codes of different lengths: their order by distance is another when they are not scaled to length 1. */
static const float sp_enum_codes[V * CODE_DIM] = {1, 0, 4, 1.4f, 0.2f, 0.1f, -1, 2};

typedef struct sp_enum_drafter {
    int32_t history[N + 1], node_id[SP_ENUM_WINDOW], node_parent[SP_ENUM_WINDOW];
    size_t n;         /* final tokens */
    size_t misplaced; /* tokens that came with the feature of another position */
    bool guided;
} sp_enum_drafter;

/* A guess at the target's logit: half of it, half something else. */
static inline float sp_enum_guess(const int32_t *tokens, size_t n, int32_t code, uint32_t stream)
{
    return 0.5f * sp_enum_logit(tokens, n, code, stream) + 0.7f * sp_enum_logit(tokens, n, code, 2 + stream);
}

static inline void sp_enum_guesses(const sp_enum_drafter *d, const int32_t *tokens, size_t n, size_t row, size_t rows,
                                   float *logits)
{
    for (uint32_t stream = 0; stream < (d->guided ? 2u : 1u); stream++)
        for (int32_t code = 0; code < V; code++)
            logits[(stream * rows + row) * V + (size_t)code] = sp_enum_guess(tokens, n, code, stream);
}

static inline sp_status sp_enum_draft_begin(void *state, const float *features, bool guided, sp_error *err)
{
    sp_enum_drafter *d = state;
    (void)features, (void)err;
    *d = (sp_enum_drafter){.guided = guided, .misplaced = d->misplaced};
    return SP_OK;
}

static inline sp_status sp_enum_draft_extend(void *state, size_t first, const int32_t *ids,
                                             const float *const *features, size_t n, float *logits, sp_error *err)
{
    sp_enum_drafter *d = state;
    (void)err;
    assert_int_equal(first, d->n);
    for (size_t i = 0; i < n; i++) d->history[d->n++] = ids[i];
    for (uint32_t stream = 0; stream < (d->guided ? 2u : 1u); stream++)
        for (size_t i = 0; i < n; i++)
            d->misplaced += *features[stream * n + i] != sp_enum_feature(d->history, first + i, stream);
    sp_enum_guesses(d, d->history, d->n, 0, 1, logits);
    return SP_OK;
}

static inline sp_status sp_enum_draft_grow(void *state, const sp_draft_node *nodes, size_t n, float *logits,
                                           sp_error *err)
{
    sp_enum_drafter *d = state;
    (void)err;
    for (size_t j = 0; j < n; j++) {
        int32_t tokens[N + 1];
        size_t depth = 0;
        d->node_id[nodes[j].node] = nodes[j].id;
        d->node_parent[nodes[j].node] = nodes[j].parent;
        for (int32_t at = nodes[j].node; at > 0; at = d->node_parent[at]) depth++;
        assert_true(d->n + depth < N);
        memcpy(tokens, d->history, d->n * sizeof *tokens);
        size_t end = d->n + depth;
        for (int32_t at = nodes[j].node; at > 0; at = d->node_parent[at]) tokens[--end] = d->node_id[at];
        sp_enum_guesses(d, tokens, d->n + depth, j, n, logits);
    }
    return SP_OK;
}

static inline sp_draft_model sp_enum_draft_model(sp_enum_drafter *state)
{
    static const sp_draft_model_ops ops = {sp_enum_draft_begin, sp_enum_draft_extend, sp_enum_draft_grow};
    return (sp_draft_model){&ops, state, NULL};
}

/* The probability that neighbours add to x under p: the definition of docs/rules/lantern.md, by sorting. */
static inline double sp_enum_bonus(const sp_relaxation *r, const double *p, int x)
{
    double budget = r->near_lambda > 0 ? ((double)r->near_lambda - 1) * p[x] : (double)r->near_delta, sum = 0;
    int order[V], n = 0;
    if (p[x] <= 0) return 0;
    for (int v = 0; v < V; v++)
        if (v != x) order[n++] = v;
    for (int i = 0; i < n; i++)
        for (int j = i + 1; j < n; j++) {
            double cosine[2];
            for (int side = 0; side < 2; side++) {
                const float *a = sp_enum_codes + x * CODE_DIM, *b = sp_enum_codes + order[side ? j : i] * CODE_DIM;
                cosine[side] = (double)(a[0] * b[0] + a[1] * b[1]) / sqrt((double)(b[0] * b[0] + b[1] * b[1]));
            }
            if (cosine[1] <= cosine[0]) continue;
            int keep = order[i];
            order[i] = order[j];
            order[j] = keep;
        }
    for (int m = 0; m < n && (size_t)m < r->near; m++) {
        if (sum + p[order[m]] > budget) break;
        sum += p[order[m]];
    }
    return sum;
}

/* What a walk can do at one row: child r passes with token x, or the token x is drawn; and the expected excess of
 * relaxed over exact passing. */
typedef struct sp_enum_step {
    double passes[V][V], drawn[V], excess;
} sp_enum_step;

static inline void sp_enum_descend(const sp_relaxation *r, const double *p, const double *q, int rank, int children,
                                   double reached, sp_enum_step *out)
{
    double left = 0;
    for (int v = 0; v < V; v++) left += q[v];
    if (rank == children || rank == V || left <= 0) {
        for (int v = 0; v < V; v++) out->drawn[v] += reached * p[v];
        return;
    }
    for (int x = 0; x < V; x++) {
        if (q[x] <= 0) continue;
        double own = q[x] / left, exact = fmin(1, p[x] / own);
        double pass = r ? fmin(1, (p[x] + sp_enum_bonus(r, p, x)) / own) : exact;
        out->passes[rank][x] += reached * own * pass;
        out->excess += reached * own * (pass - exact);
        if (pass >= 1) continue;
        double next[V], rest[V], total = 0;
        for (int v = 0; v < V; v++) total += next[v] = fmax(0, p[v] - q[v] / left);
        for (int v = 0; v < V; v++) next[v] = total > 0 ? next[v] / total : p[v];
        for (int v = 0; v < V; v++) rest[v] = v == x ? 0 : q[v];
        sp_enum_descend(r, next, rest, rank + 1, children, reached * own * (1 - pass), out);
    }
}

/* Softmax of the drafter's scores within the sampling sets: the same definition as the target's. */
static inline void sp_enum_guess_law(const int32_t *tokens, size_t n, const sp_sampling *s, double law[V])
{
    double score[V];
    for (int32_t v = 0; v < V; v++) {
        double c = (double)sp_enum_guess(tokens, n, v, 0), u = (double)sp_enum_guess(tokens, n, v, 1);
        score[v] = (u + (double)s->cfg_scale * (c - u)) / (double)s->temperature;
    }
    sp_enum_cut(score, s, law);
}

/* The law of the rest of a sequence from a node of the shape at a position on, and the excess expected on the way. */
typedef struct sp_enum_form {
    const sp_sampling *sampling;
    const sp_relaxation *relaxation; /* NULL: exact */
    const sp_tree_shape *shape;
    double *law; /* [SP_ENUM_OUTCOMES] */
    double excess;
    int32_t tokens[N];
} sp_enum_form;

static inline void sp_enum_follow(sp_enum_form *f, size_t position, size_t root, size_t node, double reached)
{
    if (reached <= 0) return;
    if (position == N) {
        f->law[sp_enum_outcome(f->tokens)] += reached;
        return;
    }
    double p[V], q[V];
    sp_enum_step step = {0};
    sp_enum_law(f->tokens, position, f->sampling, p);
    sp_enum_guess_law(f->tokens, position, f->sampling, q);
    /* Nothing is drafted before the first token, nor where a draft would have no law after it. */
    bool barren = root == 0 || position == N - 1;
    sp_enum_descend(f->relaxation, p, q, 0, barren ? 0 : f->shape->children[node], 1, &step);
    f->excess += reached * step.excess;
    size_t child = 0;
    while (child < f->shape->n && (child == 0 || (size_t)f->shape->parent[child] != node)) child++;
    for (int32_t x = 0; x < V; x++) {
        f->tokens[position] = x;
        for (int rank = 0; rank < V; rank++)
            if (step.passes[rank][x] > 0)
                sp_enum_follow(f, position + 1, root, child + (size_t)rank, reached * step.passes[rank][x]);
        sp_enum_follow(f, position + 1, position + 1, 0, reached * step.drawn[x]);
    }
}

#endif
