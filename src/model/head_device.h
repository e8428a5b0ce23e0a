#ifndef SP_HEAD_DEVICE_H
#define SP_HEAD_DEVICE_H
/* A diffusion head on a device.
 *
 *     SP_TRY(sp_head_use_device(head, device->heads, number, err));
 *
 * opens what this makes of it:
 *
 *     sp_head_device_plan plan;
 *     SP_TRY(sp_head_device_plan_make(&plan, head, err));   // points into head
 *     SP_TRY(heads->open(&on_device, number, &plan.plan, err));
 *     sp_head_device_plan_free(&plan); */
#include "kernels/device_head.h"
#include "model/head.h"

typedef struct sp_head_device_plan {
    sp_device_head_plan plan;
    sp_device_head_block *blocks;
    sp_device_head_step *steps;
} sp_head_device_plan;

/* Of a head of the plain back end, whose weights are rows of floats. */
SP_CHECK sp_status sp_head_device_plan_make(sp_head_device_plan *out, const sp_head *head, sp_error *err);
void sp_head_device_plan_free(sp_head_device_plan *plan);

/* From now on the head's chains run on the device of this number, and its matrices leave the memory of the host. Not
 * twice. */
SP_CHECK sp_status sp_head_use_device(sp_head *head, const sp_device_head_ops *device, int number, sp_error *err);
const sp_device_head *sp_head_on_device(const sp_head *head); /* NULL: it is not */
size_t sp_head_device_bytes(const sp_head *head);             /* of the device's memory */

/* As sp_head_step, for a head on a device and a context of its own there; not by several threads at a time. */
SP_CHECK sp_status sp_head_device_step(const sp_head *head, sp_device_head_context *context, const sp_chain_rows *rows,
                                       sp_error *err);

#endif
