#ifndef SP_CUDA_GROUP_CUH
#define SP_CUDA_GROUP_CUH
/* The group of a draft in rule gsd (docs/rules/gsd.md): the probabilities P under p and Q under q of the codes that
 * count for it, summed by one block in the order of acceptance/gsd.c. */
#include "kernels/cuda/block.cuh"
#include "kernels/cuda/picture.cuh"

enum { SP_CUDA_MAX_GROUP = 256 };

typedef struct sp_group_shared {
    unsigned long long part[SP_MAX_WARPS];
    uint32_t member[SP_CUDA_MAX_GROUP];
    double p[SP_CUDA_MAX_GROUP], q[SP_CUDA_MAX_GROUP]; /* what a member adds */
} sp_group_shared;

/* A row's law, its draft, and the law that it was drawn from. */
typedef struct sp_tested {
    const float *p;
    sp_law q;
    int32_t draft;
    uint32_t n_codes;
} sp_tested;

__device__ static inline double sp_tested_q(const sp_tested *t, uint32_t code)
{
    return static_cast<double>(sp_law_at(&t->q, t->draft, t->n_codes, static_cast<int32_t>(code)));
}

typedef struct sp_group_sums {
    double p, q;
} sp_group_sums;

/* The next code in rank above or below a last one, of those with probability; 0: there is none. */
__device__ static inline unsigned long long sp_next_in_rank(const sp_tested *t, unsigned long long last, bool above,
                                                            unsigned long long *part)
{
    unsigned long long best = 0;
    for (uint32_t code = threadIdx.x; code < t->n_codes; code += blockDim.x) {
        unsigned long long runner = sp_runner(t->p[code], code);
        if (t->p[code] <= 0 || (above ? runner <= last : runner >= last)) continue;
        best = sp_larger()(best, above ? ~runner : runner);
    }
    best = sp_block_fold(best, part, sp_larger());
    return above && best ? ~best : best;
}

/* Appends one side of the group to its members, the nearest first. Beyond a code whose probability differs by too much
 * there are none. */
__device__ static inline uint32_t sp_gather_side(const sp_cuda_settings *s, const sp_tested *t, bool above,
                                                 uint32_t limit, uint32_t n, sp_group_shared *shared)
{
    float p_draft = t->p[t->draft];
    unsigned long long last = sp_runner(p_draft, static_cast<uint32_t>(t->draft));
    for (uint32_t end = n + limit; n < end; n++) {
        last = sp_next_in_rank(t, last, above, shared->part);
        if (last == 0 || !(fabsf(sp_runner_value(last) - p_draft) < s->group_delta)) break;
        if (threadIdx.x == 0) shared->member[n] = static_cast<uint32_t>(sp_runner_code(last));
    }
    return n;
}

/* The codes around the draft in rank. */
__device__ static inline sp_group_sums sp_rank_group(const sp_cuda_picture *p, const sp_tested *t, sp_group_sums sums,
                                                     sp_group_shared *shared)
{
    const sp_cuda_settings *s = p->settings;
    const float *of_draft = p->codes + static_cast<size_t>(t->draft) * s->code_dim;
    uint32_t n = sp_gather_side(s, t, true, (s->group_size - 1) / 2, 0, shared);
    n = sp_gather_side(s, t, false, s->group_size / 2, n, shared);
    __syncthreads();
    for (uint32_t i = threadIdx.x; i < n; i += blockDim.x) {
        uint32_t code = shared->member[i];
        float distance = sp_code_distance(of_draft, p->codes + static_cast<size_t>(code) * s->code_dim, s->code_dim);
        bool in = sp_group_admits(t->p[code], t->p[t->draft], s->group_delta, distance, s->group_distance);
        shared->p[i] = in ? static_cast<double>(t->p[code]) : 0;
        shared->q[i] = in ? sp_tested_q(t, code) : 0;
    }
    __syncthreads();
    for (uint32_t i = 0; i < n; i++) {
        sums.p += shared->p[i];
        sums.q += shared->q[i];
    }
    return sums;
}

/* The codes of the draft's static group. */
__device__ static inline sp_group_sums sp_static_group(const sp_cuda_picture *p, const sp_tested *t,
                                                       sp_group_sums sums, sp_group_shared *shared)
{
    sp_group_sums own = {0, 0};
    for (uint32_t code = threadIdx.x; code < t->n_codes; code += blockDim.x) {
        if (static_cast<int32_t>(code) == t->draft || p->group_of[code] != p->group_of[t->draft]) continue;
        own.p += static_cast<double>(t->p[code]);
        own.q += sp_tested_q(t, code);
    }
    sums.p += sp_block_fold(own.p, shared->p, sp_add());
    sums.q += sp_block_fold(own.q, shared->q, sp_add());
    return sums;
}

/* Sums over the group of a draft, which alone has the given ones: every thread gets them. A draft that was certain, or
 * that has no probability, is alone. */
__device__ static inline sp_group_sums sp_group_of_draft(const sp_cuda_picture *p, const sp_tested *t,
                                                         sp_group_sums alone, sp_group_shared *shared)
{
    if (t->q.kind == SP_LAW_POINT || alone.p <= 0 || p->settings->group_size <= 1) return alone;
    return p->settings->grouped ? sp_static_group(p, t, alone, shared) : sp_rank_group(p, t, alone, shared);
}

#endif
