#ifndef SP_TREE_H
#define SP_TREE_H
/* A window that is a tree: a drafting model grows it, the target checks it in one pass, a rule walks down it.
 *
 *     sp_tree *tree;
 *     SP_TRY(sp_tree_open(&tree, &model, &draft, SP_MAX_WINDOW, err));
 *     plan.tree = tree;
 *     plan.branches = 4;                       // most guesses for one position; 1 is a chain
 *     SP_TRY(sp_decode(decoder, &model, &plan, err));   // with a rule that walks
 *
 * All memory is taken by open. */
#include "decode/tree_shape.h"
#include "model/draft_model.h"
#include "model/model.h"

typedef struct sp_tree {
    sp_draft_model draft;
    size_t max_window, n_codes, dim, prefix;
    size_t rows; /* that the shape was made for */
    sp_tree_shape shape;
    float *prefix_features;             /* [2, prefix - 1, dim] */
    float *features;                    /* [2, max_window, dim], unless they stay on a device */
    const float **path_features;        /* [2, max_window] */
    int32_t *ids, *parents, *path;      /* [max_window] */
    int32_t *node_of;                   /* [max_window] of the shape: the node that was grown there, or -1 */
    sp_draft_node *nodes;               /* [max_window] */
    float *distance;                    /* [n_codes] */
    int32_t *order;                     /* [n_codes] */
    struct sp_arena *arena;
} sp_tree;

SP_CHECK sp_status sp_tree_open(sp_tree **out, const sp_model *model, const sp_draft_model *draft, size_t max_window,
                                sp_error *err);
void sp_tree_close(sp_tree *tree);
size_t sp_tree_bytes(const sp_tree *tree);

#endif
