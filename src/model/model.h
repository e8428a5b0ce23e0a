#ifndef SP_MODEL_H
#define SP_MODEL_H
/* What the decode loop asks of a model: token laws over a window. The transformer implements it, and so does the
 * enumerable model of tests/exactness.
 *
 *     SP_TRY(model.ops->begin(model.state, &prompt, guided, NULL, err));               // the prefix pass
 *     SP_TRY(model.ops->forward(model.state, &(sp_model_window){.first = p, .n = n, .ids = ids, .logits = out}, err));
 *
 * The same tokens before a position give its row the same bits, whatever the windows were and whatever shape they had.
 *
 * Features are what the head reads, dim floats a position: the last hidden state after the last norm. */
#include "base/error.h"
#include "kernels/kernels.h"

typedef struct sp_model_prompt {
    const int32_t *ids; /* [n_ids] text ids without padding, or one class number */
    size_t n_ids;       /* ids beyond the model's prefix are not read */
} sp_model_prompt;

/* A window feeds ids[0] as the token of image position first - 1 and gives n rows of logits: row 0 is the law of
 * position first. At first = 0, ids[0] is ignored: row 0 follows the prompt itself.
 *
 * Without parents row j follows row j - 1: it is fed the token of position first - 1 + j, and what was stored for these
 * positions and for everything after is replaced. With parents the rows are a tree: row j > 0 follows row parents[j],
 * which is below j, one position after it. Several rows may then share a position, and the window must be kept before
 * the next one, unless its tree is a chain. */
typedef struct sp_model_window {
    size_t first, n;
    const int32_t *ids;     /* [n] */
    const int32_t *parents; /* [n], or NULL for a chain; parents[0] is not read */
    float *logits;          /* [n_streams, n, n_codes] out: the conditional stream, then when guided the free one;
                             * NULL with latents */
    float *features;        /* [n_streams, n, dim] out, or NULL */
    const float *latents;   /* [n, latent_dim] in place of ids, of models with continuous tokens */
} sp_model_window;

typedef struct sp_model_ops {
    /* features [n_streams, prefix - 1, dim] out of the prefix but its last row, or NULL. */
    sp_status (*begin)(void *state, const sp_model_prompt *prompt, bool guided, float *features, sp_error *err);
    sp_status (*forward)(void *state, const sp_model_window *window, sp_error *err);
    /* After a window with parents: rows path [n], each the parent of the next and path[0] = 0, are those that stay, as
     * positions first - 1 .. first + n - 2. */
    sp_status (*keep)(void *state, size_t first, const int32_t *path, size_t n, sp_error *err);
    /* A pass over windows of n different pictures, all with guidance or all without, as the last begin was; NULL where
     * there is one picture at a time. windows[i] is of pictures[i], a chain without features, and its logits come
     * straight after those of the window before. */
    sp_status (*forward_batch)(void *state, const size_t *pictures, const sp_model_window *windows, size_t n,
                               sp_error *err);
} sp_model_ops;

typedef struct sp_model {
    const sp_model_ops *ops;
    void *state;
    size_t n_codes, rows, columns;
    size_t prefix, dim; /* rows of the prefix; width of a feature */
} sp_model;

#endif
