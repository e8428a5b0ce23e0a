/* Rows of a masked model between the parts of a pass.
 *
 * Roofline: bytes only. The decoder's 2 x 320 rows of 1024 are 2.6 MB a read or a write, all in an H100's second-level
 * cache: 1 us each, the time of a launch. Tokens come in as in latents.cu: 64 KB of float weights a row. */
#include "kernels/cuda/masked.cuh"

enum { THREADS = 128 };

__global__ void SP_BOUNDS(THREADS, 1)
    rows_kernel(int n, int n_rows, int32_t *of_stream, int32_t *position, int32_t *slot)
{
    sp_wait_launch();
    int row = static_cast<int>(blockIdx.x * THREADS + threadIdx.x);
    if (row >= n_rows) return;
    of_stream[row] = row / n;
    position[row] = n - 1;
    slot[row] = row % n;
}

cudaError_t sp_cuda_masked_rows(cudaStream_t stream, size_t n_streams, size_t n, int32_t *of_stream, int32_t *position,
                                int32_t *slot)
{
    return SP_LAUNCH(rows_kernel, sp_blocks(n_streams * n, THREADS), THREADS, 0, stream, static_cast<int>(n),
                     static_cast<int>(n_streams * n), of_stream, position, slot);
}

/* A block has one place in every stream and THREADS numbers of it; inputs ascend. */
__global__ void SP_BOUNDS(THREADS, 1)
    embed_kernel(sp_masked_places p, const float *with_class, const float *without, sp_latent_map map,
                 const float *latents, const float *position, float *x)
{
    sp_wait_launch();
    size_t place = blockIdx.x, i = static_cast<size_t>(blockIdx.y) * THREADS + threadIdx.x;
    int row = p.row[place];
    if (row < 0 || i >= p.dim) return;
    float v[2] = {with_class[i], without[i]};
    if (place >= p.buffer) {
        const float *token = latents + (place - p.buffer) * map.latent_dim;
        float sum = 0.0f;
        for (size_t d = 0; d < map.latent_dim; d++) sum = fmaf(map.weights[d * p.dim + i], token[d], sum);
        v[0] = v[1] = sum + map.bias[i];
    }
    for (size_t s = 0; s < p.n_streams; s++)
        x[(s * p.n_known + static_cast<size_t>(row)) * p.dim + i] = v[s] + position[place * p.dim + i];
}

cudaError_t sp_cuda_masked_embed(cudaStream_t stream, const sp_masked_places &places, const float *with_class,
                                 const float *without, const sp_latent_map &map, const float *latents,
                                 const float *position, float *x)
{
    dim3 grid(static_cast<unsigned>(places.n), sp_blocks(places.dim, THREADS));
    return SP_LAUNCH(embed_kernel, grid, THREADS, 0, stream, places, with_class, without, map, latents, position, x);
}

__global__ void SP_BOUNDS(THREADS, 1) spread_kernel(sp_masked_places p, sp_partial from, const float *bias,
                                                    const float *mask, const float *position, float *x)
{
    sp_wait_launch();
    size_t place = blockIdx.x, stream = blockIdx.y;
    int row = p.row[place];
    const float *plus = row < 0 ? mask : bias;
    for (size_t i = 2 * threadIdx.x; i < p.dim; i += 2 * THREADS) {
        float2 v = make_float2(plus[i], plus[i + 1]);
        if (row >= 0) {
            float2 sum = sp_partial_pair(from, (stream * p.n_known + static_cast<size_t>(row)) * p.dim + i);
            v = make_float2(sum.x + v.x, sum.y + v.y);
        }
        v.x += position[place * p.dim + i];
        v.y += position[place * p.dim + i + 1];
        *reinterpret_cast<float2 *>(x + (stream * p.n + place) * p.dim + i) = v;
    }
}

cudaError_t sp_cuda_masked_spread(cudaStream_t stream, const sp_masked_places &places, sp_partial from,
                                  const float *bias, const float *mask, const float *position, float *x)
{
    dim3 grid(static_cast<unsigned>(places.n), static_cast<unsigned>(places.n_streams));
    return SP_LAUNCH(spread_kernel, grid, THREADS, 0, stream, places, from, bias, mask, position, x);
}

__global__ void SP_BOUNDS(THREADS, 1) collect_kernel(sp_masked_places p, const float *x, const int32_t *wanted,
                                                     const float *position, float *features)
{
    sp_wait_launch();
    size_t stream = blockIdx.y, at = static_cast<size_t>(wanted[blockIdx.x]);
    const float *from = x + (stream * p.n + p.buffer + at) * p.dim;
    float *to = features + (stream * gridDim.x + blockIdx.x) * p.dim;
    for (size_t i = threadIdx.x; i < p.dim; i += THREADS) to[i] = from[i] + position[at * p.dim + i];
}

cudaError_t sp_cuda_masked_collect(cudaStream_t stream, const sp_masked_places &places, const float *x,
                                   const int32_t *wanted, size_t n_wanted, const float *position, float *features)
{
    dim3 grid(static_cast<unsigned>(n_wanted), static_cast<unsigned>(places.n_streams));
    return SP_LAUNCH(collect_kernel, grid, THREADS, 0, stream, places, x, wanted, position, features);
}
