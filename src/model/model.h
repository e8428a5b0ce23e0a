#ifndef SP_MODEL_H
#define SP_MODEL_H
/* What the decode loop asks of a model: token laws over a window. The transformer implements it, and so does the
 * enumerable model of tests/exactness.
 *
 *     SP_TRY(model.ops->begin(model.state, &prompt, guided, err));                     // the prefix pass
 *     SP_TRY(model.ops->forward(model.state, first, ids, n_ids, logits, err));
 *
 * forward feeds ids[j] as the token of image position first - 1 + j and gives n_ids rows of logits: row j is the law of
 * position first + j given everything before it. At first = 0, ids[0] is ignored: row 0 follows the prompt itself.
 * Positions may be fed again; what was stored for them and for everything after is replaced. The same tokens before a
 * position give its row the same bits, whatever the windows were. */
#include "base/error.h"
#include "kernels/kernels.h"

typedef struct sp_model_prompt {
    const int32_t *ids; /* [n_ids] text ids without padding, or one class number */
    size_t n_ids;       /* ids beyond the model's prefix are not read */
} sp_model_prompt;

typedef struct sp_model_ops {
    sp_status (*begin)(void *state, const sp_model_prompt *prompt, bool guided, sp_error *err);
    /* logits [n_streams, n_ids, n_codes]: the conditional stream, then when guided the unconditional one. */
    sp_status (*forward)(void *state, size_t first, const int32_t *ids, size_t n_ids, float *logits, sp_error *err);
} sp_model_ops;

typedef struct sp_model {
    const sp_model_ops *ops;
    void *state;
    size_t n_codes, rows, columns;
} sp_model;

#endif
