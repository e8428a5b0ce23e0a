#ifndef SP_CUDA_SELF_ATTENTION_CUH
#define SP_CUDA_SELF_ATTENTION_CUH
/* The attention of the codec: out = softmax(q k^T / sqrt width) v, one head, every key visible. Queries come as float,
 * keys and values, the latter transposed, as bf16 from sp_cuda_convolve; weights of keys are rounded to bf16.
 *
 * Scores of as many rows as fit in `scratch` exist at once; at least one row must: sp_cuda_stride(n) floats. */
#include "kernels/cuda/conv.cuh"

typedef struct sp_cuda_self_attention {
    size_t n, width;
    const float *q;                  /* [n], rows stride floats apart */
    const uint16_t *keys;            /* bf16 [n], rows key_stride apart */
    const uint16_t *values;          /* bf16 [width], rows value_stride apart: transposed */
    size_t key_stride, value_stride; /* multiples of SP_CUDA_CHUNK; zeros beyond width and beyond n */
    float *out;                      /* [n], rows stride floats apart */
    size_t stride;                   /* a multiple of 4 */
    float *scratch;
    size_t scratch_floats;
} sp_cuda_self_attention;

SP_CHECK cudaError_t sp_cuda_self_attention_run(cudaStream_t stream, const sp_cuda_self_attention *call,
                                                int multiprocessors);

#endif
