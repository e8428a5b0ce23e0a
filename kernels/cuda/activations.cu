/* Between two matrix products: adds the slices of the first, applies the activation, rounds to bf16 for the second.
 *
 * Roofline: bytes only. swiglu of 128 rows of 11008 reads 2 x 11008 x 4 x 128 = 11 MB a slice and writes 2.8 MB, all of
 * it in the second-level cache of an H100 (50 MB, about 5.5 TB/s): 3 us, the time of a launch. Two elements a thread,
 * so that a store is one word and a load 8 bytes. */
#include "kernels/cuda/ops.cuh"

enum { THREADS = 256 };

/* x / (1 + e^-x); for x below -88 the exponential is infinite and the quotient -0. */
__device__ static inline float silu(float x) { return x / (1.0f + expf(-x)); }
__device__ static inline float gelu(float x) { return 0.5f * x * (1.0f + erff(x * 0.70710678f)); }

__global__ void SP_BOUNDS(THREADS, 1) swiglu_kernel(sp_partial x, size_t pairs, size_t width, uint32_t *y)
{
    sp_wait_launch();
    size_t pair = static_cast<size_t>(blockIdx.x) * THREADS + threadIdx.x;
    if (pair >= pairs) return;
    size_t row = 2 * pair / width, column = 2 * pair % width;
    float2 gate = sp_partial_pair(x, 2 * row * width + column);
    float2 up = sp_partial_pair(x, (2 * row + 1) * width + column);
    y[pair] = sp_pack_bf16(silu(gate.x) * up.x, silu(gate.y) * up.y);
}

cudaError_t sp_cuda_swiglu(cudaStream_t stream, sp_partial x, size_t n_rows, size_t width, uint16_t *y)
{
    size_t pairs = n_rows * width / 2;
    return SP_LAUNCH(swiglu_kernel, sp_blocks(pairs, THREADS), THREADS, 0, stream, x, pairs, width,
                     reinterpret_cast<uint32_t *>(y));
}

__global__ void SP_BOUNDS(THREADS, 1) gelu_kernel(sp_partial x, const float *bias, size_t pairs, size_t width,
                                                  uint32_t *y)
{
    sp_wait_launch();
    size_t pair = static_cast<size_t>(blockIdx.x) * THREADS + threadIdx.x;
    if (pair >= pairs) return;
    float2 v = sp_partial_pair(x, 2 * pair);
    size_t column = 2 * pair % width;
    y[pair] = sp_pack_bf16(gelu(v.x + bias[column]), gelu(v.y + bias[column + 1]));
}

cudaError_t sp_cuda_gelu(cudaStream_t stream, sp_partial x, const float *bias, size_t n_rows, size_t width,
                         uint16_t *y)
{
    size_t pairs = n_rows * width / 2;
    return SP_LAUNCH(gelu_kernel, sp_blocks(pairs, THREADS), THREADS, 0, stream, x, bias, pairs, width,
                     reinterpret_cast<uint32_t *>(y));
}
