#ifndef SP_WINDOW_H
#define SP_WINDOW_H
/* A window of a picture on the host, in steps: what the model is fed, what becomes of its logits, what the rule makes
 * of the scores. For decode.c, which draws one picture, and host_loop.c, which draws several.
 *
 *     sp_model_window fed = sp_window_fed(d, first, n);
 *     SP_TRY(model.ops->forward(model.state, &fed, err));
 *     sp_window_score(d, plan, first);
 *     SP_TRY(sp_window_settle(d, plan, first, n, &known, &branch, &n_final, err)); */
#include "decode/decode.h"

/* For a new picture. */
void sp_window_reset(sp_decoder *d);

/* The last final token and the n - 1 drafts after it in d->tokens, in the shape of the frontier; logits: d->logits. */
sp_model_window sp_window_fed(sp_decoder *d, size_t first, size_t n);

/* Logits to scores, with the noise or the laws of their positions, into d->rows. */
void sp_window_score(sp_decoder *d, const sp_decode_plan *plan, size_t first);

/* The rule's part. *known is how many positions hold a token or a draft, before and after; *n_final how many of the
 * window are final now; *branch the first row of the branch that the rule went along, or 0. */
SP_CHECK sp_status sp_window_settle(sp_decoder *d, const sp_decode_plan *plan, size_t first, size_t n, size_t *known,
                                    size_t *branch, size_t *n_final, sp_error *err);

#endif
