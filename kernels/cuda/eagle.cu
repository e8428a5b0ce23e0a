/* What a drafting model has beside the operations of a transformer: joined rows on the way in, features that are kept
 * for the rows that follow.
 *
 * Roofline: bytes only. 64 rows of 4096 read features and write joined rows of bf16 and x, 3 MB in the second-level
 * cache: 1 us, less than a launch. */
#include "kernels/cuda/ops.cuh"

enum { THREADS = 128 };

__device__ static inline size_t node_of(const sp_rows &rows, size_t row_of_window)
{
    return rows.parent ? static_cast<size_t>(rows.node[row_of_window]) : 0;
}

/* A block a row; two elements a thread, so that a store is a word. */
__global__ void SP_BOUNDS(THREADS, 1)
    join_kernel(sp_table codes, sp_rows rows, const float *given, const float *kept, size_t max_nodes,
                const float *bias, size_t rows_each, size_t dim, uint16_t *joined, float *x)
{
    sp_wait_launch();
    size_t row = blockIdx.x, code = static_cast<size_t>(rows.token[row]);
    const float *feature = given + row * dim;
    if (rows.parent) {
        size_t before = static_cast<size_t>(rows.parent[node_of(rows, row % rows_each)]);
        feature = kept + (row / rows_each * max_nodes + before) * dim;
    }
    uint32_t *left = reinterpret_cast<uint32_t *>(joined + row * 2 * dim), *right = left + dim / 2;
    for (size_t i = 2 * threadIdx.x; i < dim; i += 2 * THREADS) {
        left[i / 2] = sp_pack_bf16(sp_table_at(codes, code * dim + i), sp_table_at(codes, code * dim + i + 1));
        right[i / 2] = sp_pack_bf16(feature[i], feature[i + 1]);
        x[row * dim + i] = bias[i];
        x[row * dim + i + 1] = bias[i + 1];
    }
}

cudaError_t sp_cuda_join(cudaStream_t stream, const sp_table &codes, const sp_rows &rows, const float *given,
                         const float *kept, size_t max_nodes, const float *bias, size_t n_streams, size_t rows_each,
                         size_t dim, uint16_t *joined, float *x)
{
    return SP_LAUNCH(join_kernel, static_cast<unsigned>(n_streams * rows_each), THREADS, 0, stream, codes, rows, given,
                     kept, max_nodes, bias, rows_each, dim, joined, x);
}

/* A block a row that is kept: all of a tree, the last of a chain. */
__global__ void SP_BOUNDS(THREADS, 1) keep_kernel(sp_rows rows, const float *features, size_t rows_each,
                                                  size_t max_nodes, size_t dim, float *kept)
{
    sp_wait_launch();
    size_t stream = blockIdx.y, row = rows.parent ? blockIdx.x : rows_each - 1;
    const float *from = features + (stream * rows_each + row) * dim;
    float *to = kept + (stream * max_nodes + node_of(rows, row)) * dim;
    for (size_t i = threadIdx.x; i < dim; i += THREADS) to[i] = from[i];
}

cudaError_t sp_cuda_keep_features(cudaStream_t stream, const sp_rows &rows, const float *features, size_t n_streams,
                                  size_t rows_each, size_t max_nodes, size_t dim, float *kept)
{
    dim3 grid(rows.parent ? static_cast<unsigned>(rows_each) : 1, static_cast<unsigned>(n_streams));
    return SP_LAUNCH(keep_kernel, grid, THREADS, 0, stream, rows, features, rows_each, max_nodes, dim, kept);
}
