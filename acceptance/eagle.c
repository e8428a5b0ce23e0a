/* Speculative sampling over trees of a drafting model, EAGLE's (Li et al., arXiv 2401.15077; docs/rules/eagle.md), with
 * children drawn without replacement: the tokens have the law of plain decoding whatever was drafted. */
#include "acceptance/walk.h"

extern const sp_accept_ops sp_accept_eagle;

static sp_status walk(const sp_accept_tree *tree, size_t *n_path, int32_t *token, sp_error *err)
{
    return sp_tree_walk(tree, NULL, n_path, token, err);
}

const sp_accept_ops sp_accept_eagle = {
    .name = "eagle",
    .summary = "checks trees of guesses that a trained one-layer drafter makes",
    .settings = "tree",
    .exactness = SP_EXACT,
    .drafts = true,
    .walk = walk,
};
