#ifndef SP_DRAFT_MODEL_H
#define SP_DRAFT_MODEL_H
/* What the decode loop asks of a drafting model: laws of the next tokens from the target's features, over a tree.
 * src/model/eagle.h implements it, and so does the enumerable drafter of tests/exactness.
 *
 *     SP_TRY(draft.ops->begin(draft.state, features, guided, err));          // as the target's begin gave them
 *     SP_TRY(draft.ops->extend(draft.state, first, ids, features, n, logits, err));   // tokens became final
 *     SP_TRY(draft.ops->grow(draft.state, nodes, n, logits, err));                    // guesses after them
 *
 * extend feeds the final tokens of image positions first .. first + n - 1; features [n_streams, n] point to the dim
 * floats of the target's of the position before each. It gives logits [n_streams, n_codes]: the law of position
 * first + n. The last token is node 0 of a new tree.
 *
 * grow feeds n nodes of that tree, none fed before, whose parents were; it gives logits [n_streams, n, n_codes] of the
 * position after each. A node's number is at least 1 and below the window the state was made for. */
#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"

typedef struct sp_draft_node {
    int32_t node, parent, id;
} sp_draft_node;

typedef struct sp_draft_model_ops {
    sp_status (*begin)(void *state, const float *features, bool guided, sp_error *err);
    sp_status (*extend)(void *state, size_t first, const int32_t *ids, const float *const *features, size_t n,
                        float *logits, sp_error *err);
    sp_status (*grow)(void *state, const sp_draft_node *nodes, size_t n, float *logits, sp_error *err);
} sp_draft_model_ops;

typedef struct sp_draft_model {
    const sp_draft_model_ops *ops; /* NULL: there is none */
    void *state;
    /* [n_streams, n, dim] of the target's last window, in memory of a device, which extend may point into; NULL: they
     * must come to the host. */
    const float *features;
} sp_draft_model;

#endif
