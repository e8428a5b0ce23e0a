#ifndef SP_CUDA_GEMM_CUH
#define SP_CUDA_GEMM_CUH
/* The inside of the skinny matrix product (gemm.cu says why it is as it is), for kernels that differ in what becomes of
 * the sums: gemm.cu writes them, head_race.cu draws from them.
 *
 *     template <class S> __global__ void SP_BOUNDS(S::threads, 1) kernel(sp_gemm_arguments a, ...)
 *     {
 *         SP_SHARED(uint4, shared);                            // S::shared bytes
 *         float sum[S::row_tiles][4] = {};
 *         sp_gemm_multiply<S>(a, 0, a.stages, shared, sum);
 *     }
 *     sp_gemm_choose(rows, [&](auto shape) { ... launch kernel<decltype(shape)> ... });
 *
 * sum[t][i] is of row 8 t + 2 q + i % 2 and output sp_gemm_output<S>() + i / 2 * 8, q = lane % 4. */
#include "kernels/cuda/ops.cuh"

enum {
    SP_GEMM_TILE = 16,   /* outputs of a warp */
    SP_GEMM_DEPTH = 64,  /* inputs of a stage */
    SP_GEMM_WORDS = 4 * SP_WARP, /* uint4 of W in a stage of a warp */
    SP_GEMM_STRIDE = SP_GEMM_DEPTH + 8, /* bf16 of a row of x in a stage: rows start 4 banks apart */
    SP_GEMM_ROWS = 128   /* most rows of a launch */
};

static inline size_t sp_gemm_tiles(size_t n) { return (n + SP_GEMM_TILE - 1) / SP_GEMM_TILE; }
static inline size_t sp_gemm_stages(size_t k) { return (k + SP_GEMM_DEPTH - 1) / SP_GEMM_DEPTH; }

struct sp_gemm_arguments {
    const uint4 *weights;
    const uint16_t *x;
    size_t n, k, stages, n_rows;
};

template <int ROW_TILES, int WARPS, int STAGES> struct sp_gemm_shape {
    static constexpr int row_tiles = ROW_TILES, warps = WARPS, stages = STAGES, threads = WARPS * SP_WARP;
    static constexpr int rows = 8 * ROW_TILES, outputs = WARPS * SP_GEMM_TILE;
    static constexpr size_t stage_weights = WARPS * SP_GEMM_WORDS;                          /* uint4 */
    static constexpr size_t stage_x = static_cast<size_t>(8 * ROW_TILES) * SP_GEMM_STRIDE; /* bf16 */
    static constexpr size_t shared = STAGES * (stage_weights * sizeof(uint4) + stage_x * sizeof(uint16_t));
};

/* The shape for so many rows, or groups of SP_GEMM_ROWS. */
template <class Launch> static inline cudaError_t sp_gemm_choose(size_t rows, Launch launch)
{
    return rows <= 8    ? launch(sp_gemm_shape<1, 4, 6>())
           : rows <= 16 ? launch(sp_gemm_shape<2, 4, 6>())
           : rows <= 32 ? launch(sp_gemm_shape<4, 4, 6>())
           : rows <= 64 ? launch(sp_gemm_shape<8, 8, 4>())
                        : launch(sp_gemm_shape<16, 8, 4>());
}

static inline sp_gemm_arguments sp_gemm_arguments_of(const sp_cuda_weight &w, const uint16_t *x, size_t n_rows)
{
    return sp_gemm_arguments{static_cast<const uint4 *>(w.tiles), x, w.n, w.k, sp_gemm_stages(w.k), n_rows};
}

/* The tile of a warp. */
template <class S> __device__ static inline size_t sp_gemm_tile()
{
    return static_cast<size_t>(blockIdx.x) * S::warps + threadIdx.x / SP_WARP;
}

/* The lower output of a lane. */
template <class S> __device__ static inline size_t sp_gemm_output()
{
    return sp_gemm_tile<S>() * SP_GEMM_TILE + threadIdx.x % SP_WARP / 4;
}

/* Starts the copy of this warp's weights of a stage; zeros beyond the last output. */
template <class S>
__device__ static inline void sp_gemm_fetch_weights(const sp_gemm_arguments &a, size_t stage, size_t end,
                                                    uint4 *weights)
{
    if (stage >= end) return;
    unsigned lane = threadIdx.x % SP_WARP;
    size_t tile = sp_gemm_tile<S>();
    const uint4 *from = a.weights + (tile * a.stages + stage) * SP_GEMM_WORDS + lane;
    bool beyond = tile * SP_GEMM_TILE >= a.n;
    for (unsigned step = 0; step < 4; step++)
        sp_copy_async16(weights + step * SP_WARP + lane, beyond ? a.weights : from + step * SP_WARP, beyond);
}

/* Starts the copy of the block's columns of x, with zeros beyond rows and inputs, and closes the stage's group. */
template <class S>
__device__ static inline void sp_gemm_fetch_rows(const sp_gemm_arguments &a, size_t stage, size_t end, uint16_t *x)
{
    for (unsigned i = threadIdx.x; stage < end && i < S::rows * (SP_GEMM_DEPTH / 8); i += S::threads) {
        unsigned row = i / (SP_GEMM_DEPTH / 8), column = i % (SP_GEMM_DEPTH / 8) * 8;
        size_t input = stage * SP_GEMM_DEPTH + column;
        bool zero = row >= a.n_rows || input >= a.k;
        sp_copy_async16(x + row * SP_GEMM_STRIDE + column, zero ? a.x : a.x + row * a.k + input, zero);
    }
    sp_copy_commit();
}

/* sum += this block's outputs over the inputs of stages stage .. end - 1. Begins with sp_wait_launch, ahead of which
 * weights are under way already: nobody writes them. When a thread returns, others may still read the shared memory,
 * but nothing is under way to it. */
template <class S>
__device__ static inline void sp_gemm_multiply(const sp_gemm_arguments &a, size_t stage, size_t end, uint4 *shared,
                                               float (&sum)[S::row_tiles][4])
{
    uint16_t *shared_x = reinterpret_cast<uint16_t *>(shared + S::stages * S::stage_weights);
    unsigned warp = threadIdx.x / SP_WARP, lane = threadIdx.x % SP_WARP, g = lane / 4, q = lane % 4;
    uint4 *own_weights = shared + warp * SP_GEMM_WORDS;
    for (int ahead = 0; ahead < S::stages - 1; ahead++)
        sp_gemm_fetch_weights<S>(a, stage + ahead, end, own_weights + ahead * S::stage_weights);
    sp_wait_launch();
    for (int ahead = 0; ahead < S::stages - 1; ahead++)
        sp_gemm_fetch_rows<S>(a, stage + ahead, end, shared_x + ahead * S::stage_x);
    for (int at = 0; stage < end; stage++, at = at + 1 < S::stages ? at + 1 : 0) {
        sp_copy_wait<S::stages - 2>();
        __syncthreads(); /* the stage has come for all, and all have left the one before it, which is filled next */
        int free_stage = at ? at - 1 : S::stages - 1;
        sp_gemm_fetch_weights<S>(a, stage + S::stages - 1, end, own_weights + free_stage * S::stage_weights);
        sp_gemm_fetch_rows<S>(a, stage + S::stages - 1, end, shared_x + free_stage * S::stage_x);
        const uint4 *w = own_weights + at * S::stage_weights + lane;
        const uint16_t *x = shared_x + at * S::stage_x + g * SP_GEMM_STRIDE + 16 * q;
        uint4 words[4] = {w[0], w[SP_WARP], w[2 * SP_WARP], w[3 * SP_WARP]};
#pragma unroll
        for (int t = 0; t < S::row_tiles; t++) {
            const uint4 *columns = reinterpret_cast<const uint4 *>(x + t * 8 * SP_GEMM_STRIDE);
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
}

#endif
