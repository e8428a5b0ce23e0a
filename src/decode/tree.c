#include "decode/tree.h"

#include <string.h>

#include "acceptance/verify.h"
#include "base/arena.h"
#include "decode/tree_pass.h"

enum { MAX_STREAMS = 2, NONE = -1 };

static void take(sp_tree *t)
{
    size_t rows = MAX_STREAMS * t->max_window, feature = t->dim * sizeof(float);
    t->prefix_features = sp_arena_take(t->arena, MAX_STREAMS * t->prefix, feature);
    t->features = sp_arena_take(t->arena, t->draft.features ? 0 : rows, feature);
    t->path_features = sp_arena_take(t->arena, rows, sizeof *t->path_features);
    t->ids = sp_arena_take(t->arena, t->max_window, sizeof *t->ids);
    t->parents = sp_arena_take(t->arena, t->max_window, sizeof *t->parents);
    t->path = sp_arena_take(t->arena, t->max_window, sizeof *t->path);
    t->node_of = sp_arena_take(t->arena, t->max_window, sizeof *t->node_of);
    t->nodes = sp_arena_take(t->arena, t->max_window, sizeof *t->nodes);
    t->distance = sp_arena_take(t->arena, t->n_codes, sizeof *t->distance);
    t->order = sp_arena_take(t->arena, t->n_codes, sizeof *t->order);
}

sp_status sp_tree_open(sp_tree **out, const sp_model *model, const sp_draft_model *draft, size_t max_window,
                       sp_error *err)
{
    *out = NULL;
    sp_tree *t = sp_alloc(1, sizeof *t);
    sp_arena *arena = sp_alloc(1, sizeof *arena);
    if (!t || !arena) {
        sp_release(t);
        sp_release(arena);
        return SP_FAIL(err, SP_ENOMEM, "tree: no memory");
    }
    *t = (sp_tree){.draft = *draft, .max_window = max_window, .n_codes = model->n_codes, .dim = model->dim,
                   .prefix = model->prefix, .arena = arena};
    take(t);
    sp_status status = sp_arena_commit(arena, "tree of drafts", err);
    if (status != SP_OK) {
        sp_tree_close(t);
        return status;
    }
    take(t);
    *out = t;
    return SP_OK;
}

void sp_tree_close(sp_tree *t)
{
    if (!t) return;
    sp_arena_free(t->arena);
    sp_release(t->arena);
    sp_release(t);
}

size_t sp_tree_bytes(const sp_tree *t) { return t->arena->bytes; }

static bool guided(const sp_decode_plan *plan) { return plan->sampling.cfg_scale != 1.0f; }

/* Logits [n_streams, n, n_codes] become the scores of n rows, which are left in the first of them. */
static void guide(sp_decoder *d, const sp_decode_plan *plan, size_t n)
{
    const sp_sampling *s = &plan->sampling;
    float inverse = s->temperature > 0 ? 1.0f / s->temperature : 1.0f;
    for (size_t j = 0; j < n; j++) {
        float *scores = d->logits + j * d->n_codes;
        const float *free_logits = guided(plan) ? d->logits + (n + j) * d->n_codes : NULL;
        d->ops->guide(scores, free_logits, s->cfg_scale, inverse, d->n_codes, scores);
    }
}

/* The law that children of a node are drawn from, out of the drafter's scores. At temperature 0 they are its likeliest
 * codes, so it orders the codes and is not what they are drawn from. */
static sp_status set_law(sp_decoder *d, const sp_decode_plan *plan, size_t position, size_t node, const float *scores,
                         sp_error *err)
{
    sp_accept_row row = {.scores = scores};
    sp_accept_window window = {.position = position, .n_rows = 1, .n_codes = d->n_codes, .rows = &row,
                               .sampling = &plan->sampling, .ops = d->ops, .scratch = d->scratch};
    sp_law *law = &d->laws[node];
    SP_TRY(sp_sample_law(&window, 0, law->probability, err));
    law->kind = plan->sampling.temperature > 0 ? SP_LAW_ROW : SP_LAW_POINT;
    if (law->kind == SP_LAW_ROW) return SP_OK;
    int32_t likeliest = d->ops->argmax(scores, NULL, d->n_codes);
    if (isfinite(scores[likeliest]))
        d->ops->softmax(scores, scores[likeliest], -INFINITY, d->n_codes, law->probability);
    return SP_OK;
}

/* One more child out of what is left of a law; NONE when nothing is. */
static int32_t draw(const sp_decoder *d, const sp_decode_plan *plan, size_t position, size_t child, float *left)
{
    int32_t likeliest = d->ops->argmax(left, NULL, d->n_codes), drawn = likeliest;
    if (left[likeliest] <= 0) return NONE;
    if (plan->sampling.temperature > 0)
        drawn = sp_weights_draw(left, d->n_codes,
                                sp_uniform(plan->sampling.seed, plan->sampling.image, SP_DRAW_REDRAFT,
                                           (uint32_t)position,
                                           (uint32_t)(d->passes * SP_MAX_WINDOW + child)));
    left[drawn] = 0;
    return drawn;
}

/* Draws the children of one node of the shape that was grown; n is the number of nodes so far. */
static void bear(sp_tree *t, sp_decoder *d, const sp_decode_plan *plan, size_t first, size_t at, size_t *n)
{
    int32_t node = t->node_of[at];
    memcpy(d->scratch, d->laws[node].probability, d->n_codes * sizeof(float));
    for (size_t child = at + 1; child < t->shape.n; child++) {
        if ((size_t)t->shape.parent[child] != at) continue;
        int32_t id = draw(d, plan, first + (size_t)t->shape.depth[at], *n, d->scratch);
        if (id == NONE) return;
        t->node_of[child] = (int32_t)*n;
        t->ids[*n] = id;
        t->parents[*n] = node;
        ++*n;
    }
}

/* Grows the tree from the law of node 0 on, level by level, as deep as the picture goes; n nodes. */
static sp_status grow(sp_tree *t, sp_decoder *d, const sp_decode_plan *plan, size_t first, size_t *n, sp_error *err)
{
    int32_t deepest = (int32_t)(d->n_positions - 1 - first);
    for (size_t i = 0; i < t->shape.n; i++) t->node_of[i] = NONE;
    t->node_of[0] = 0;
    t->ids[0] = first > 0 ? d->tokens[first - 1] : 0;
    *n = 1;
    if (first == 0 || deepest == 0) return SP_OK;
    bear(t, d, plan, first, 0, n);
    for (size_t level = 1, end; level < t->shape.n && t->shape.depth[level] < deepest; level = end) {
        size_t parents = 0;
        for (end = level; end < t->shape.n && t->shape.depth[end] == t->shape.depth[level]; end++)
            if (t->node_of[end] != NONE && t->shape.children[end] > 0)
                t->nodes[parents++] = (sp_draft_node){t->node_of[end], t->parents[t->node_of[end]],
                                                      t->ids[t->node_of[end]]};
        if (parents == 0) continue;
        SP_TRY(t->draft.ops->grow(t->draft.state, t->nodes, parents, d->logits, err));
        guide(d, plan, parents);
        for (size_t i = 0; i < parents; i++)
            SP_TRY(set_law(d, plan, first + (size_t)t->shape.depth[level], (size_t)t->nodes[i].node,
                           d->logits + i * d->n_codes, err));
        for (size_t at = level; at < end; at++)
            if (t->node_of[at] != NONE && t->shape.children[at] > 0) bear(t, d, plan, first, at, n);
    }
    return SP_OK;
}

/* The tokens of the path become final: the target keeps them, the drafter reads them. */
static sp_status commit(sp_tree *t, sp_decoder *d, const sp_model *model, const sp_decode_plan *plan, size_t first,
                        size_t n, size_t n_path, int32_t token, sp_error *err)
{
    SP_TRY(model->ops->keep(model->state, first, t->path, n_path, err));
    for (size_t i = 1; i < n_path; i++) d->tokens[first + i - 1] = t->ids[t->path[i]];
    d->tokens[first + n_path - 1] = token;
    if (first + n_path >= d->n_positions) return SP_OK;
    const float *features = t->draft.features ? t->draft.features : t->features;
    for (size_t s = 0; s < (guided(plan) ? MAX_STREAMS : 1); s++)
        for (size_t i = 0; i < n_path; i++)
            t->path_features[s * n_path + i] = features + (s * n + (size_t)t->path[i]) * t->dim;
    SP_TRY(t->draft.ops->extend(t->draft.state, first, d->tokens + first, t->path_features, n_path, d->logits, err));
    guide(d, plan, 1);
    return set_law(d, plan, first + n_path, 0, d->logits, err);
}

sp_status sp_tree_pass(sp_decoder *d, const sp_model *model, const sp_decode_plan *plan, size_t first, size_t rows,
                       size_t *n_final, sp_error *err)
{
    sp_tree *t = plan->tree;
    size_t n;
    if (!t) return SP_FAIL(err, SP_EBUG, "%s: there is no drafter", plan->rule->name);
    if (rows > t->max_window) rows = t->max_window;
    size_t width = plan->branches ? plan->branches : SP_TREE_WIDTH;
    if (t->rows != rows || t->shape.width != width) sp_tree_shape_make(&t->shape, rows, width);
    t->rows = rows;
    SP_TRY(grow(t, d, plan, first, &n, err));
    sp_model_window fed = {.first = first, .n = n, .ids = t->ids, .parents = t->parents, .logits = d->logits,
                           .features = t->draft.features ? NULL : t->features};
    SP_TRY(model->ops->forward(model->state, &fed, err));
    guide(d, plan, n);
    for (size_t j = 0; j < n; j++)
        d->rows[j] = (sp_accept_row){.scores = d->logits + j * d->n_codes, .law = &d->laws[j]};
    sp_accept_window window = {.position = first, .pass = (uint32_t)d->passes, .n_rows = n, .n_codes = d->n_codes,
                               .rows = d->rows, .sampling = &plan->sampling, .relaxation = &plan->relaxation,
                               .ops = d->ops, .scratch = d->scratch, .deviation = &d->deviation};
    sp_accept_tree tree = {&window, t->ids, t->parents, t->path, t->distance, t->order};
    int32_t token;
    SP_TRY(plan->rule->walk(&tree, n_final, &token, err));
    if (*n_final < 1 || *n_final > n || first + *n_final > d->n_positions)
        return SP_FAIL(err, SP_EBUG, "%s: a path of %zu of %zu rows", plan->rule->name, *n_final, n);
    d->drafted += n - 1;
    return commit(t, d, model, plan, first, n, *n_final, token, err);
}
