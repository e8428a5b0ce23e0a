/* Speculative verification of the rows of a pass, for rules that record laws (acceptance/verify.h): sjd, coupled, gsd.
 *
 * test: a block a row makes its law p from the logits, in their place, and tests its draft. replace: a block a row,
 * which now knows where the first draft was refused, draws the tokens that are wanted, and records p. Random numbers
 * are counted by position and pass, and weights are summed in the order of sp_weights_draw, so the tokens are those of
 * the host wherever p has the host's bits.
 *
 * A row of 16,384 codes is 64 KB, which lies in the second cache. Expected on an H100, for up to a row a multiprocessor
 * (132): six sweeps of 2 us, waiting for memory, 12 us; with top-k or top-p twice that; with gsd 2 us more for each
 * member of a group. */
#include "kernels/cuda/block.cuh"
#include "kernels/cuda/cut.cuh"
#include "kernels/cuda/group.cuh"
#include "kernels/cuda/picture.cuh"

typedef union test_shared {
    sp_cut_shared cut;
    sp_group_shared group;
    unsigned long long part[SP_MAX_WARPS];
    double sum[SP_MAX_WARPS];
} test_shared;

/* Scores to the law of plain sampling, in place (sp_sample_law). Each thread reads and writes codes of its own. */
__device__ static void make_law(const sp_cuda_picture *p, float *law, unsigned long long likeliest, bool cut,
                                test_shared *shared)
{
    const sp_cuda_settings *s = p->settings;
    float top = sp_runner_value(likeliest);
    /* A temperature near 0 takes scores beyond the range of float: their differences are greedy too. */
    if (s->greedy || isinf(top)) {
        for (uint32_t code = threadIdx.x; code < p->n_codes; code += blockDim.x)
            law[code] = static_cast<int32_t>(code) == sp_runner_code(likeliest) ? 1.0f : 0.0f;
        __syncthreads();
        return;
    }
    float threshold = cut ? sp_cut_threshold(s, law, p->n_codes, top, &shared->cut) : -INFINITY;
    double total = 0;
    for (uint32_t code = threadIdx.x; code < p->n_codes; code += blockDim.x) {
        law[code] = law[code] >= threshold ? expf(law[code] - top) : 0.0f;
        total += static_cast<double>(law[code]);
    }
    total = sp_block_fold(total, shared->sum, sp_add());
    float scale = static_cast<float>(1.0 / total);
    for (uint32_t code = threadIdx.x; code < p->n_codes; code += blockDim.x) law[code] *= scale;
    __syncthreads();
}

/* The law that the draft of a position was drawn from. */
__device__ static sp_law recorded(const sp_cuda_picture *p, uint32_t position)
{
    uint32_t at = position % p->ring;
    sp_law law = {static_cast<sp_law_kind>(p->kinds[at]), p->laws + static_cast<size_t>(at) * p->n_codes};
    return law;
}

__global__ static void SP_BOUNDS(1024, 1) test_kernel(sp_cuda_picture pictures, uint32_t n, sp_cuda_rule rule)
{
    sp_wait_launch();
    SP_SHARED(test_shared, shared);
    sp_cuda_picture p = sp_own_picture(pictures, n);
    uint32_t row = blockIdx.x, live = sp_live_rows(&p, n);
    if (row == 0 && threadIdx.x == 0) p.state->modelled = sp_clock_ns();
    if (row >= live) return;
    float *law = p.logits + static_cast<size_t>(row) * p.n_codes;
    unsigned long long likeliest = 0;
    for (uint32_t code = 4 * threadIdx.x; code < p.n_codes; code += 4 * blockDim.x) {
        float scores[4];
        sp_guide_four(&p, n, row, rule.guided, code, scores);
        for (uint32_t i = 0; i < 4 && code + i < p.n_codes; i++)
            likeliest = sp_larger()(likeliest, sp_runner(scores[i], code + i));
    }
    likeliest = sp_block_fold(likeliest, shared->part, sp_larger());
    if (sp_runner_broken(likeliest)) {
        if (threadIdx.x == 0) p.rows[row] = sp_cuda_row{0, 0, 1, 0};
        return;
    }
    make_law(&p, law, likeliest, rule.cut, shared);
    if (row >= sp_live_drafts(&p, live)) {
        if (threadIdx.x == 0) p.rows[row] = sp_cuda_row{0, 0, 0, 0};
        return;
    }
    uint32_t position = p.state->first + row;
    sp_tested tested = {law, recorded(&p, position), p.tokens[position], p.n_codes};
    uint32_t draft = static_cast<uint32_t>(tested.draft);
    sp_group_sums alone = {static_cast<double>(law[draft]), sp_tested_q(&tested, draft)}, sums = alone;
    if (rule.test == SP_CUDA_GROUP) sums = sp_group_of_draft(&p, &tested, alone, &shared->group);
    if (threadIdx.x > 0) return;
    bool passed = sp_ratio_passes(sp_pass_uniform(&p, SP_DRAW_ACCEPT, position), sums.p, sums.q);
    p.rows[row] = sp_cuda_row{tested.draft, passed, 0, fabs(sp_ratio(sums.p, sums.q) - sp_ratio(alone.p, alone.q))};
}

/* What is drawn from: a law, or what is left of it once a draft is refused. */
typedef struct weights {
    const float *p;
    sp_law q;
    int32_t draft;
    uint32_t n;
    bool residual;
    __device__ float operator[](uint32_t code) const
    {
        return residual ? sp_residual(p[code], sp_law_at(&q, draft, n, static_cast<int32_t>(code))) : p[code];
    }
} weights;

static const uint32_t BLOCK = 64, SUMS = 8;

typedef struct replace_shared {
    uint32_t part[SP_MAX_WARPS];
    double total;
    double sum[1]; /* [n_codes / BLOCK] */
} replace_shared;

/* Sums of blocks of codes, each by eight lanes, and then of all. */
__device__ static void sum_blocks(const weights &w, replace_shared *shared)
{
    uint32_t lane = threadIdx.x % SP_WARP, warp = threadIdx.x / SP_WARP, n_blocks = (w.n + BLOCK - 1) / BLOCK;
    for (uint32_t from = warp * (SP_WARP / SUMS); from < n_blocks; from += blockDim.x / SUMS) {
        uint32_t block = from + lane / SUMS, start = block * BLOCK, at = lane % SUMS;
        uint32_t count = start >= w.n ? 0 : w.n - start < BLOCK ? w.n - start : BLOCK, i = 0;
        double sum = 0;
        for (; i + SUMS <= count; i += SUMS) sum += static_cast<double>(w[start + i + at]);
        for (; at == 0 && i < count; i++) sum += static_cast<double>(w[start + i]);
        for (int step = 1; step < static_cast<int>(SUMS); step *= 2) sum += __shfl_xor_sync(0xFFFFFFFFu, sum, step);
        if (at == 0 && block < n_blocks) shared->sum[block] = sum;
    }
    __syncthreads();
    if (threadIdx.x == 0) {
        shared->total = 0;
        for (uint32_t block = 0; block < n_blocks; block++) shared->total += shared->sum[block];
    }
    __syncthreads();
}

/* The code at u of the way through the weights, whose blocks are summed. */
__device__ static int32_t draw(const weights &w, const replace_shared *shared, double u)
{
    double rest = u * shared->total;
    for (uint32_t start = 0; start < w.n; start += BLOCK) {
        double sum = shared->sum[start / BLOCK];
        if (rest >= sum) {
            rest -= sum;
            continue;
        }
        uint32_t end = w.n - start < BLOCK ? w.n : start + BLOCK;
        for (uint32_t code = start; code < end; code++) {
            if (rest < static_cast<double>(w[code])) return static_cast<int32_t>(code);
            rest -= static_cast<double>(w[code]);
        }
        /* Sums in another order: what is left by rounding goes to the next code with weight. */
        rest = 0;
    }
    uint32_t last = w.n - 1;
    while (last > 0 && w[last] <= 0) last--;
    return static_cast<int32_t>(last);
}

/* The first row whose draft is refused, or the number of drafts. */
__device__ static uint32_t first_refused(const sp_cuda_picture *p, uint32_t drafts, uint32_t *part)
{
    uint32_t nearest = 0;
    for (uint32_t i = threadIdx.x; i < drafts; i += blockDim.x)
        if (!p->rows[i].passed) nearest = sp_larger()(nearest, drafts - i);
    return drafts - sp_block_fold(nearest, part, sp_larger());
}

__global__ static void SP_BOUNDS(1024, 1) replace_kernel(sp_cuda_picture pictures, uint32_t n, bool couple)
{
    sp_wait_launch();
    SP_SHARED(replace_shared, shared);
    sp_cuda_picture p = sp_own_picture(pictures, n);
    uint32_t row = blockIdx.x, live = sp_live_rows(&p, n);
    if (row >= live) return;
    uint32_t drafts = sp_live_drafts(&p, live), refused = first_refused(&p, drafts, shared->part);
    uint32_t position = p.state->first + row;
    bool tested = row < drafts && (couple || row <= refused), passed = tested && p.rows[row].passed;
    const float *law = p.logits + static_cast<size_t>(row) * p.n_codes;
    weights w = {law, recorded(&p, position), p.tokens[position], p.n_codes, tested};
    if (!passed) sum_blocks(w, shared);
    /* p <= q everywhere means p = q but for rounding, and then nothing is refused but by rounding. */
    if (!passed && tested && shared->total <= 0) {
        w.residual = false;
        sum_blocks(w, shared);
    }
    if (!passed && threadIdx.x == 0)
        p.rows[row].token =
            draw(w, shared, sp_pass_uniform(&p, tested ? SP_DRAW_RESIDUAL : SP_DRAW_REDRAFT, position));
    __syncthreads();
    /* Whether the draft was kept or replaced, the token has law p given the tokens before it. */
    for (uint32_t code = threadIdx.x; code < p.n_codes; code += blockDim.x) w.q.probability[code] = w.p[code];
    if (threadIdx.x == 0) p.kinds[position % p.ring] = SP_LAW_ROW;
}

cudaError_t sp_cuda_verify(cudaStream_t stream, const sp_cuda_picture *p, size_t n, sp_cuda_rule rule)
{
    uint32_t rows = static_cast<uint32_t>(n);
    unsigned threads = sp_row_threads(p->n_codes);
    size_t shared = sizeof(replace_shared) + (p->n_codes + BLOCK - 1) / BLOCK * sizeof(double);
    dim3 grid(rows, 1, p->n_pictures);
    cudaError_t error = SP_LAUNCH(test_kernel, grid, threads, sizeof(test_shared), stream, *p, rows, rule);
    if (error != cudaSuccess) return error;
    return SP_LAUNCH(replace_kernel, grid, threads, shared, stream, *p, rows, rule.couple);
}
