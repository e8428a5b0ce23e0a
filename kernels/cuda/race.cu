/* The token that the seed draws in each row: argmax of score + Gumbel noise within top-k and top-p (op guide, op gumbel
 * and sp_sample of acceptance/accept.h, with the same bits).
 *
 * race: a block takes SLICE codes of a row: guidance, temperature, noise, the best of them. The logits were written a
 * moment ago and lie in the second cache (128 rows of two streams of 16,384 codes are 16 MB), are read once, 16 bytes a
 * thread, and the scores are written over them. Noise is worked out where it is used: Philox and two logarithms in
 * double, about 60 double operations a code. On an H100: 1 + 2 floats a code at 5.5 TB/s against 60 operations at 16
 * T/s, so bound by the logarithms: 8 us for 128 rows, 1 us or less for 8. Where a head allows it, this is the epilogue
 * of its product instead (head_race.cu).
 *
 * settle: a block a row takes the best of its slices. It is the answer if it is inside the sets by itself, which one
 * look at the scores tells; where it is not, which is as likely as the mass outside the sets, they are worked out and
 * raced over: sets never need sorting. About 3 us, with a row worked out about 15 us. */
#include "kernels/cuda/block.cuh"
#include "kernels/cuda/cut.cuh"
#include "kernels/cuda/race.cuh"

static const unsigned SLICE_THREADS = 256, SLICE = 4 * SLICE_THREADS;

size_t sp_cuda_race_slices(size_t n_codes) { return (n_codes + SLICE - 1) / SLICE; }

__global__ static void SP_BOUNDS(SLICE_THREADS, 4) race_kernel(sp_cuda_picture pictures, uint32_t n, bool guided)
{
    sp_wait_launch();
    SP_SHARED(unsigned long long, part);
    sp_cuda_picture p = sp_own_picture(pictures, n);
    uint32_t row = blockIdx.y, code = 4 * (blockIdx.x * blockDim.x + threadIdx.x);
    if (row == 0 && blockIdx.x == 0 && threadIdx.x == 0) p.state->modelled = sp_clock_ns();
    if (row >= sp_live_rows(&p, n)) return;
    unsigned long long best = 0;
    if (code < p.n_codes) {
        float scores[4];
        sp_guide_four(&p, n, row, guided, code, scores);
        best = sp_race_four(&p, row, code, scores);
    }
    best = sp_block_fold(best, part, sp_larger());
    if (threadIdx.x == 0) p.best[static_cast<size_t>(row) * gridDim.x + blockIdx.x] = best;
}

/* The winner of the codes at or above a threshold. */
__device__ static unsigned long long race_within(const sp_cuda_picture *p, const float *scores, uint32_t row,
                                                 float threshold, unsigned long long *part)
{
    const sp_cuda_settings *s = p->settings;
    unsigned long long best = 0;
    for (uint32_t code = 4 * threadIdx.x; code < p->n_codes; code += 4 * blockDim.x) {
        float noise[4] = {0, 0, 0, 0};
        bool drawn = false;
        for (uint32_t i = code; i < code + 4 && i < p->n_codes; i++) {
            if (scores[i] < threshold) continue;
            if (!drawn) sp_gumbel4(s->seed, s->image, p->state->first + row, code / 4, noise);
            drawn = true;
            best = sp_larger()(best, sp_runner(scores[i] + noise[i - code], i));
        }
    }
    return sp_block_fold(best, part, sp_larger());
}

/* Of both sets together the mass is that of the top-k, so they are worked out at once. */
__device__ static unsigned long long within_sets(const sp_cuda_picture *p, uint32_t row, unsigned long long best,
                                                 sp_cut_shared *shared)
{
    const sp_cuda_settings *s = p->settings;
    const float *scores = p->logits + static_cast<size_t>(row) * p->n_codes;
    uint32_t top = 0;
    for (uint32_t i = threadIdx.x; i < p->n_codes; i += blockDim.x) top = sp_larger()(top, sp_ordered(scores[i]));
    float largest = sp_from_ordered(sp_block_fold(top, shared->top, sp_larger()));
    bool both = s->top_k && s->top_p < 1.0f;
    if (!both && sp_cut_keeps(s, scores, p->n_codes, scores[sp_runner_code(best)], largest, shared)) return best;
    float threshold = sp_cut_threshold(s, scores, p->n_codes, largest, shared);
    return race_within(p, scores, row, threshold, shared->part);
}

__global__ static void SP_BOUNDS(1024, 1)
settle_kernel(sp_cuda_picture pictures, uint32_t n, uint32_t slices, bool cut, bool stamp)
{
    sp_wait_launch();
    SP_SHARED(sp_cut_shared, shared);
    sp_cuda_picture p = sp_own_picture(pictures, n);
    uint32_t row = blockIdx.x, live = sp_live_rows(&p, n);
    if (stamp && row == 0 && threadIdx.x == 0) p.state->modelled = sp_clock_ns();
    if (row >= live) return;
    unsigned long long best = 0;
    for (uint32_t i = threadIdx.x; i < slices; i += blockDim.x)
        best = sp_larger()(best, p.best[static_cast<size_t>(row) * slices + i]);
    best = sp_block_fold(best, shared->part, sp_larger());
    bool broken = sp_runner_broken(best);
    if (cut && !broken && !p.settings->greedy) best = within_sets(&p, row, best, shared);
    if (threadIdx.x > 0) return;
    int32_t token = broken ? 0 : sp_runner_code(best);
    bool drafted = row < sp_live_drafts(&p, live);
    bool passed = drafted && sp_equality_passes(p.tokens[p.state->first + row], token);
    p.rows[row] = sp_cuda_row{token, passed, broken, 0};
}

cudaError_t sp_cuda_race(cudaStream_t stream, const sp_cuda_picture *p, size_t n, sp_cuda_rule rule)
{
    uint32_t slices = static_cast<uint32_t>(sp_cuda_race_slices(p->n_codes)), rows = static_cast<uint32_t>(n);
    unsigned threads = sp_row_threads(p->n_codes), few = threads < SLICE_THREADS ? threads : SLICE_THREADS;
    size_t shared = SP_MAX_WARPS * sizeof(unsigned long long);
    cudaError_t error =
        SP_LAUNCH(race_kernel, dim3(slices, rows, p->n_pictures), few, shared, stream, *p, rows, rule.guided);
    if (error != cudaSuccess) return error;
    return sp_cuda_settle(stream, p, n, rule, slices, false);
}

cudaError_t sp_cuda_settle(cudaStream_t stream, const sp_cuda_picture *p, size_t n, sp_cuda_rule rule, size_t slices,
                           bool stamp)
{
    uint32_t rows = static_cast<uint32_t>(n);
    return SP_LAUNCH(settle_kernel, dim3(rows, 1, p->n_pictures), sp_row_threads(p->n_codes), sizeof(sp_cut_shared),
                     stream, *p, rows, static_cast<uint32_t>(slices), rule.cut, stamp);
}
