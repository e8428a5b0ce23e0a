#include "decode/frontier.h"

static size_t length_of(size_t longest, size_t branch, size_t n)
{
    size_t length = longest / (branch + 1);
    if (length < 1) length = 1;
    return length < n - 1 ? length : n - 1;
}

/* The most rows of a first branch with which all branches fit into room. */
static size_t longest_that_fits(size_t n_branches, size_t n, size_t room)
{
    size_t longest = SP_BRANCH_LENGTH;
    for (; longest > 1; longest--) {
        size_t rows = 0;
        for (size_t b = 0; b < n_branches; b++) rows += length_of(longest, b, n);
        if (rows <= room) break;
    }
    return longest;
}

void sp_frontier_grow(sp_frontier *f, const int32_t *drafts, size_t n, size_t most)
{
    f->n_branches = 0;
    f->n = n;
    for (size_t j = 0; j < n; j++) {
        f->parents[j] = (int32_t)j - 1;
        f->depth[j] = (int32_t)j;
        if (j > 0) f->ids[j] = drafts[j - 1];
    }
    size_t longest = longest_that_fits(f->n_guesses, n, most - n);
    for (size_t b = 0; b < f->n_guesses && n > 1 && f->n < most; b++, f->n_branches++) {
        f->first[b] = f->n;
        f->length[b] = length_of(longest, b, n);
        for (size_t i = 0; i < f->length[b]; i++, f->n++) {
            f->parents[f->n] = i > 0 ? (int32_t)f->n - 1 : 0;
            f->depth[f->n] = (int32_t)i + 1;
            f->ids[f->n] = i > 0 ? drafts[i] : f->guess[b];
        }
    }
}
