#ifndef SP_FRONTIER_H
#define SP_FRONTIER_H
/* Branches at the front of a window of drafts (docs/rules/pathwise.md, coupled.md). Most passes stop at their first
 * draft; so other guesses for its position are fed too, each followed by copies of the drafts after it. If one of them
 * is the token there, the pass goes on along its branch.
 *
 * Row j of the chain, which comes first, has the law of the j-th position of the window; the rows of a branch have
 * those of positions 1 .. length. */
#include "acceptance/accept.h"

enum { SP_BRANCH_LENGTH = 9 };

typedef struct sp_frontier {
    size_t n_guesses, n_branches, length, n;
    int32_t guess[SP_MAX_GUESSES];  /* for the position of the next window's first draft, besides the draft */
    int32_t *ids, *parents, *depth; /* [max_window] of the rows; ids[0] is the caller's */
} sp_frontier;

/* The rows of a window of n whose drafts [n - 1] are given, at most most. Branches that there is no room for are left
 * out. */
void sp_frontier_grow(sp_frontier *f, const int32_t *drafts, size_t n, size_t most);

/* The first row of a branch, from 0. */
size_t sp_frontier_branch(const sp_frontier *f, size_t branch);

#endif
