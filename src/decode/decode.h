#ifndef SP_DECODE_H
#define SP_DECODE_H
/* The decode loop: draft, forward, accept, commit, until the grid is full. It owns the window and knows no rule, model
 * or device by name.
 *
 *     sp_decoder *decoder;
 *     SP_TRY(sp_decoder_open(&decoder, n_codes, rows, columns, ops, SP_MAX_WINDOW, err));
 *     SP_TRY(sp_decode(decoder, &model, &plan, err));
 *     decoder->tokens, decoder->pass_of_token, decoder->passes ...
 *
 * All memory is taken by open; the loop allocates nothing. */
#include "decode/drafter.h"
#include "decode/frontier.h"
#include "decode/pacer.h"
#include "decode/tree.h"
#include "kernels/device_loop.h"
#include "model/model.h"

typedef struct sp_decode_plan {
    const sp_accept_ops *rule;
    sp_drafter *drafter;
    size_t window; /* 0: by the decoder's pacer; for a rule that walks SP_TREE_ROWS */
    size_t branches; /* at the first draft of a rule that guesses: 1 to SP_MAX_GUESSES + 1; 0 is 1. Of the tree of a
                      * rule that walks: 1 to SP_TREE_WIDTH; 0 is that */
    sp_tree *tree;   /* of a rule that walks; else it may be NULL */
    sp_sampling sampling;
    const sp_device_loop *loop; /* of the device the model is on; NULL: the host's loop. It draws the same tokens */
    sp_relaxation relaxation; /* for relaxed rules */
    sp_model_prompt prompt;
    sp_progress_call *progress; /* may be NULL */
    void *user;
} sp_decode_plan;

typedef struct sp_decoder {
    size_t n_codes, n_positions, columns, max_window;
    const sp_ops *ops;
    int32_t *tokens;        /* [n_positions] final ones, then drafts */
    int32_t *pass_of_token; /* [n_positions] */
    size_t passes, drafted, accepted;
    uint32_t histogram[SP_MAX_WINDOW + 1];
    double deviation;       /* sum over the tested drafts of a relaxed rule, see sp_accept_window */
    double prefill_ms, decode_ms;
    sp_pacer pacer;         /* outlives a picture: pass times are the session's */

    int32_t *path, *settled; /* [max_window] */
    sp_frontier frontier;
    float *logits;          /* [2, max_window, n_codes] */
    float *memory;          /* [max_window, n_codes to 4] position p at p mod max_window: its noise, or draft's law */
    size_t *noise_of;       /* [max_window] position whose noise is held there + 1, 0 none */
    sp_law *laws;           /* [max_window] of the drafts, as memory */
    sp_accept_row *rows;    /* [max_window] */
    float *scratch;         /* [n_codes] */
    struct sp_arena *arena;
} sp_decoder;

SP_CHECK sp_status sp_decoder_open(sp_decoder **out, size_t n_codes, size_t rows, size_t columns, const sp_ops *ops,
                                   size_t max_window, sp_error *err);
void sp_decoder_close(sp_decoder *decoder);
size_t sp_decoder_bytes(const sp_decoder *decoder);

/* The first part of sp_decode: counts are zero, the prefix pass is over. *begun: when, by the clock. */
SP_CHECK sp_status sp_decode_begin(sp_decoder *decoder, const sp_model *model, const sp_decode_plan *plan,
                                   double *begun, sp_error *err);
SP_CHECK sp_status sp_decode(sp_decoder *decoder, const sp_model *model, const sp_decode_plan *plan, sp_error *err);

#endif
