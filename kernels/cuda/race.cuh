#ifndef SP_CUDA_RACE_CUH
#define SP_CUDA_RACE_CUH
/* The race of rules ar and pathwise in its two forms: over logits in memory (race.cu), and as the epilogue of the
 * head's product, which never writes them (head_race.cu). Both leave the same bits.
 *
 *     size_t slices = sp_cuda_race_slices(n_codes);
 *     sp_cuda_race(stream, &picture, n, rule);                                       // race, and settle with slices
 * or
 *     if (sp_cuda_head_can_race(head, pictures * n, rule)) {
 *         sp_cuda_head_race(stream, head, bias, x, &picture, n, rule, &slices);  // x bf16 [streams, pictures, n, k]
 *         sp_cuda_settle(stream, &picture, n, rule, slices, true);
 *     } */
#include "kernels/cuda/block.cuh"
#include "kernels/cuda/ops.cuh"
#include "kernels/cuda/picture.cuh"

#include "base/gumbel.h"

/* Whether a head's product over that many rows a stream can end in the race: all of its rows, and all of each sum, have
 * to be in one block. */
bool sp_cuda_head_can_race(const sp_cuda_weight &head, size_t rows, sp_cuda_rule rule);

/* The product and the race: the best of each row's codes in picture->best [n, *slices] and, with sets to cut, the
 * scores in picture->logits. bias [n_codes], or NULL. */
cudaError_t sp_cuda_head_race(cudaStream_t stream, const sp_cuda_weight &head, const float *bias, const uint16_t *x,
                              const sp_cuda_picture *picture, size_t n, sp_cuda_rule rule, size_t *slices);

/* The tokens of rows whose slices have been raced over. stamp: the model's part ends here. */
cudaError_t sp_cuda_settle(cudaStream_t stream, const sp_cuda_picture *picture, size_t n, sp_cuda_rule rule,
                           size_t slices, bool stamp);

/* The best of up to four scores of a row, from code on; code is a multiple of 4. */
__device__ static inline unsigned long long sp_race_four(const sp_cuda_picture *p, uint32_t row, uint32_t code,
                                                         const float scores[4])
{
    const sp_cuda_settings *s = p->settings;
    float noise[4] = {0, 0, 0, 0};
    unsigned long long best = 0;
    if (!s->greedy) sp_gumbel4(s->seed, s->image, p->state->first + row, code / 4, noise);
    for (uint32_t i = 0; i < 4 && code + i < p->n_codes; i++)
        best = sp_larger()(best, sp_runner(scores[i] + noise[i], code + i));
    return best;
}

#endif
