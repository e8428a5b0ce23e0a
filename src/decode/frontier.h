#ifndef SP_FRONTIER_H
#define SP_FRONTIER_H
/* Branches at the front of a window of drafts (docs/rules/pathwise.md, coupled.md). Most passes stop at their first
 * draft; so other guesses for its position are fed too, each followed by copies of the drafts after it. If one of them
 * is the token there, the pass goes on along its branch.
 *
 * Row j of the chain, which comes first, has the law of the j-th position of the window; the rows of a branch have
 * those of positions 1 .. its length. Branch b, from 0, is 1 / (b + 1) as long as the first, because that is how often
 * its guess is right beside the first one. */
#include "acceptance/accept.h"

enum { SP_BRANCH_LENGTH = 20 }; /* most rows of the first branch */

typedef struct sp_frontier {
    size_t n_guesses, n_branches, n;
    int32_t guess[SP_MAX_GUESSES];  /* for the position of the next window's first draft, besides the draft */
    size_t first[SP_MAX_GUESSES];   /* rows where branches begin */
    size_t length[SP_MAX_GUESSES];
    int32_t *ids, *parents, *depth; /* [max_window] of the rows; ids[0] is the caller's */
} sp_frontier;

/* The rows of a window of n whose drafts [n - 1] are given, at most most. Where there is little room all branches are
 * shorter, and then the last are left out. */
void sp_frontier_grow(sp_frontier *f, const int32_t *drafts, size_t n, size_t most);

#endif
