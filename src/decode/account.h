#ifndef SP_DECODE_ACCOUNT_H
#define SP_DECODE_ACCOUNT_H
/* The windows of a picture and what is counted of its passes, alike whether the host or a device runs the loop. For
 * decode.c and device.c alone. */
#include "decode/decode.h"

/* The rows of the next window, at most max_window. */
size_t sp_decode_rows(const sp_decoder *d, const sp_decode_plan *plan);

/* One more pass, after which n_final tokens from position first on are final. */
void sp_decode_count(sp_decoder *d, size_t first, size_t n_final);

/* Tells the plan's progress that so many tokens are final of one of the pictures in work together: SP_ECANCELLED when
 * it asks to stop. */
SP_CHECK sp_status sp_decode_progress(const sp_decoder *d, const sp_decode_plan *plan, size_t n_final, size_t together,
                                      sp_error *err);

#endif
