/* Continuous tokens on their way in, and positions on what comes out, of models whose tokens are vectors.
 *
 * Roofline. latent_dim times dim float weights are read by every row, from the second-level cache: 64 KB for 16 numbers
 * and width 1024, 8 MB for 128 rows, 2 us at an H100's 5.5 TB/s. A launch costs as much. */
#include "kernels/cuda/ops.cuh"

enum { THREADS = 128 };

/* A block has one row of every stream and THREADS outputs; inputs ascend. */
__global__ void SP_BOUNDS(THREADS, 1) latents_kernel(sp_latent_map map, sp_rows rows, const float *latents,
                                                     size_t n_streams, size_t rows_each, size_t dim, float *x)
{
    sp_wait_launch();
    SP_SHARED(float, token);
    size_t row = blockIdx.x, i = static_cast<size_t>(blockIdx.y) * THREADS + threadIdx.x;
    for (size_t d = threadIdx.x; d < map.latent_dim; d += THREADS) token[d] = latents[row * map.latent_dim + d];
    __syncthreads();
    if (i >= dim) return;
    float sum = 0.0f;
    for (size_t d = 0; d < map.latent_dim; d++) sum = fmaf(map.weights[d * dim + i], token[d], sum);
    sum += map.bias[i];
    for (size_t s = 0; s < n_streams; s++)
        if (rows.token[s * rows_each + row] >= 0) x[(s * rows_each + row) * dim + i] = sum;
}

cudaError_t sp_cuda_latents(cudaStream_t stream, const sp_latent_map &map, const sp_rows &rows, const float *latents,
                            size_t n_streams, size_t rows_each, size_t dim, float *x)
{
    dim3 grid(static_cast<unsigned>(rows_each), sp_blocks(dim, THREADS));
    return SP_LAUNCH(latents_kernel, grid, THREADS, map.latent_dim * sizeof(float), stream, map, rows, latents,
                     n_streams, rows_each, dim, x);
}

__global__ void SP_BOUNDS(THREADS, 1) position_kernel(sp_table table, sp_rows rows, int n_prefix, size_t dim,
                                                      float *features)
{
    sp_wait_launch();
    size_t row = blockIdx.x;
    int place = rows.position[row] - (n_prefix - 1);
    if (place < 0) return;
    for (size_t i = threadIdx.x; i < dim; i += THREADS)
        features[row * dim + i] += sp_table_at(table, static_cast<size_t>(place) * dim + i);
}

cudaError_t sp_cuda_add_position(cudaStream_t stream, const sp_table &table, const sp_rows &rows, size_t n_prefix,
                                 size_t n_rows, size_t dim, float *features)
{
    return SP_LAUNCH(position_kernel, static_cast<unsigned>(n_rows), THREADS, 0, stream, table, rows,
                     static_cast<int>(n_prefix), dim, features);
}
