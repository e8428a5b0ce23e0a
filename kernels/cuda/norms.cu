/* Residual addition and RMSNorm in one: between two matrix products of a block.
 *
 * Roofline: bytes only. 128 rows of 4096 read the slices of the last product (2 MB each) and x, write x and y: 10 MB in
 * the second-level cache, 2 us. One block a row; a thread owns the same elements in both passes, so that x is read back
 * by who wrote it. The sum of squares has an order that depends on the width alone. */
#include "kernels/cuda/ops.cuh"

enum { THREADS = 256 };

__global__ void SP_BOUNDS(THREADS, 1)
    norm_kernel(float *x, sp_partial add, const float *gain, float eps, size_t width, uint16_t *y, float *features)
{
    sp_wait_launch();
    SP_SHARED(float, part);
    size_t row = blockIdx.x;
    float *own = x + row * width;
    float squares = 0.0f;
    for (size_t i = 2 * threadIdx.x; i < width; i += 2 * THREADS) {
        float2 v = *reinterpret_cast<float2 *>(own + i);
        if (add.sum) {
            float2 more = sp_partial_pair(add, row * width + i);
            v.x += more.x;
            v.y += more.y;
            *reinterpret_cast<float2 *>(own + i) = v;
        }
        squares = fmaf(v.x, v.x, squares);
        squares = fmaf(v.y, v.y, squares);
    }
    float scale = gain ? 1.0f / sqrtf(sp_block_sum(squares, part) / static_cast<float>(width) + eps) : 1.0f;
    for (size_t i = 2 * threadIdx.x; i < width; i += 2 * THREADS) {
        float2 v = *reinterpret_cast<float2 *>(own + i);
        v.x = gain ? v.x * scale * gain[i] : v.x;
        v.y = gain ? v.y * scale * gain[i + 1] : v.y;
        if (y) *reinterpret_cast<uint32_t *>(y + row * width + i) = sp_pack_bf16(v.x, v.y);
        if (features) *reinterpret_cast<float2 *>(features + row * width + i) = v;
    }
}

cudaError_t sp_cuda_norm(cudaStream_t stream, float *x, sp_partial add, const float *gain, float eps, size_t n_rows,
                         size_t width, uint16_t *y, float *features)
{
    return SP_LAUNCH(norm_kernel, static_cast<unsigned>(n_rows), THREADS, THREADS / SP_WARP * sizeof(float), stream, x,
                     add, gain, eps, width, y, features);
}
