#ifndef SP_CUDA_TABLE_CUH
#define SP_CUDA_TABLE_CUH
/* The parts of the table that the back end exports. */
#include "kernels/cuda/cuda.cuh"

extern "C" {
#include "kernels/device.h"
}

extern const sp_device_model_ops sp_cuda_models;
extern const sp_device_masked_ops sp_cuda_masked;
extern "C" const sp_device_codec_ops sp_cuda_codec;
extern "C" const sp_device_head_ops sp_cuda_head_ops;

/* All that a codec does between its tokens and its bytes on the device, for who times it. */
cudaGraphExec_t sp_cuda_codec_graph(const sp_device_codec *codec);

#endif
