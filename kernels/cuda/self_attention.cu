/* Roofline: 4 n^2 width flops, 0.7 Gflop for 24 x 24 positions of 512 channels, 11 Gflop for 48 x 48: under 1 % of the
 * decoder. So it is two matrix products of the convolution's kernel with a softmax between them, whose scores, 4 n^2
 * bytes (21 MB at n = 2304), stay in the second-level cache. */
#include "kernels/cuda/self_attention.cuh"

enum { THREADS = 256 };

/* The largest of a block, in every thread; part is shared memory, a float a warp. */
__device__ static float block_max(float x, float *part)
{
    x = sp_warp_max(x);
    if (threadIdx.x % SP_WARP == 0) part[threadIdx.x / SP_WARP] = x;
    __syncthreads();
    for (unsigned i = 0; i < THREADS / SP_WARP; i++) x = fmaxf(x, part[i]);
    __syncthreads();
    return x;
}

/* One row a block, in place: e^(scale (score - top)) over their sum. */
__global__ void SP_BOUNDS(THREADS, 4) softmax_rows(float *scores, size_t stride, size_t n, float scale)
{
    sp_wait_launch();
    SP_SHARED(float, part); /* [THREADS / SP_WARP] */
    float *row = scores + blockIdx.x * stride, top = -INFINITY, sum = 0.0f;
    for (size_t i = threadIdx.x; i < n; i += THREADS) top = fmaxf(top, row[i]);
    top = block_max(top, part);
    for (size_t i = threadIdx.x; i < n; i += THREADS) {
        row[i] = expf(scale * (row[i] - top));
        sum += row[i];
    }
    float inverse = 1.0f / sp_block_sum(sum, part);
    for (size_t i = threadIdx.x; i < n; i += THREADS) row[i] *= inverse;
}

static cudaError_t some_rows(cudaStream_t stream, const sp_cuda_self_attention *c, size_t first, size_t rows,
                             int multiprocessors)
{
    size_t stride = sp_cuda_stride(c->n);
    sp_cuda_conv scores = {};
    scores.size = 1;
    scores.in = sp_plane{1, rows, c->width};
    scores.n = c->n;
    scores.x = c->q + first * c->stride;
    scores.x_stride = c->stride;
    scores.weights = sp_cuda_matrix(c->keys, c->key_stride);
    scores.y = c->scratch;
    scores.y_stride = stride;
    cudaError_t error = sp_cuda_convolve(stream, &scores, multiprocessors);
    if (error != cudaSuccess) return error;
    float scale = (float)(1.0 / sqrt((double)c->width));
    error = SP_LAUNCH(softmax_rows, (unsigned)rows, THREADS, THREADS / SP_WARP * sizeof(float), stream, c->scratch,
                      stride, c->n, scale);
    if (error != cudaSuccess) return error;
    sp_cuda_conv mix = {};
    mix.size = 1;
    mix.in = sp_plane{1, rows, c->n};
    mix.n = c->width;
    mix.x = c->scratch;
    mix.x_stride = stride;
    mix.weights = sp_cuda_matrix(c->values, c->value_stride);
    mix.y = c->out + first * c->stride;
    mix.y_stride = c->stride;
    return sp_cuda_convolve(stream, &mix, multiprocessors);
}

cudaError_t sp_cuda_self_attention_run(cudaStream_t stream, const sp_cuda_self_attention *c, int multiprocessors)
{
    size_t fits = c->scratch_floats / sp_cuda_stride(c->n);
    for (size_t first = 0, rows; first < c->n; first += rows) {
        rows = c->n - first < fits ? c->n - first : fits;
        cudaError_t error = some_rows(stream, c, first, rows, multiprocessors);
        if (error != cudaSuccess) return error;
    }
    return cudaSuccess;
}
