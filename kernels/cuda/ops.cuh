#ifndef SP_CUDA_OPS_CUH
#define SP_CUDA_OPS_CUH
/* The operations of a transformer on a device: each enqueues its kernels on a stream and returns at once. Pointers are
 * device memory. kernels/ref has the specification of those that share a name with it. */
#include "kernels/cuda/cuda.cuh"

/* What a matrix product leaves: slices sums of k / slices inputs each, to be added in ascending order.
 * sum [slices, n_rows, n]. */
struct sp_partial {
    const float *sum;
    int slices;
    size_t stride; /* floats from a slice to the next */
};

/* y bf16 [n_rows, width] = silu(gate) * up, x rows [gate | up] of 2 width. width is even. */
cudaError_t sp_cuda_swiglu(cudaStream_t stream, sp_partial x, size_t n_rows, size_t width, uint16_t *y);

/* y bf16 [n_rows, width] = gelu(x + bias [width]) by erf. width is even. */
cudaError_t sp_cuda_gelu(cudaStream_t stream, sp_partial x, const float *bias, size_t n_rows, size_t width,
                         uint16_t *y);

/* Elements i, i + 1 of a product: its slices in ascending order. */
__device__ static inline float2 sp_partial_pair(const sp_partial &x, size_t i)
{
    float2 sum = *reinterpret_cast<const float2 *>(x.sum + i);
    for (int slice = 1; slice < x.slices; slice++) {
        float2 part = *reinterpret_cast<const float2 *>(x.sum + static_cast<size_t>(slice) * x.stride + i);
        sum.x += part.x;
        sum.y += part.y;
    }
    return sum;
}

#endif
