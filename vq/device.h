#ifndef SP_VQ_DEVICE_H
#define SP_VQ_DEVICE_H
/* The decoder of a codec for a device: its layers over three buffers, with their weights where the checkpoint has them.
 *
 *     sp_vq_device_plan plan;
 *     SP_TRY(sp_vq_device_plan_make(&plan, &config, tensors, codes, err));   // codes as the decoder uses them, or NULL
 *     ... plan.plan ...                                                      // while tensors and codes are there
 *     sp_vq_device_plan_free(&plan); */
#include "kernels/device_codec.h"
#include "vq/network.h"

typedef struct sp_vq_device_plan {
    sp_device_codec_plan plan;
    sp_vq_network decoder;
    sp_vq_map post_quant;
    sp_device_layer *layers;
    sp_arena arena; /* norms and biases */
} sp_vq_device_plan;

SP_CHECK sp_status sp_vq_device_plan_make(sp_vq_device_plan *out, const sp_codec_config *config,
                                          const sp_tensors *tensors, const float *codes, sp_error *err);
void sp_vq_device_plan_free(sp_vq_device_plan *plan);

#endif
