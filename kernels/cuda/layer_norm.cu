/* Residual addition, with the bias of the product that is added, and layer norm in one.
 *
 * Roofline: bytes only, as norms.cu: 640 rows of 1024 read x and the slices of the last product and write x and y, 7 MB
 * and 2.6 MB a slice, in an H100's second-level cache: 2 to 4 us. One block a row; a thread owns the same elements in
 * all three walks, so that x is read back by who wrote it. Both sums have an order that depends on the width alone. */
#include "kernels/cuda/ops.cuh"

enum { THREADS = 256 };

__global__ void SP_BOUNDS(THREADS, 1)
    layer_norm_kernel(float *x, sp_partial add, const float *add_bias, sp_layer_norm norm, size_t width, uint16_t *y,
                      float *features)
{
    sp_wait_launch();
    SP_SHARED(float, part);
    size_t row = blockIdx.x;
    float *own = x + row * width;
    float sum = 0.0f, squares = 0.0f;
    for (size_t i = 2 * threadIdx.x; i < width; i += 2 * THREADS) {
        float2 v = *reinterpret_cast<float2 *>(own + i);
        if (add.sum) {
            float2 more = sp_partial_pair(add, row * width + i);
            v.x += more.x + add_bias[i];
            v.y += more.y + add_bias[i + 1];
            *reinterpret_cast<float2 *>(own + i) = v;
        }
        sum += v.x;
        sum += v.y;
    }
    float mean = sp_block_sum(sum, part) / static_cast<float>(width);
    for (size_t i = 2 * threadIdx.x; i < width; i += 2 * THREADS) {
        float2 v = *reinterpret_cast<float2 *>(own + i);
        squares = fmaf(v.x - mean, v.x - mean, squares);
        squares = fmaf(v.y - mean, v.y - mean, squares);
    }
    float scale = 1.0f / sqrtf(sp_block_sum(squares, part) / static_cast<float>(width) + norm.eps);
    for (size_t i = 2 * threadIdx.x; i < width; i += 2 * THREADS) {
        float2 v = *reinterpret_cast<float2 *>(own + i);
        v.x = fmaf((v.x - mean) * scale, norm.gain[i], norm.bias[i]);
        v.y = fmaf((v.y - mean) * scale, norm.gain[i + 1], norm.bias[i + 1]);
        if (y) *reinterpret_cast<uint32_t *>(y + row * width + i) = sp_pack_bf16(v.x, v.y);
        if (features) *reinterpret_cast<float2 *>(features + row * width + i) = v;
    }
}

cudaError_t sp_cuda_layer_norm(cudaStream_t stream, float *x, sp_partial add, const float *add_bias,
                               const sp_layer_norm &norm, size_t n_rows, size_t width, uint16_t *y, float *features)
{
    return SP_LAUNCH(layer_norm_kernel, static_cast<unsigned>(n_rows), THREADS, THREADS / SP_WARP * sizeof(float),
                     stream, x, add, add_bias, norm, width, y, features);
}
