#include "decode/frontier.h"

void sp_frontier_grow(sp_frontier *f, const int32_t *drafts, size_t n, size_t most)
{
    f->length = n - 1 < SP_BRANCH_LENGTH ? n - 1 : SP_BRANCH_LENGTH;
    f->n_branches = 0;
    f->n = n;
    for (size_t j = 0; j < n; j++) {
        f->parents[j] = (int32_t)j - 1;
        f->depth[j] = (int32_t)j;
        if (j > 0) f->ids[j] = drafts[j - 1];
    }
    for (size_t b = 0; b < f->n_guesses && f->length > 0 && f->n + f->length <= most; b++, f->n_branches++)
        for (size_t i = 0; i < f->length; i++, f->n++) {
            f->parents[f->n] = i > 0 ? (int32_t)f->n - 1 : 0;
            f->depth[f->n] = (int32_t)i + 1;
            f->ids[f->n] = i > 0 ? drafts[i] : f->guess[b];
        }
}

size_t sp_frontier_branch(const sp_frontier *f, size_t branch) { return f->n - (f->n_branches - branch) * f->length; }
