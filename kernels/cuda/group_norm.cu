/* Roofline: reads the picture once, 4 bytes a number, and nothing else that counts: 384 x 384 pixels of 128 channels
 * are 75 MB, 23 us at 3.35 TB/s. Blocks take slabs of pixels, threads four channels each by 16-byte loads, four of them
 * under way; then a block a group adds what the slabs gave.
 *
 * Sums are of distances from a pivot, the group's first number: where the mean is large beside the deviation, a sum of
 * squares would lose it. A thread's sums are float; what threads and slabs give meets in double, in one order. */
#include "kernels/cuda/group_norm.cuh"

enum { THREADS = 256, SLAB = 128, MAX_LANES = 64, FINISH_THREADS = 128 }; /* SLAB: pixels */

/* Of a slab and a channel. */
struct moments {
    float sum, squares;
};

static size_t slabs_of(sp_plane plane) { return (plane.height * plane.width + SLAB - 1) / SLAB; }

/* Moments [slabs, channels]. */
size_t sp_cuda_group_norm_scratch(sp_plane plane) { return slabs_of(plane) * plane.channels * 2; }

/* Threads side by side over the channels, a power of two, so that they divide the block. */
static unsigned lanes_of(size_t channels)
{
    unsigned lanes = 1;
    while (lanes < MAX_LANES && 4 * lanes < channels) lanes *= 2;
    return lanes;
}

/* Each of the block's rows of lanes has every so many pixels of the slab; the first adds the rows up. */
__global__ void SP_BOUNDS(THREADS, 4) gather_moments(const sp_cuda_group_norm c, unsigned lanes)
{
    sp_wait_launch();
    SP_SHARED(float, shared); /* [THREADS, 8] */
    size_t pixels = c.plane.height * c.plane.width, channels = c.plane.channels, width = channels / c.groups;
    size_t first = blockIdx.x * (size_t)SLAB, last = first + SLAB < pixels ? first + SLAB : pixels;
    size_t channel = 4 * (size_t)(blockIdx.y * lanes + threadIdx.x % lanes);
    unsigned row = threadIdx.x / lanes, rows = THREADS / lanes;
    float pivot[4] = {}, sum[4] = {}, squares[4] = {}, *own = shared + 8 * threadIdx.x;
    for (size_t j = 0; j < 4 && channel + j < channels; j++) pivot[j] = c.x[(channel + j) / width * width];
#pragma unroll 4
    for (size_t p = first + row; p < last && channel < channels; p += rows) {
        float4 x = *reinterpret_cast<const float4 *>(c.x + p * c.x_stride + channel);
        const float v[4] = {x.x - pivot[0], x.y - pivot[1], x.z - pivot[2], x.w - pivot[3]};
        for (int j = 0; j < 4; j++) {
            sum[j] += v[j];
            squares[j] = fmaf(v[j], v[j], squares[j]);
        }
    }
    for (int j = 0; j < 4; j++) {
        own[j] = sum[j];
        own[4 + j] = squares[j];
    }
    __syncthreads();
    for (size_t j = 0; row == 0 && j < 4 && channel + j < channels; j++) {
        double total = 0, total_squares = 0;
        for (unsigned r = 0; r < rows; r++) {
            total += (double)own[8 * r * lanes + j];
            total_squares += (double)own[8 * r * lanes + 4 + j];
        }
        moments *to = reinterpret_cast<moments *>(c.scratch) + blockIdx.x * channels + channel + j;
        *to = moments{(float)total, (float)total_squares};
    }
}

/* The sum over the block, in the order of a tree; in every thread. */
__device__ static double block_total(double x, double *shared)
{
    shared[threadIdx.x] = x;
    for (unsigned half = FINISH_THREADS / 2; half > 0; half /= 2) {
        __syncthreads();
        if (threadIdx.x < half) shared[threadIdx.x] += shared[threadIdx.x + half];
    }
    __syncthreads();
    double total = shared[0];
    __syncthreads();
    return total;
}

__global__ void SP_BOUNDS(FINISH_THREADS, 1) finish_group(const sp_cuda_group_norm c, size_t slabs)
{
    sp_wait_launch();
    SP_SHARED(double, shared); /* [FINISH_THREADS] */
    size_t channels = c.plane.channels, width = channels / c.groups, first = blockIdx.x * width;
    double count = (double)(c.plane.height * c.plane.width) * (double)width, sum = 0, squares = 0;
    for (size_t i = threadIdx.x; i < slabs * width; i += FINISH_THREADS) {
        moments m = reinterpret_cast<const moments *>(c.scratch)[i / width * channels + first + i % width];
        sum += (double)m.sum;
        squares += (double)m.squares;
    }
    double offset = block_total(sum, shared) / count, variance = block_total(squares, shared) / count - offset * offset;
    double mean = (double)c.x[first] + offset, scale = 1.0 / sqrt((variance > 0 ? variance : 0) + (double)c.eps);
    for (size_t i = first + threadIdx.x; i < first + width; i += FINISH_THREADS) {
        double gain = scale * (double)c.gain[i];
        c.affine[i] = make_float2((float)gain, (float)((double)c.bias[i] - mean * gain));
    }
}

cudaError_t sp_cuda_group_norm_run(cudaStream_t stream, const sp_cuda_group_norm *c)
{
    unsigned lanes = lanes_of(c->plane.channels);
    dim3 grid((unsigned)slabs_of(c->plane), sp_blocks(c->plane.channels, 4 * lanes));
    cudaError_t error = SP_LAUNCH(gather_moments, grid, THREADS, THREADS * 8 * sizeof(float), stream, *c, lanes);
    if (error != cudaSuccess) return error;
    return SP_LAUNCH(finish_group, (unsigned)c->groups, FINISH_THREADS, FINISH_THREADS * sizeof(double), stream, *c,
                     slabs_of(c->plane));
}
