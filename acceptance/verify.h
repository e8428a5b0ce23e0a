#ifndef SP_VERIFY_H
#define SP_VERIFY_H
/* Speculative verification row by row, for rules that record:
 *
 *     return sp_verify_rows(window, sp_ratio_test, SP_AFTER_REDRAW, n_final, err);
 *
 * Row j with law p: its draft, drawn from the recorded q, passes the test or is replaced by a draw from (p - q)+,
 * normalised; rows up to the first replaced one are final. If every draft passes, the row after them is drawn from p
 * and final too. */
#include "acceptance/accept.h"

/* Whether the draft of row j, which has law p [n_codes], passes. */
typedef bool sp_draft_test(const sp_accept_window *window, size_t j, const float *p);

/* What becomes of the drafts after the first replaced one. */
typedef enum {
    SP_AFTER_REDRAW = 0, /* drawn anew from p */
    SP_AFTER_COUPLE = 1  /* tested and kept or replaced like those before */
} sp_after;

SP_CHECK sp_status sp_verify_rows(const sp_accept_window *window, sp_draft_test *test, sp_after after, size_t *n_final,
                                  sp_error *err);

/* The exact test: passes with probability min(1, p / q) of the draft. */
sp_draft_test sp_ratio_test;

/* The window's u for a purpose at row j in this pass. */
double sp_row_uniform(const sp_accept_window *window, sp_draw_purpose purpose, size_t j);

/* The code at u of the way through weights [n], which are at least 0 and not all 0: a draw with probabilities
 * proportional to them. */
int32_t sp_weights_draw(const float *weights, size_t n, double u);

/* A draw from (p - q)+ of row j; its record is used up. */
int32_t sp_residual_draw(const sp_accept_window *window, size_t j, const float *p);

/* The record of row j becomes p. */
void sp_row_record(const sp_accept_window *window, size_t j, const float *p);

#endif
