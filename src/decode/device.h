#ifndef SP_DECODE_DEVICE_H
#define SP_DECODE_DEVICE_H
/* Pictures by the loop of a device (kernels/device_loop.h): the device drafts, accepts and commits; the host keeps it
 * busy, chooses the windows and counts. One picture, for decode.c:
 *
 *     if (sp_device_can_decode(d, plan)) SP_TRY(sp_device_decode(d, plan, begun, err));
 *
 * Several that share their passes, each with a decoder of its own that counts for it (its window is not used):
 *
 *     sp_device_batch batch = {loop, places, 16, max_window, pacers, over, NULL, user};
 *     SP_TRY(sp_device_gather(&batch, err));
 *     for (size_t at = 0; at < 16; at++) ... the prefix pass of places[at], its begun, sp_device_begin(&batch, at, err)
 *     SP_TRY(sp_device_run(&batch, err));        // calls over for each picture
 *
 * A picture's tokens are those that it has alone, beside any others. */
#include "decode/decode.h"

typedef enum { SP_PLACE_EMPTY, SP_PLACE_LIVE, SP_PLACE_OVER } sp_place_state;

/* Where a picture of a batch is drawn. */
typedef struct sp_device_place {
    sp_decoder *decoder;        /* left as sp_decode leaves it */
    const sp_decode_plan *plan; /* without tree or branches */
    double begun;               /* by the clock, when its prefix pass was over */
    sp_place_state state;
    size_t first; /* positions before it are final */
    sp_error why; /* of one that is over, unless it is complete */
} sp_device_place;

typedef struct sp_device_batch {
    const sp_device_loop *loop;
    sp_device_place *places; /* [n] zero at first but for what the caller knows */
    size_t n;
    size_t max_window;
    sp_pacer *pacers; /* by sp_device_step of the pictures under way, of n at most */
    /* A picture is over, and the place is empty: another may begin there, and the pass that follows takes it along.
     * Nothing is queued on the device now. NULL: the error of the only picture is that of the run. */
    sp_status (*over)(void *user, size_t at, sp_error *err);
    /* Passes are queued, and the host would wait for them: time for what can be done beside them. May be NULL. */
    sp_status (*meanwhile)(void *user, sp_error *err);
    void *user;
} sp_device_batch;

/* The longest window that n pictures can have together. */
size_t sp_device_limit(const sp_device_loop *loop, size_t n, size_t max_window);

/* Whether the plan's device has a loop for its rule, drafter and branches. Leaves in d->tokens how positions start. */
bool sp_device_can_decode(sp_decoder *d, const sp_decode_plan *plan);

/* Whether two plans that the device can decode may share passes. */
bool sp_device_can_share(const sp_decode_plan *a, const sp_decode_plan *b, size_t n_codes);

SP_CHECK sp_status sp_device_gather(const sp_device_batch *batch, sp_error *err);

/* Puts the picture on the device with what sp_device_can_decode has left. */
SP_CHECK sp_status sp_device_begin(sp_device_batch *batch, size_t at, sp_error *err);

/* Passes until every place is empty. */
SP_CHECK sp_status sp_device_run(sp_device_batch *batch, sp_error *err);

/* All passes of one picture after the prefix pass. Leaves what sp_decode leaves. */
SP_CHECK sp_status sp_device_decode(sp_decoder *d, const sp_decode_plan *plan, double begun, sp_error *err);

#endif
