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
 * wants 2 q + 8 r + e.
 *
 * Order. Inputs ascend by 64 within a slice, and the slices are a function of n and k alone; whoever reads the product
 * adds them in ascending order. The number of rows chooses only how many columns of the tensor cores are in use. */
#include "kernels/cuda/ops.cuh"

enum {
    TILE = 16,   /* outputs of a warp */
    DEPTH = 64,  /* inputs of a stage */
    WORDS = 4 * SP_WARP, /* uint4 of W in a stage of a warp */
    X_STRIDE = DEPTH + 8 /* bf16 of a row of x in a stage: rows start 4 banks apart */
};

size_t sp_cuda_weight_bytes(size_t n, size_t k)
{
    return (n + TILE - 1) / TILE * ((k + DEPTH - 1) / DEPTH) * WORDS * sizeof(uint4);
}

/* Enough warps to fill a GPU of today, each with at least 4 stages. */
int sp_cuda_slices(size_t n, size_t k)
{
    const size_t enough = 1024, most = 8;
    size_t tiles = (n + TILE - 1) / TILE, stages = (k + DEPTH - 1) / DEPTH, slices = 1;
    while (slices < most && tiles * slices < enough && stages / (2 * slices) >= 4) slices *= 2;
    return static_cast<int>(slices);
}

/* A thread writes one uint4: the four operand words of a lane in a step. */
__global__ void pack_kernel(const uint16_t *rows, size_t n, size_t k, size_t stages, size_t count, uint4 *tiles)
{
    size_t i = static_cast<size_t>(blockIdx.x) * blockDim.x + threadIdx.x;
    if (i >= count) return;
    size_t lane = i % SP_WARP, step = i / SP_WARP % 4, stage = i / WORDS % stages, tile = i / WORDS / stages;
    size_t g = lane / 4, q = lane % 4;
    uint32_t word[4];
    for (size_t part = 0; part < 4; part++) {
        size_t output = tile * TILE + g + part % 2 * 8;
        size_t input = stage * DEPTH + 16 * q + 4 * step + part / 2 * 2;
        uint32_t low = output < n && input < k ? rows[output * k + input] : 0;
        uint32_t high = output < n && input + 1 < k ? rows[output * k + input + 1] : 0;
        word[part] = low | high << 16;
    }
    tiles[i] = make_uint4(word[0], word[1], word[2], word[3]);
}

cudaError_t sp_cuda_pack(cudaStream_t stream, const uint16_t *rows, size_t n, size_t k, void *tiles)
{
    size_t count = sp_cuda_weight_bytes(n, k) / sizeof(uint4);
    return SP_LAUNCH(pack_kernel, sp_blocks(count, 256), 256, 0, stream, rows, n, k, (k + DEPTH - 1) / DEPTH, count,
                     static_cast<uint4 *>(tiles));
}

struct gemm_arguments {
    const uint4 *weights;
    const uint16_t *x;
    float *y;
    size_t n, k, stages, n_rows, y_stride; /* y_stride: floats from a slice to the next */
};

/* Starts the copy of a stage: this warp's weights, and the block's columns of x; zeros beyond either. */
template <int ROW_TILES, int WARPS>
__device__ static inline void fetch(const gemm_arguments &a, size_t tile, size_t stage, size_t end, uint4 *weights,
                                    uint16_t *x)
{
    if (stage < end) {
        unsigned lane = threadIdx.x % SP_WARP;
        const uint4 *from = a.weights + (tile * a.stages + stage) * WORDS + lane;
        bool beyond = tile * TILE >= a.n;
        for (unsigned step = 0; step < 4; step++)
            sp_copy_async16(weights + step * SP_WARP + lane, beyond ? a.weights : from + step * SP_WARP, beyond);
        for (unsigned i = threadIdx.x; i < ROW_TILES * 8 * (DEPTH / 8); i += WARPS * SP_WARP) {
            unsigned row = i / (DEPTH / 8), column = i % (DEPTH / 8) * 8;
            size_t input = stage * DEPTH + column;
            bool zero = row >= a.n_rows || input >= a.k;
            sp_copy_async16(x + row * X_STRIDE + column, zero ? a.x : a.x + row * a.k + input, zero);
        }
    }
    sp_copy_commit();
}

template <int ROW_TILES, int WARPS, int STAGES>
__global__ void SP_BOUNDS(WARPS * SP_WARP, 1) gemm_kernel(gemm_arguments a)
{
    const size_t stage_weights = WARPS * WORDS, stage_x = static_cast<size_t>(ROW_TILES) * 8 * X_STRIDE;
    SP_SHARED(uint4, shared_weights);
    uint16_t *shared_x = reinterpret_cast<uint16_t *>(shared_weights + STAGES * stage_weights);
    unsigned warp = threadIdx.x / SP_WARP, lane = threadIdx.x % SP_WARP, g = lane / 4, q = lane % 4;
    size_t tile = static_cast<size_t>(blockIdx.x) * WARPS + warp, slices = gridDim.y, slice = blockIdx.y;
    size_t stage = a.stages * slice / slices, end = a.stages * (slice + 1) / slices;
    uint4 *own_weights = shared_weights + warp * WORDS;
    for (int ahead = 0; ahead < STAGES - 1; ahead++)
        fetch<ROW_TILES, WARPS>(a, tile, stage + ahead, end, own_weights + ahead * stage_weights,
                                shared_x + ahead * stage_x);
    float sum[ROW_TILES][4] = {};
    for (int at = 0; stage < end; stage++, at = at + 1 < STAGES ? at + 1 : 0) {
        sp_copy_wait<STAGES - 2>();
        __syncthreads(); /* the stage has come for all, and all have left the one before it, which is filled next */
        int free_stage = at ? at - 1 : STAGES - 1;
        fetch<ROW_TILES, WARPS>(a, tile, stage + STAGES - 1, end, own_weights + free_stage * stage_weights,
                                shared_x + free_stage * stage_x);
        const uint4 *w = own_weights + at * stage_weights + lane;
        const uint16_t *x = shared_x + at * stage_x + g * X_STRIDE + 16 * q;
        uint4 words[4] = {w[0], w[SP_WARP], w[2 * SP_WARP], w[3 * SP_WARP]};
#pragma unroll
        for (int t = 0; t < ROW_TILES; t++) {
            const uint4 *columns = reinterpret_cast<const uint4 *>(x + t * 8 * X_STRIDE);
            uint4 pair[2] = {columns[0], columns[1]};
#pragma unroll
            for (int step = 0; step < 4; step++) {
                const uint32_t left[4] = {words[step].x, words[step].y, words[step].z, words[step].w};
                const uint4 &both = pair[step / 2];
                const uint32_t right[2] = {step % 2 ? both.z : both.x, step % 2 ? both.w : both.y};
                sp_mma_bf16(sum[t], left, right);
            }
        }
    }
    size_t output = tile * TILE + g;
    float *y = a.y + slice * a.y_stride + output;
#pragma unroll
    for (int t = 0; t < ROW_TILES; t++) {
#pragma unroll
        for (int i = 0; i < 4; i++) {
            size_t row = static_cast<size_t>(t) * 8 + 2 * q + i % 2, below = i / 2 * 8;
            if (row < a.n_rows && output + below < a.n) y[row * a.n + below] = sum[t][i];
        }
    }
}

template <int ROW_TILES, int WARPS, int STAGES>
static cudaError_t launch(cudaStream_t stream, const gemm_arguments &a, int slices)
{
    size_t shared = STAGES * (WARPS * WORDS * sizeof(uint4) + ROW_TILES * 8 * X_STRIDE * sizeof(uint16_t));
    dim3 grid(sp_blocks(a.n, WARPS * TILE), static_cast<unsigned>(slices));
    return SP_LAUNCH((gemm_kernel<ROW_TILES, WARPS, STAGES>), grid, WARPS * SP_WARP, shared, stream, a);
}

cudaError_t sp_cuda_gemm(cudaStream_t stream, const sp_cuda_weight &w, const uint16_t *x, size_t n_rows, float *sums,
                         sp_partial *y)
{
    const size_t most = 128;
    *y = sp_partial{sums, w.slices, n_rows * w.n};
    for (size_t first = 0; first < n_rows; first += most) {
        size_t left = n_rows - first, rows = left < most ? left : most;
        gemm_arguments a = {static_cast<const uint4 *>(w.tiles), x + first * w.k, sums + first * w.n, w.n, w.k,
                            (w.k + DEPTH - 1) / DEPTH, rows, y->stride};
        cudaError_t error = rows <= 8    ? launch<1, 4, 6>(stream, a, w.slices)
                            : rows <= 16 ? launch<2, 4, 6>(stream, a, w.slices)
                            : rows <= 32 ? launch<4, 4, 6>(stream, a, w.slices)
                            : rows <= 64 ? launch<8, 8, 4>(stream, a, w.slices)
                                         : launch<16, 8, 4>(stream, a, w.slices);
        if (error != cudaSuccess) return error;
    }
    return cudaSuccess;
}

__global__ void finish_kernel(sp_partial x, const float *bias, size_t count, size_t n, float *y)
{
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
