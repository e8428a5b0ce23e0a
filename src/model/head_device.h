#ifndef SP_HEAD_DEVICE_H
#define SP_HEAD_DEVICE_H
/* What a device needs of a diffusion head.
 *
 *     SP_TRY(sp_head_device_open(&head, &config, family, tensors, device, number, max_rows, err));
 *
 * is, with a head of the plain back end, whose weights are rows of floats:
 *
 *     sp_head_device_plan plan;
 *     SP_TRY(sp_head_device_plan_make(&plan, head, max_rows, err));   // points into head
 *     SP_TRY(device->open(&head, number, &plan.plan, err));
 *     sp_head_device_plan_free(&plan); */
#include "kernels/device_head.h"
#include "model/head.h"

typedef struct sp_head_device_plan {
    sp_device_head_plan plan;
    sp_device_head_block *blocks;
    sp_device_head_step *steps;
} sp_head_device_plan;

SP_CHECK sp_status sp_head_device_plan_make(sp_head_device_plan *out, const sp_head *head, size_t max_rows,
                                            sp_error *err);
void sp_head_device_plan_free(sp_head_device_plan *plan);

SP_CHECK sp_status sp_head_device_open(sp_device_head **out, const sp_head_config *config, const sp_family *family,
                                       const sp_tensors *tensors, const sp_device_head_ops *device, int number,
                                       size_t max_rows, sp_error *err);

#endif
