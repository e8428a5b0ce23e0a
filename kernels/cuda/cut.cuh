#ifndef SP_CUDA_CUT_CUH
#define SP_CUDA_CUT_CUH
/* Top-k and top-p of a row of scores by one block: the threshold of sp_sample_threshold (acceptance/accept.h).
 *
 * Both are the smallest score such that what lies above it weighs at most a limit: k - 1 codes, or a share p of the
 * mass. It is found digit by digit of the scores' ordered bits, from the highest: a digit's bins are filled by atomic
 * additions of integers, which have no order, and the bins are gone through from the top. Each lane of a warp has a
 * column of its own, so that scores of one binade do not queue for one word.
 *
 * Mass is counted in units of 2^-42 of the likeliest code's, each code's rounded up, so that its sum has no order
 * either. A cut can be off by n_codes units: 4e-9 of the whole with 16,384 codes. */
#include "kernels/cuda/block.cuh"
#include "kernels/cuda/picture.cuh"

enum { SP_CUT_BITS = 6, SP_CUT_BINS = 1 << SP_CUT_BITS };

typedef struct sp_cut_shared {
    unsigned long long part[SP_MAX_WARPS];
    uint32_t top[SP_MAX_WARPS];
    unsigned long long bin[SP_CUT_BINS][SP_WARP];
    unsigned long long above; /* of the digits chosen so far: what weighs on them from above */
    uint32_t digit;
} sp_cut_shared;

/* e^(score - top) in units, at least one. The sum over SP_CUDA_MAX_CODES stays below 2^63. */
__device__ static inline unsigned long long sp_mass_units(float score, float top)
{
    return static_cast<unsigned long long>(exp(static_cast<double>(score - top)) * 4398046511104.0) + 1;
}

/* A share of a mass, rounded down: what is counted in whole units is at most one or the other. */
__device__ static inline unsigned long long sp_share(float share, unsigned long long mass)
{
    return static_cast<unsigned long long>(static_cast<double>(share) * static_cast<double>(mass));
}

struct sp_count_codes {
    __device__ unsigned long long operator()(float) const { return 1; }
};

/* Of the scores from a floor on. */
struct sp_count_mass {
    float top, floor;
    __device__ unsigned long long operator()(float score) const
    {
        return score >= floor ? sp_mass_units(score, top) : 0;
    }
};

/* The last of the bins, from the highest, above which no more than the limit lies. */
__device__ static inline void sp_cut_choose(sp_cut_shared *shared, unsigned long long limit)
{
    unsigned long long above = shared->above;
    for (int digit = SP_CUT_BINS - 1; digit >= 0 && above <= limit; digit--) {
        unsigned long long weight = shared->bin[digit][0];
        if (weight == 0) continue;
        shared->digit = static_cast<uint32_t>(digit);
        shared->above = above;
        above += weight;
    }
}

/* The smallest of scores [n] with at most limit above it; weigh gives 0 for scores that do not count. */
template <class Weigh>
__device__ static inline float sp_cut(const float *scores, uint32_t n, Weigh weigh, unsigned long long limit,
                                      sp_cut_shared *shared)
{
    uint32_t found = 0, fixed = 0, lane = threadIdx.x % SP_WARP;
    if (threadIdx.x == 0) shared->above = 0;
    for (int end = 32; end > 0; end -= SP_CUT_BITS) {
        int shift = end > SP_CUT_BITS ? end - SP_CUT_BITS : 0;
        uint32_t digits = (1u << (end - shift)) - 1;
        for (uint32_t i = threadIdx.x; i < SP_CUT_BINS * SP_WARP; i += blockDim.x) (&shared->bin[0][0])[i] = 0;
        __syncthreads();
        for (uint32_t i = threadIdx.x; i < n; i += blockDim.x) {
            uint32_t key = sp_ordered(scores[i]);
            if ((key & fixed) == found) atomicAdd(&shared->bin[key >> shift & digits][lane], weigh(scores[i]));
        }
        __syncthreads();
        for (uint32_t digit = threadIdx.x; digit < SP_CUT_BINS; digit += blockDim.x) {
            unsigned long long sum = 0;
            for (uint32_t i = 0; i < SP_WARP; i++) sum += shared->bin[digit][(digit + i) % SP_WARP];
            shared->bin[digit][0] = sum;
        }
        __syncthreads();
        if (threadIdx.x == 0) sp_cut_choose(shared, limit);
        __syncthreads();
        found |= shared->digit << shift;
        fixed |= digits << shift;
    }
    return sp_from_ordered(found);
}

/* The smallest of the scores that top-k and then top-p leave; top is the largest. */
__device__ static inline float sp_cut_threshold(const sp_cuda_settings *s, const float *scores, uint32_t n, float top,
                                                sp_cut_shared *shared)
{
    float threshold = -INFINITY;
    if (s->top_k) threshold = sp_cut(scores, n, sp_count_codes(), s->top_k - 1, shared);
    if (s->top_p >= 1.0f) return threshold;
    sp_count_mass weigh = {top, threshold};
    unsigned long long mass = 0;
    for (uint32_t i = threadIdx.x; i < n; i += blockDim.x) mass += weigh(scores[i]);
    mass = sp_block_fold(mass, shared->part, sp_add());
    return sp_cut(scores, n, weigh, sp_share(s->top_p, mass), shared);
}

/* Whether a score is in the top-k by its rank, or in the top-p of all codes by the mass above it. */
__device__ static inline bool sp_cut_keeps(const sp_cuda_settings *s, const float *scores, uint32_t n, float score,
                                           float top, sp_cut_shared *shared)
{
    unsigned long long above = 0, all = 0;
    for (uint32_t i = threadIdx.x; i < n; i += blockDim.x) {
        unsigned long long weight = s->top_k ? 1 : sp_mass_units(scores[i], top);
        all += weight;
        if (scores[i] > score) above += weight;
    }
    above = sp_block_fold(above, shared->part, sp_add());
    if (s->top_k) return above < s->top_k;
    all = sp_block_fold(all, shared->part, sp_add());
    return above <= sp_share(s->top_p, all);
}

#endif
