#ifndef SP_TREE_PASS_H
#define SP_TREE_PASS_H
/* One pass of the decode loop over a tree, for decode.c alone. */
#include "decode/decode.h"

/* Drafts a tree of up to rows nodes after position first - 1, checks it and commits *n_final tokens to d->tokens. */
SP_CHECK sp_status sp_tree_pass(sp_decoder *d, const sp_model *model, const sp_decode_plan *plan, size_t first,
                                size_t rows, size_t *n_final, sp_error *err);

#endif
