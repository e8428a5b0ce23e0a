#ifndef SP_WALK_H
#define SP_WALK_H
/* Recursive rejection sampling down a tree of drafts (docs/rules/eagle.md), for rules that walk:
 *
 *     return sp_tree_walk(tree, NULL, n_path, token, err);
 *
 * At a row with law p, its children are tested in turn. The first, drawn from q, passes with probability min(1, p / q).
 * When it does not, p becomes (p - q)+ and q loses it, both normalised, and the next is tested. Without a child that
 * passes, the token is drawn from what p has become. */
#include "acceptance/accept.h"

/* What relaxed rules add to the probability of a draft x under p [n_codes] before it is tested. */
typedef double sp_walk_bonus(const sp_accept_tree *tree, const float *p, int32_t x);

/* bonus may be NULL. */
SP_CHECK sp_status sp_tree_walk(const sp_accept_tree *tree, sp_walk_bonus *bonus, size_t *n_path, int32_t *token,
                                sp_error *err);

#endif
