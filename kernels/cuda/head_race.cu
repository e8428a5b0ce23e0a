/* The head's product with the race as its epilogue: the token that the seed draws, without logits in memory.
 *
 * A block of the product (gemm.cu) has the logits of its 64 or 128 codes for every row of every stream. It lays them
 * out in the shared memory that the stages of the product are done with, and then a thread takes four codes of a row,
 * as in race.cu: guidance, temperature, noise, the best of them, with the same bits. What is left to write is a word a
 * row and block; with top-k or top-p also the scores, for settle to look at.
 *
 * Roofline (H100). The product's: 2 n k bytes, 40 us for 16,384 codes of 4,096. The logits of 128 rows, 8 MB written
 * and read again by race.cu, and its launch are saved: about 5 us. The noise of 64 rows with guidance is 4 us of double
 * operations, part of it under the loads of the blocks that are still multiplying. */
#include "kernels/cuda/block.cuh"
#include "kernels/cuda/gemm.cuh"
#include "kernels/cuda/race.cuh"

/* Floats of a row of the block's logits: the rows of a quad of lanes start 8 banks apart. */
template <class S> static constexpr uint32_t STRIDE = S::outputs + 4;

/* logits [rows, STRIDE] of the block; every thread has left the last stage. */
template <class S> __device__ static void lay_out(const float (&sum)[S::row_tiles][4], float *logits)
{
    uint32_t lane = threadIdx.x % SP_WARP, output = threadIdx.x / SP_WARP * SP_GEMM_TILE + lane / 4;
    __syncthreads();
#pragma unroll
    for (uint32_t t = 0; t < S::row_tiles; t++) {
#pragma unroll
        for (uint32_t i = 0; i < 4; i++)
            logits[(8 * t + 2 * (lane % 4) + i % 2) * STRIDE<S> + output + i / 2 * 8] = sum[t][i];
    }
    __syncthreads();
}

/* Four logits of a row of the product, from the block's code at on. */
template <class S>
__device__ static void load_four(const float *logits, uint32_t row, uint32_t at, const float *bias, uint32_t code,
                                 uint32_t n_codes, float out[4])
{
    float4 four = *reinterpret_cast<const float4 *>(logits + row * STRIDE<S> + at);
    out[0] = four.x;
    out[1] = four.y;
    out[2] = four.z;
    out[3] = four.w;
    for (uint32_t i = 0; bias && i < 4 && code + i < n_codes; i++) out[i] += bias[code + i];
}

template <class S>
__global__ static void SP_BOUNDS(S::threads, 1)
head_race_kernel(sp_gemm_arguments a, const float *bias, sp_cuda_picture pictures, uint32_t n, sp_cuda_rule rule)
{
    constexpr uint32_t quads = S::outputs / 4; /* of a row: half a warp or a whole one */
    static_assert(S::outputs >= SP_CUDA_LEAST_SLICE, "memory is taken for no more blocks");
    static_assert(S::rows * STRIDE<S> * sizeof(float) <= S::shared, "logits take the place of the stages");
    SP_SHARED(uint4, shared);
    float *logits = reinterpret_cast<float *>(shared), sum[S::row_tiles][4] = {};
    sp_gemm_multiply<S>(a, 0, a.stages, shared, sum);
    lay_out<S>(sum, logits);
    uint32_t rows = pictures.n_pictures * n, at = threadIdx.x % quads * 4, code = blockIdx.x * S::outputs + at;
    for (uint32_t i = threadIdx.x; i / SP_WARP * SP_WARP < rows * quads; i += S::threads) {
        uint32_t of_all = i / quads, row = of_all % n;
        sp_cuda_picture p = sp_picture_at(pictures, of_all < rows ? of_all / n : 0, n);
        bool live = of_all < rows && row < sp_live_rows(&p, n);
        unsigned long long best = 0;
        if (live && code < p.n_codes) {
            float conditional[4], free_logits[4] = {0, 0, 0, 0}, scores[4];
            load_four<S>(logits, of_all, at, bias, code, p.n_codes, conditional);
            if (rule.guided) load_four<S>(logits, rows + of_all, at, bias, code, p.n_codes, free_logits);
            for (uint32_t j = 0; j < 4; j++)
                scores[j] = sp_guide(p.settings, rule.guided, conditional[j], free_logits[j]);
            for (uint32_t j = 0; rule.cut && j < 4 && code + j < p.n_codes; j++)
                p.logits[static_cast<size_t>(row) * p.n_codes + code + j] = scores[j];
            best = sp_race_four(&p, row, code, scores);
        }
        for (int step = quads / 2; step > 0; step /= 2)
            best = sp_larger()(best, __shfl_xor_sync(0xFFFFFFFFu, best, step));
        if (live && at == 0) p.best[static_cast<size_t>(row) * gridDim.x + blockIdx.x] = best;
    }
}

bool sp_cuda_head_can_race(const sp_cuda_weight &head, size_t rows, sp_cuda_rule rule)
{
    return rule.test == SP_CUDA_RACE && head.slices == 1 && (rule.guided ? 2 : 1) * rows <= SP_GEMM_ROWS;
}

cudaError_t sp_cuda_head_race(cudaStream_t stream, const sp_cuda_weight &head, const float *bias, const uint16_t *x,
                              const sp_cuda_picture *p, size_t n, sp_cuda_rule rule, size_t *slices)
{
    size_t rows = (rule.guided ? 2 : 1) * p->n_pictures * n;
    sp_gemm_arguments a = sp_gemm_arguments_of(head, x, rows);
    return sp_gemm_choose(rows, [&](auto shape) {
        using S = decltype(shape);
        unsigned blocks = sp_blocks(head.n, S::outputs);
        *slices = blocks;
        return SP_LAUNCH(head_race_kernel<S>, blocks, S::threads, S::shared, stream, a, bias, *p,
                         static_cast<uint32_t>(n), rule);
    });
}
