#ifndef SP_DECODE_DEVICE_H
#define SP_DECODE_DEVICE_H
/* A picture by the loop of a device (kernels/device_loop.h), for decode.c alone: the device drafts, accepts and
 * commits; the host keeps it busy, chooses the windows and counts.
 *
 *     if (sp_device_can_decode(d, plan)) SP_TRY(sp_device_decode(d, plan, begun, err)); */
#include "decode/decode.h"

/* Whether the plan's device has a loop for its rule, drafter and branches. Uses d->tokens. */
bool sp_device_can_decode(sp_decoder *d, const sp_decode_plan *plan);

/* All passes after the prefix pass, which ended at the given time of the clock, with the tokens that
 * sp_device_can_decode has left. Leaves what sp_decode leaves. */
SP_CHECK sp_status sp_device_decode(sp_decoder *d, const sp_decode_plan *plan, double begun, sp_error *err);

#endif
