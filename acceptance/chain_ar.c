/* Plain decoding: one position a pass, its chain run with its own noise. */
#include "acceptance/chain.h"

extern const sp_chain_ops sp_chain_ar;

const sp_chain_ops sp_chain_ar = {
    .name = "ar",
    .summary = "plain decoding, one token a pass",
    .exactness = SP_IDENTICAL,
    .commit = sp_commit_first_change,
};
