#ifndef SP_CUDA_HEAD_CUH
#define SP_CUDA_HEAD_CUH
/* A diffusion head in device memory, and the kernels that run it. Inside head.cu, which owns the memory, and chains.cu.
 *
 * Rows of a step stand by stream, then chain: row stream n + j is chain j's. Matrices of bf16 have rows of whole chunks
 * (conv.cuh), zeros at their ends. */
#include "kernels/cuda/conv.cuh"
#include "kernels/device_head.h"

/* y = W x + bias, W packed by sp_cuda_pack_conv with size 1. */
typedef struct sp_cuda_linear {
    const uint16_t *weights;
    const float *bias;
    int n, chunks;
} sp_cuda_linear;

typedef struct sp_cuda_head_block {
    const float *norm, *norm_bias;
    sp_cuda_linear up, down;
} sp_cuda_head_block;

typedef struct sp_cuda_head {
    int dim, outputs, width, hidden, n_blocks, blocks_a_group, n_groups, steps, max_rows;
    int modulations;                  /* of a row: 3 width a group, then 2 width of the last layer */
    int width_stride, hidden_stride;  /* of rows of bf16 */
    bool gated, shift_first;
    const sp_cuda_head_block *blocks;
    sp_cuda_linear condition, modulation;
    const float *input, *input_bias;  /* [width, dim] */
    const float *output, *output_bias; /* [outputs, width] */
    const float *time;                /* [steps, width] */
    const sp_device_head_step *step;  /* [steps] */

    int n_conditions, streams;
    float temperature;
    const float *scale;               /* [n_conditions] */
    float *conditions;                /* [streams, n_conditions, width] */

    uint16_t *s, *u;                  /* [rows, width_stride]: what modulations and blocks multiply */
    uint16_t *active;                 /* [rows, hidden_stride] */
    float *h, *m;                     /* [rows, width], [rows, modulations] */

    int n, n_coupled;
    bool remember;
    const int32_t *row;               /* [n] */
    const uint32_t *position;         /* [n] */
    uint64_t seed;
    uint32_t image, pass;
    sp_draw_purpose purpose;
    float *path[4];                   /* states, means, deviations, noise [max_rows, steps, dim], by position */
    float *state, *mean, *deviation;  /* [n, dim] */
    unsigned *counter;                /* zero, of sp_grid_sync */
} sp_cuda_head;

/* Bytes of shared memory of a block that runs chains. */
size_t sp_cuda_chains_shared(const sp_cuda_head *head);

/* conditions = W features + bias; rows of features [n_rows, k] are rounded into x [n_rows, chunks of k]. */
cudaError_t sp_cuda_head_conditions(cudaStream_t stream, const sp_cuda_head *head, const float *features, size_t k,
                                    uint16_t *x);

/* n chains from start to end. */
cudaError_t sp_cuda_head_chains(cudaStream_t stream, const sp_cuda_head *head, int multiprocessors);

/* mean and deviation of step k of n chains from their states. */
cudaError_t sp_cuda_head_step(cudaStream_t stream, const sp_cuda_head *head, int k, int multiprocessors);

#endif
