/* Skinny matrix product: 1 to 128 rows of x against all of W, one fixed order of every sum.
 *
 * Roofline. n k bf16 weights are read once, 2 n k bytes; x is at most 128 rows and stays in the second-level cache. Up
 * to about 128 rows memory is the bound: 4096 x 4096 is 34 MB, 10 us at the 3.35 TB/s of an H100, and its 2 x 128 x
 * 4096 x 4096 operations are 4.3 G, 7 us at 600 T/s of mma.sync. The bytes in flight that hide 1 us of latency are 25
 * KB a multiprocessor; a block of 4 warps keeps 5 stages of 8 KB under way, and 3 to 4 blocks fit beside each other.
 *
 * Shape. W is the left operand of the tensor cores, 16 outputs by 16 inputs, so that 1 row of x wastes 7 columns of 8
 * and not 15 rows of 16. A warp owns 16 outputs and a slice of k; a stage is 64 inputs: 2 KB of W for each warp, copied
 * and read by its own lanes, and 64 columns of x, shared by the block. The inputs of a stage are permuted alike in both
 * operands so that every access is 16 bytes: step s of four feeds input 16 q + 4 s + 2 r + e where the tensor core
 * wants 2 q + 8 r + e. Beyond 128 rows the grid has groups of 128, which read the weights again.
 *
 * Order. Inputs ascend by 64 within a slice, and the slices are a function of n and k alone; whoever reads the product
 * adds them in ascending order. The number of rows chooses only how many columns of the tensor cores are in use. */
#include "kernels/cuda/gemm.cuh"

size_t sp_cuda_weight_bytes(size_t n, size_t k)
{
    return sp_gemm_tiles(n) * sp_gemm_stages(k) * SP_GEMM_WORDS * sizeof(uint4);
}

/* Enough warps to fill a GPU of today, each with at least 4 stages. */
int sp_cuda_slices(size_t n, size_t k)
{
    const size_t enough = 1024, most = 8;
    size_t tiles = sp_gemm_tiles(n), stages = sp_gemm_stages(k), slices = 1;
    while (slices < most && tiles * slices < enough && stages / (2 * slices) >= 4) slices *= 2;
    return static_cast<int>(slices);
}

/* A thread writes one uint4: the four operand words of a lane in a step. */
__global__ void pack_kernel(const uint16_t *rows, size_t n, size_t k, size_t stages, size_t count, uint4 *tiles)
{
    sp_wait_launch();
    size_t i = static_cast<size_t>(blockIdx.x) * blockDim.x + threadIdx.x;
    if (i >= count) return;
    size_t lane = i % SP_WARP, step = i / SP_WARP % 4, g = lane / 4, q = lane % 4;
    size_t stage = i / SP_GEMM_WORDS % stages, tile = i / SP_GEMM_WORDS / stages;
    uint32_t word[4];
    for (size_t part = 0; part < 4; part++) {
        size_t output = tile * SP_GEMM_TILE + g + part % 2 * 8;
        size_t input = stage * SP_GEMM_DEPTH + 16 * q + 4 * step + part / 2 * 2;
        uint32_t low = output < n && input < k ? rows[output * k + input] : 0;
        uint32_t high = output < n && input + 1 < k ? rows[output * k + input + 1] : 0;
        word[part] = low | high << 16;
    }
    tiles[i] = make_uint4(word[0], word[1], word[2], word[3]);
}

cudaError_t sp_cuda_pack(cudaStream_t stream, const uint16_t *rows, size_t n, size_t k, void *tiles)
{
    size_t count = sp_cuda_weight_bytes(n, k) / sizeof(uint4);
    return SP_LAUNCH(pack_kernel, sp_blocks(count, 256), 256, 0, stream, rows, n, k, sp_gemm_stages(k), count,
                     static_cast<uint4 *>(tiles));
}

/* Rows by SP_GEMM_ROWS along z. y_stride: floats from a slice to the next. */
template <class S>
__global__ void SP_BOUNDS(S::threads, 1) gemm_kernel(sp_gemm_arguments a, float *y, size_t y_stride)
{
    SP_SHARED(uint4, shared);
    size_t slices = gridDim.y, slice = blockIdx.y, output = sp_gemm_output<S>();
    size_t first = static_cast<size_t>(blockIdx.z) * SP_GEMM_ROWS;
    float sum[S::row_tiles][4] = {};
    a.x += first * a.k;
    a.n_rows -= first;
    sp_gemm_multiply<S>(a, a.stages * slice / slices, a.stages * (slice + 1) / slices, shared, sum);
    y += slice * y_stride + first * a.n + output;
#pragma unroll
    for (int t = 0; t < S::row_tiles; t++) {
#pragma unroll
        for (int i = 0; i < 4; i++) {
            size_t row = static_cast<size_t>(t) * 8 + 2 * (threadIdx.x % 4) + i % 2, below = i / 2 * 8;
            if (row < a.n_rows && output + below < a.n) y[row * a.n + below] = sum[t][i];
        }
    }
}

cudaError_t sp_cuda_gemm(cudaStream_t stream, const sp_cuda_weight &w, const uint16_t *x, size_t n_rows, float *sums,
                         sp_partial *y)
{
    *y = sp_partial{sums, w.slices, n_rows * w.n};
    sp_gemm_arguments a = sp_gemm_arguments_of(w, x, n_rows);
    return sp_gemm_choose(n_rows, [&](auto shape) {
        using S = decltype(shape);
        dim3 grid(sp_blocks(a.n, S::outputs), static_cast<unsigned>(w.slices), sp_blocks(n_rows, SP_GEMM_ROWS));
        return SP_LAUNCH(gemm_kernel<S>, grid, S::threads, S::shared, stream, a, sums, y->stride);
    });
}

__global__ void finish_kernel(sp_partial x, const float *bias, size_t count, size_t n, float *y)
{
    sp_wait_launch();
    size_t i = static_cast<size_t>(blockIdx.x) * blockDim.x + threadIdx.x;
    if (i >= count) return;
    float sum = x.sum[i];
    for (int slice = 1; slice < x.slices; slice++) sum += x.sum[static_cast<size_t>(slice) * x.stride + i];
    y[i] = bias ? sum + bias[i % n] : sum;
}

cudaError_t sp_cuda_finish(cudaStream_t stream, sp_partial x, const float *bias, size_t n_rows, size_t n, float *y)
{
    size_t count = n_rows * n;
    return SP_LAUNCH(finish_kernel, sp_blocks(count, 256), 256, 0, stream, x, bias, count, n, y);
}
