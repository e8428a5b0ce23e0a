#ifndef SP_CUDA_TABLE_CUH
#define SP_CUDA_TABLE_CUH
/* The parts of the table that the back end exports. */
extern "C" {
#include "kernels/device.h"
}

extern const sp_device_model_ops sp_cuda_models;
extern const sp_device_masked_ops sp_cuda_masked;
extern "C" const sp_device_codec_ops sp_cuda_codec;
extern "C" const sp_device_head_ops sp_cuda_head_ops;

#endif
