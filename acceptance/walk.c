#include "acceptance/walk.h"

#include "acceptance/verify.h"

/* Where the walk stands: a row, its position, its law, and the law of its children that are left. */
typedef struct stand {
    size_t row, depth;
    float *p, *q;
    int32_t likeliest; /* of p at temperature 0 */
} stand;

/* Tests at one position in one pass are told apart by their rows. */
static double uniform(const sp_accept_window *w, sp_draw_purpose purpose, size_t depth, size_t row)
{
    return sp_uniform(w->sampling->seed, w->sampling->image, purpose, (uint32_t)(w->position + depth),
                      w->pass * SP_MAX_WINDOW + (uint32_t)row);
}

static void normalise(float *weights, size_t n, double total)
{
    float scale = (float)(1.0 / total);
    for (size_t v = 0; v < n; v++) weights[v] *= scale;
}

/* p becomes (p - q)+, normalised; where rounding leaves nothing of it, it stays. */
static void take_residual(float *p, const float *q, size_t n)
{
    double total = 0;
    for (size_t v = 0; v < n; v++) total += (double)sp_residual(p[v], q[v]);
    if (total <= 0) return;
    for (size_t v = 0; v < n; v++) p[v] = sp_residual(p[v], q[v]);
    normalise(p, n, total);
}

/* q without x: the law of the next child. */
static void remove_code(float *q, size_t n, int32_t x)
{
    double total = 0;
    q[x] = 0;
    for (size_t v = 0; v < n; v++) total += (double)q[v];
    if (total > 0) normalise(q, n, total);
}

static bool passes(const sp_accept_tree *t, const stand *at, size_t child, sp_walk_bonus *bonus)
{
    const sp_accept_window *w = t->window;
    int32_t x = t->ids[child];
    double p = (double)at->p[x], q = (double)at->q[x], exact = sp_ratio(p, q), more = p;
    if (bonus && p < q) more += bonus(t, at->p, x);
    if (bonus) *w->deviation += sp_ratio(more, q) - exact;
    return sp_ratio_passes(uniform(w, SP_DRAW_ACCEPT, at->depth, child), more, q);
}

/* At temperature 0 a draft passes when it is the likeliest, or is with the bonus. */
static bool passes_greedily(const sp_accept_tree *t, const stand *at, size_t child, sp_walk_bonus *bonus)
{
    int32_t x = t->ids[child];
    if (x == at->likeliest) return true;
    double more = bonus ? bonus(t, at->p, x) : 0;
    bool passed = more > 0 && (double)at->p[x] + more >= (double)at->p[at->likeliest];
    *t->window->deviation += passed ? 1 : 0;
    return passed;
}

/* The child of at->row that passes, or 0; p and q are left as the last test left them. */
static size_t descend(const sp_accept_tree *t, stand *at, sp_walk_bonus *bonus)
{
    const sp_accept_window *w = t->window;
    bool greedy = w->sampling->temperature <= 0;
    for (size_t child = at->row + 1; child < w->n_rows; child++) {
        if ((size_t)t->parents[child] != at->row) continue;
        if (greedy ? passes_greedily(t, at, child, bonus) : passes(t, at, child, bonus)) return child;
        if (greedy) continue;
        take_residual(at->p, at->q, w->n_codes);
        remove_code(at->q, w->n_codes, t->ids[child]);
    }
    return 0;
}

static sp_status set_law(const sp_accept_window *w, stand *at, sp_error *err)
{
    SP_TRY(sp_sample_law(w, at->row, at->p, err));
    at->q = w->rows[at->row].law->probability;
    if (w->sampling->temperature > 0) return SP_OK;
    const float *scores = w->rows[at->row].scores;
    at->likeliest = w->ops->argmax(scores, NULL, w->n_codes);
    if (isfinite(scores[at->likeliest])) w->ops->softmax(scores, scores[at->likeliest], -INFINITY, w->n_codes, at->p);
    return SP_OK;
}

sp_status sp_tree_walk(const sp_accept_tree *t, sp_walk_bonus *bonus, size_t *n_path, int32_t *token, sp_error *err)
{
    const sp_accept_window *w = t->window;
    stand at = {.p = w->scratch};
    for (*n_path = 0;;) {
        t->path[(*n_path)++] = (int32_t)at.row;
        SP_TRY(set_law(w, &at, err));
        size_t child = descend(t, &at, bonus);
        if (child == 0) break;
        at.row = child;
        at.depth++;
    }
    *token = at.likeliest;
    if (w->sampling->temperature > 0)
        *token = sp_weights_draw(at.p, w->n_codes, uniform(w, SP_DRAW_RESIDUAL, at.depth, 0));
    return SP_OK;
}
