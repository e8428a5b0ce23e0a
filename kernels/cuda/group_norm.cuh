#ifndef SP_CUDA_GROUP_NORM_CUH
#define SP_CUDA_GROUP_NORM_CUH
/* GroupNorm as the scale and shift of each channel, which the convolution that reads the picture applies on the way:
 *
 *     norm(x) = (x - mean) / sqrt(variance + eps) * gain + bias = x scale + shift
 *
 * with the mean and the population variance over the pixels and the channels of a group. Rows of x are x_stride
 * floats apart; what lies beyond the channels is not used. scratch holds sp_cuda_group_norm_scratch floats. */
#include "kernels/cuda/cuda.cuh"

extern "C" {
#include "kernels/kernels.h"
}

typedef struct sp_cuda_group_norm {
    const float *x;
    size_t x_stride;         /* a multiple of 4 */
    sp_plane plane;
    size_t groups;           /* they divide the channels */
    float eps;
    const float *gain, *bias; /* [channels] */
    float2 *affine;          /* [channels] out: scale and shift */
    float *scratch;
} sp_cuda_group_norm;

size_t sp_cuda_group_norm_scratch(sp_plane plane);
SP_CHECK cudaError_t sp_cuda_group_norm_run(cudaStream_t stream, const sp_cuda_group_norm *call);

#endif
