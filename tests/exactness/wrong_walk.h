#ifndef SP_WRONG_WALK_H
#define SP_WRONG_WALK_H
/* A walk down a tree of drafts, written apart from acceptance/walk.c, that can be told to make one mistake. */
#include "walker.h"

typedef enum {
    RIGHT,
    RESIDUAL_IS_P,        /* the token after a refusal is drawn from p */
    RESIDUAL_IS_POINT,    /* a refusal takes only the draft itself out of p, as if it had been certain */
    UNCONDITIONAL_Q,      /* a later sibling is tested against its probability before the earlier ones were drawn */
    SIBLINGS_IN_Q,        /* the residual takes off q with the earlier siblings still in it */
    ONE_UNIFORM,          /* siblings share one random number */
    INDEPENDENT_SIBLINGS, /* every sibling is tested with the first one's p */
    LONGEST_WINS,         /* siblings are tested apart, and the one whose branch goes farthest is taken */
    SORTED_SIBLINGS,      /* siblings are tested in the order of their codes */
    LAST_RESIDUAL,        /* a residual is used though a sibling after it passed */
    UNCHECKED_BONUS,      /* the token after a whole branch is not the target's */
    BONUS_OF_PARENT,      /* it is drawn from the law of the position before */
    TEMPERATURE_TWICE,    /* temperature is applied to the residual again */
    TOP_P_TWICE,          /* top-p is applied to the residual again */
    STALE_LAW,            /* a draft is tested with the law of its parent's parent */
    RAW_CODES,            /* relaxed: neighbours by the distance of codes that are not scaled */
    SELF_IS_NEAR,         /* relaxed: a code is the first of its own neighbours */
    ONE_MORE_NEAR,        /* relaxed: k + 1 neighbours */
    SKIPS_LARGE,          /* relaxed: a neighbour over the budget is passed over, smaller ones after it count */
    LAMBDA_IS_BUDGET,     /* relaxed: lambda itself is the budget */
    BUDGET_OF_FIRST_P,    /* relaxed: the budget of later siblings is of p before the refusals */
    RESIDUAL_OF_RELAXED,  /* relaxed: the residual is of p with the neighbours' mass on the draft */
    NEAR_OUT_OF_Q,        /* relaxed: after a refusal neighbours are taken out of q */
    NEAR_OUT_OF_P,        /* relaxed: after a refusal neighbours are taken out of p, all k, within the budget or not */
    UNIFORM_FALLBACK      /* relaxed: neighbours are taken out of p, and nothing left means any code */
} mistake;

static mistake made;

typedef struct wrong_stand {
    float p[V], q[V], first_q[V], first_p[V];
} wrong_stand;

static double wrong_uniform(const sp_accept_tree *t, sp_draw_purpose purpose, size_t depth, size_t row)
{
    const sp_accept_window *w = t->window;
    return sp_uniform(w->sampling->seed, w->sampling->image, purpose, (uint32_t)(w->position + depth),
                      w->pass * SP_MAX_WINDOW + (uint32_t)row);
}

static bool normalised(float *x)
{
    double total = 0;
    for (int v = 0; v < V; v++) total += (double)x[v];
    for (int v = 0; v < V && total > 0; v++) x[v] = (float)((double)x[v] / total);
    return total > 0;
}

/* Neighbours of x, nearest first. */
static void wrong_order(int x, int order[V])
{
    int n = 0;
    if (made == SELF_IS_NEAR) order[n++] = x;
    for (int v = 0; v < V; v++)
        if (v != x) order[n++] = v;
    for (int i = made == SELF_IS_NEAR; i < n; i++)
        for (int j = i + 1; j < n; j++) {
            float a[2];
            for (int side = 0; side < 2; side++) {
                const float *c = sp_enum_codes + x * CODE_DIM, *o = sp_enum_codes + order[side ? j : i] * CODE_DIM;
                float product = c[0] * o[0] + c[1] * o[1], length = sqrtf(o[0] * o[0] + o[1] * o[1]);
                float dx = c[0] - o[0], dy = c[1] - o[1];
                a[side] = made == RAW_CODES ? dx * dx + dy * dy : -product / length;
            }
            if (a[1] >= a[0]) continue;
            int keep = order[i];
            order[i] = order[j];
            order[j] = keep;
        }
}

static double wrong_bonus(const sp_accept_tree *t, const wrong_stand *at, int x)
{
    const sp_relaxation *r = t->window->relaxation;
    const float *p = made == BUDGET_OF_FIRST_P ? at->first_p : at->p;
    double budget = (double)r->near_delta, sum = 0;
    if (r->near_lambda > 0) budget = made == LAMBDA_IS_BUDGET ? (double)r->near_lambda
                                                              : ((double)r->near_lambda - 1) * (double)p[x];
    int order[V];
    if (r->near == 0 || p[x] <= 0) return 0;
    wrong_order(x, order);
    for (size_t m = 0; m < r->near + (made == ONE_MORE_NEAR) && m < V - 1; m++) {
        double next = sum + (double)p[order[m]];
        if (next > budget && made == SKIPS_LARGE) continue;
        if (next > budget) break;
        sum = next;
    }
    return sum;
}

static void refuse(const sp_accept_tree *t, wrong_stand *at, int x, double bonus)
{
    const sp_relaxation *r = t->window->relaxation;
    int order[V];
    float p[V];
    memcpy(p, at->p, sizeof p);
    wrong_order(x, order);
    double moved = 0;
    for (int m = 0; made == RESIDUAL_OF_RELAXED && moved < bonus - 1e-6; m++) {
        moved += (double)p[order[m]];
        p[order[m]] = 0;
    }
    if (made == NEAR_OUT_OF_Q && bonus > 0)
        for (size_t m = 0; m < r->near && m < V - 1; m++) at->q[order[m]] = 0;
    if (made == NEAR_OUT_OF_P || made == UNIFORM_FALLBACK)
        for (size_t m = 0; m < r->near && m < V - 1; m++) p[order[m]] = 0;
    for (int v = 0; v < V; v++) p[v] = sp_residual(p[v], made == SIBLINGS_IN_Q ? at->first_q[v] : at->q[v]);
    if (made == RESIDUAL_IS_POINT) {
        memcpy(p, at->p, sizeof p);
        p[x] = 0;
    }
    if (made == INDEPENDENT_SIBLINGS) memcpy(p, at->p, sizeof p);
    if (normalised(p)) memcpy(at->p, p, sizeof p);
    else if (made == UNIFORM_FALLBACK)
        for (int v = 0; v < V; v++) at->p[v] = 1.0f / V;
    at->q[x] = 0;
    if (made != UNCONDITIONAL_Q) normalised(at->q);
}

static void reshape(const sp_accept_tree *t, float *p)
{
    float kept[V];
    for (int v = 0; v < V; v++) {
        float above = 0;
        for (int o = 0; o < V; o++) above += p[o] > p[v] ? p[o] : 0;
        kept[v] = above <= t->window->sampling->top_p ? p[v] : 0;
        if (made == TEMPERATURE_TWICE) kept[v] = powf(p[v], 1 / t->window->sampling->temperature);
    }
    memcpy(p, kept, sizeof kept);
    normalised(p);
}

/* Rows that a branch goes on for when each test is made apart. */
static size_t reach(const sp_accept_tree *t, size_t row, size_t depth)
{
    float p[V];
    size_t best = 0;
    sp_error err;
    if (sp_sample_law(t->window, row, p, &err) != SP_OK) return 0;
    for (size_t c = row + 1; c < t->window->n_rows; c++) {
        if ((size_t)t->parents[c] != row) continue;
        double q = (double)t->window->rows[row].law->probability[t->ids[c]];
        if (wrong_uniform(t, SP_DRAW_ACCEPT, depth, c) * q >= (double)p[t->ids[c]]) continue;
        size_t beyond = 1 + reach(t, c, depth + 1);
        if (beyond > best) best = beyond;
    }
    return best;
}

static size_t children_of(const sp_accept_tree *t, size_t row, size_t depth, size_t out[SP_ENUM_WINDOW])
{
    size_t n = 0;
    for (size_t c = row + 1; c < t->window->n_rows; c++)
        if ((size_t)t->parents[c] == row) out[n++] = c;
    for (size_t i = 0; i < n; i++)
        for (size_t j = i + 1; j < n; j++) {
            bool swaps = made == SORTED_SIBLINGS && t->ids[out[j]] < t->ids[out[i]];
            if (made == LONGEST_WINS) swaps = reach(t, out[j], depth + 1) > reach(t, out[i], depth + 1);
            if (!swaps) continue;
            size_t keep = out[i];
            out[i] = out[j];
            out[j] = keep;
        }
    return n;
}

static sp_status wrong_law(const sp_accept_tree *t, size_t row, size_t depth, wrong_stand *at, sp_error *err)
{
    size_t of = made == STALE_LAW && depth > 0 ? (size_t)(t->parents[row]) : row;
    SP_TRY(sp_sample_law(t->window, of, at->p, err));
    memcpy(at->first_p, at->p, sizeof at->p);
    memcpy(at->q, t->window->rows[row].law->probability, sizeof at->q);
    memcpy(at->first_q, at->q, sizeof at->q);
    return SP_OK;
}

static sp_status wrong_walk(const sp_accept_tree *t, size_t *n_path, int32_t *token, sp_error *err)
{
    size_t row = 0, depth = 0, children[SP_ENUM_WINDOW];
    for (*n_path = 0;;) {
        wrong_stand at;
        t->path[(*n_path)++] = (int32_t)row;
        SP_TRY(wrong_law(t, row, depth, &at, err));
        size_t n = children_of(t, row, depth, children), next = 0;
        for (size_t i = 0; i < n; i++) {
            int32_t x = t->ids[children[i]];
            double bonus = t->window->relaxation->near ? wrong_bonus(t, &at, x) : 0;
            double u = wrong_uniform(t, SP_DRAW_ACCEPT, depth, made == ONE_UNIFORM ? children[0] : children[i]);
            if (!next && u * (double)at.q[x] < (double)at.p[x] + bonus) {
                next = children[i];
                if (made != LAST_RESIDUAL) break;
                continue;
            }
            refuse(t, &at, x, bonus);
        }
        if (next && made == LAST_RESIDUAL && n > 1 && next != children[n - 1]) next = 0;
        if (next) {
            row = next;
            depth++;
            continue;
        }
        if (n > 0 && (made == TEMPERATURE_TWICE || made == TOP_P_TWICE)) reshape(t, at.p);
        if (n > 0 && made == RESIDUAL_IS_P) memcpy(at.p, at.first_p, sizeof at.p);
        if (n == 0 && depth > 0 && made == UNCHECKED_BONUS)
            for (int v = 0; v < V; v++) at.p[v] = 1.0f / V;
        if (n == 0 && depth > 0 && made == BONUS_OF_PARENT) SP_TRY(sp_sample_law(t->window, (size_t)t->parents[row],
                                                                              at.p, err));
        *token = sp_weights_draw(at.p, V, wrong_uniform(t, SP_DRAW_RESIDUAL, depth, 0));
        return SP_OK;
    }
}

#endif
