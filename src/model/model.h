#ifndef SP_MODEL_H
#define SP_MODEL_H
/* What the decode loop asks of a model: token laws over a window. The transformer families implement it, and so does
 * the enumerable model of tests/exactness.
 *
 *     model->ops->begin(state, &prompt, guided, err);                 // prefix pass: law of position 0 is ready to ask
 *     model->ops->forward(state, first, ids, n_ids, logits, err);
 *
 * forward feeds tokens of absolute image positions first - 1 .. first - 1 + n_ids - 1 (ids[0] is the token at
 * first - 1; when first is 0 ids[0] is ignored and stands for the last prefix row) and gives n_ids rows of logits:
 * row j is the law of position first + j. Positions already fed may be fed again; what was stored for them and
 * everything after is replaced. The same token history gives the same bits, whatever the windows were. */
#include "base/error.h"
#include "kernels/kernels.h"

typedef struct sp_model_prompt {
    const int32_t *ids; /* prefix ids, or one class number */
    size_t n_ids;
} sp_model_prompt;

typedef struct sp_model_ops {
    sp_status (*begin)(void *state, const sp_model_prompt *prompt, bool guided, sp_error *err);
    /* conditional and free_logits: [n_ids, n_codes]; free_logits is not written when not guided. */
    sp_status (*forward)(void *state, size_t first, const int32_t *ids, size_t n_ids, float *conditional,
                         float *free_logits, sp_error *err);
} sp_model_ops;

typedef struct sp_model {
    const sp_model_ops *ops;
    void *state;
    size_t n_codes, rows, columns;
} sp_model;

#endif
