/* Denoising chains of a window from start to end in one cooperative launch: every step of the head, and what the
 * rule decides about it, with no word to the host between. And one step in a launch of its own, for a host that decides
 * itself: the same code, so the same bits.
 *
 * Roofline. A step reads the head's weights once for every 32 rows: 28 MB of products and 24 MB of modulations for 6
 * blocks of width 768 (SphereAR-B), about what an H100's second-level cache holds: 10 us at its 5.5 TB/s, 16 us from
 * memory. 101 steps of 64 positions with guidance are 0.7 Tflop, 1.2 ms at 600 Tflop/s, and read them four times a
 * step: 4 ms. Beside that stand three grid barriers a block and two a step, about 1.5 us each: 30 us. So a step of
 * up to 32 rows is bound by its barriers and costs 40 to 50 us, a chain 4 to 5 ms; 20 launches and a word to the
 * host a step would cost three times as much.
 *
 * A matrix product gives a block 16 outputs, or 16 gates and the 16 that they gate, for 32 rows; its warps share k
 * in ascending parts, which are added in ascending order. So an output's sum has one order, whatever the rows.
 * Weights are the left operand, so that few rows waste few columns of the tensor cores. Everything of one chain (its
 * norms, its last layer, its law and its draws) is one block's. */
#include "kernels/cuda/chain.cuh"

enum { THREADS = 256, WARPS = THREADS / SP_WARP, TILE = 16, ROWS = 32, ROW_TILES = ROWS / 8 };
enum { PART_STRIDE = TILE + 4 }; /* floats of a row in shared memory: no two lanes of a store share a bank */

static_assert((int)THREADS >= (int)SP_MAX_LATENT, "a thread for every number of a state");

/* The sums of this warp's part of k. */
template <int PARTS> struct partial {
    float sum[PARTS][ROW_TILES][4];
};

/* A lane's share of the weights of a chunk: two outputs a part. */
template <int PARTS> struct weights_of_chunk {
    uint4 low[PARTS], high[PARTS];
};

/* Outputs that are not there repeat the last one. */
template <int PARTS>
__device__ static void load(const sp_cuda_linear &w, int first, int apart, int chunk, weights_of_chunk<PARTS> *to)
{
    int lane = (int)threadIdx.x % SP_WARP, g = lane / 4, q = lane % 4;
    const uint16_t *weights = w.weights + (size_t)chunk * (size_t)w.n * SP_CUDA_CHUNK + 8 * q;
#pragma unroll
    for (int p = 0; p < PARTS; p++) {
        int output = first + p * apart + g;
        const uint16_t *near = weights + (size_t)min(output, w.n - 1) * SP_CUDA_CHUNK;
        const uint16_t *far = weights + (size_t)min(output + 8, w.n - 1) * SP_CUDA_CHUNK;
        to->low[p] = sp_load_once(reinterpret_cast<const uint4 *>(near));
        to->high[p] = sp_load_once(reinterpret_cast<const uint4 *>(far));
    }
}

/* Outputs first .. first + 15, and when PARTS is 2 those `apart` behind them, of rows first_row on; rows that are not
 * there repeat the last one. The weights of the next chunk are under way while this one's are multiplied. */
template <int PARTS>
__device__ static void multiply(const sp_cuda_linear &w, int first, int apart, const uint16_t *x, int first_row,
                                int n_rows, partial<PARTS> *out)
{
    int lane = (int)threadIdx.x % SP_WARP, warp = (int)threadIdx.x / SP_WARP, g = lane / 4, q = lane % 4;
    int chunk = w.chunks * warp / WARPS, end = w.chunks * (warp + 1) / WARPS, tiles = (n_rows - first_row + 7) / 8;
    weights_of_chunk<PARTS> now = {}, next = {};
    *out = partial<PARTS>{};
    if (chunk < end) load(w, first, apart, chunk, &now);
#pragma unroll 1
    for (; chunk < end; chunk++) {
        if (chunk + 1 < end) load(w, first, apart, chunk + 1, &next);
        const uint16_t *rows = x + chunk * SP_CUDA_CHUNK + 8 * q;
#pragma unroll
        for (int r = 0; r < ROW_TILES; r++) {
            if (r >= tiles) continue;
            size_t row = (size_t)min(first_row + 8 * r + g, n_rows - 1);
            uint4 v = *reinterpret_cast<const uint4 *>(rows + row * (size_t)w.chunks * SP_CUDA_CHUNK);
            const uint32_t b[4] = {v.x, v.y, v.z, v.w};
#pragma unroll
            for (int p = 0; p < PARTS; p++) {
                const uint32_t first_half[4] = {now.low[p].x, now.high[p].x, now.low[p].y, now.high[p].y};
                const uint32_t second_half[4] = {now.low[p].z, now.high[p].z, now.low[p].w, now.high[p].w};
                sp_mma_bf16(out->sum[p][r], first_half, b);
                sp_mma_bf16(out->sum[p][r], second_half, b + 2);
            }
        }
        now = next;
    }
}

/* Leaves the parts in shared memory [WARPS, PARTS, ROWS, PART_STRIDE]. */
template <int PARTS> __device__ static void share(const partial<PARTS> &own, float *shared)
{
    int lane = (int)threadIdx.x % SP_WARP, warp = (int)threadIdx.x / SP_WARP, g = lane / 4, q = lane % 4;
#pragma unroll
    for (int p = 0; p < PARTS; p++) {
        float *part = shared + (warp * PARTS + p) * ROWS * PART_STRIDE;
#pragma unroll
        for (int r = 0; r < ROW_TILES; r++)
            for (int i = 0; i < 4; i++) part[(8 * r + 2 * q + i % 2) * PART_STRIDE + g + i / 2 * 8] = own.sum[p][r][i];
    }
}

/* store(row, output, values) for the first n outputs of all rows; value p is the output p `apart` behind. */
template <int PARTS, typename STORE>
__device__ static void product(const sp_cuda_linear &w, int n, int apart, const uint16_t *x, int n_rows, float *shared,
                               STORE store)
{
    int across = (n + TILE - 1) / TILE, down = (n_rows + ROWS - 1) / ROWS;
    for (int tile = (int)blockIdx.x; tile < across * down; tile += (int)gridDim.x) {
        int first = tile % across * TILE, first_row = tile / across * ROWS;
        partial<PARTS> own;
        multiply(w, first, apart, x, first_row, n_rows, &own);
        share(own, shared);
        __syncthreads();
        for (int i = (int)threadIdx.x; i < TILE * ROWS; i += THREADS) {
            int row = first_row + i / TILE, output = first + i % TILE;
            if (row >= n_rows || output >= n) continue;
            float v[PARTS];
            for (int p = 0; p < PARTS; p++) {
                const float *part = shared + p * ROWS * PART_STRIDE + i / TILE * PART_STRIDE + i % TILE;
                v[p] = 0.0f;
                for (int warp = 0; warp < WARPS; warp++) v[p] += part[warp * PARTS * ROWS * PART_STRIDE];
                v[p] += w.bias[output + p * apart];
            }
            store(row, output, v);
        }
        __syncthreads();
    }
}

__device__ static float silu(float x) { return x / (1.0f + expf(-x)); }

__device__ static uint16_t rounded(float x) { return (uint16_t)sp_pack_bf16(x, 0.0f); }

__global__ void round_rows(const float *features, size_t n_rows, size_t k, size_t stride, uint16_t *x)
{
    sp_wait_launch();
    size_t i = blockIdx.x * (size_t)THREADS + threadIdx.x;
    if (i < n_rows * stride) x[i] = i % stride < k ? rounded(features[i / stride * k + i % stride]) : (uint16_t)0;
}

__global__ void SP_BOUNDS(THREADS, 2) make_conditions(const sp_cuda_head a, const uint16_t *x)
{
    sp_wait_launch();
    SP_SHARED(float, shared);
    int rows = a.streams * a.n_conditions;
    product<1>(a.condition, a.width, 0, x, rows, shared, [&](int row, int output, const float *v) {
        a.conditions[(size_t)row * (size_t)a.width + (size_t)output] = v[0];
    });
}

__device__ static const float *modulation_of(const sp_cuda_head &a, int row)
{
    return a.m + (size_t)row * (size_t)a.modulations;
}

/* to(i, (h - mean) / deviation, scale, shift) over a row; scale and shift are those of a group or of the last layer. */
template <typename TO> __device__ static void normed(const sp_cuda_head &a, int row, int group, float *part, TO to)
{
    const float *h = a.h + (size_t)row * (size_t)a.width, *first = modulation_of(a, row) + 3 * group * a.width;
    const float *scale = a.shift_first ? first + a.width : first, *shift = a.shift_first ? first : first + a.width;
    float sum = 0.0f, squares = 0.0f;
    for (int i = (int)threadIdx.x; i < a.width; i += THREADS) sum += h[i];
    float mean = sp_block_sum(sum, part) / (float)a.width;
    for (int i = (int)threadIdx.x; i < a.width; i += THREADS) squares = fmaf(h[i] - mean, h[i] - mean, squares);
    float factor = 1.0f / sqrtf(sp_block_sum(squares, part) / (float)a.width + 1e-6f);
    for (int i = (int)threadIdx.x; i < a.width; i += THREADS) to(i, (h[i] - mean) * factor, scale[i], shift[i]);
}

__device__ static void norm_rows(const sp_cuda_head &a, int index, float *part)
{
    const sp_cuda_head_block &b = a.blocks[index];
    for (int row = (int)blockIdx.x; row < a.streams * a.n; row += (int)gridDim.x)
        normed(a, row, index / a.blocks_a_group, part, [&](int i, float v, float scale, float shift) {
            v = fmaf(v, b.norm[i], b.norm_bias[i]);
            a.u[(size_t)row * (size_t)a.width_stride + (size_t)i] = rounded(fmaf(v, 1.0f + scale, shift));
        });
}

__device__ static void up(const sp_cuda_head &a, int index, float *shared)
{
    const sp_cuda_linear &w = a.blocks[index].up;
    size_t stride = (size_t)a.hidden_stride;
    int rows = a.streams * a.n;
    if (a.gated)
        product<2>(w, a.hidden, a.hidden, a.u, rows, shared, [&](int row, int output, const float *v) {
            a.active[(size_t)row * stride + (size_t)output] = rounded(silu(v[0]) * v[1]);
        });
    else
        product<1>(w, a.hidden, 0, a.u, rows, shared, [&](int row, int output, const float *v) {
            a.active[(size_t)row * stride + (size_t)output] = rounded(silu(v[0]));
        });
}

__device__ static void down(const sp_cuda_head &a, int index, float *shared)
{
    int gate = (3 * (index / a.blocks_a_group) + 2) * a.width;
    product<1>(a.blocks[index].down, a.width, 0, a.active, a.streams * a.n, shared,
               [&](int row, int output, const float *v) {
                   float *h = a.h + (size_t)row * (size_t)a.width + (size_t)output;
                   *h = fmaf(modulation_of(a, row)[gate + output], v[0], *h);
               });
}

/* The last layer for both streams of a chain, in float. */
__device__ static void last_layer(const sp_cuda_head &a, int j, sp_chain_memory *shared)
{
    int warp = (int)threadIdx.x / SP_WARP, lane = (int)threadIdx.x % SP_WARP;
    for (int stream = 0; stream < a.streams; stream++)
        normed(a, stream * a.n + j, a.n_groups, shared->part, [&](int i, float v, float scale, float shift) {
            shared->u[stream * a.width + i] = fmaf(v, 1.0f + scale, shift);
        });
    __syncthreads();
    for (int o = warp; o < a.streams * a.outputs; o += WARPS) {
        const float *weights = a.output + (size_t)(o % a.outputs) * (size_t)a.width;
        const float *u = shared->u + o / a.outputs * a.width;
        float sum = 0.0f;
        for (int i = lane; i < a.width; i += SP_WARP) sum = fmaf(weights[i], u[i], sum);
        sum = sp_warp_sum(sum);
        if (lane == 0) shared->out[o] = sum + a.output_bias[o % a.outputs];
    }
    __syncthreads();
}

/* The law of a step, when its chain is moved by somebody else. */
__device__ static void leave_law(const sp_cuda_head &a, int j, int k, const sp_chain_memory *shared)
{
    sp_chain_number x = {(int)threadIdx.x, 0.0f, 1.0f, 0.0f, 0.0f};
    if (x.i >= a.dim) return;
    int to = j * a.dim + x.i;
    sp_chain_law(a, j, k, shared->out, a.state[to], &x);
    a.mean[to] = x.mean;
    a.deviation[to] = x.deviation;
}

__device__ static void finish_step(const sp_cuda_head &a, int j, int k, sp_chain_memory *shared)
{
    last_layer(a, j, shared);
    sp_move_chain(a, j, k, shared);
}

/* h = input(y) and s = silu(time + condition) for both streams of a chain. */
__device__ static void begin_step(const sp_cuda_head &a, int j, int k, sp_chain_memory *shared)
{
    __syncthreads();
    if ((int)threadIdx.x < a.dim) shared->y[threadIdx.x] = a.state[j * a.dim + (int)threadIdx.x];
    __syncthreads();
    for (int i = (int)threadIdx.x; i < a.width; i += THREADS) {
        float sum = a.input_bias[i];
        for (int d = 0; d < a.dim; d++) sum = fmaf(a.input[i * a.dim + d], shared->y[d], sum);
        for (int stream = 0; stream < a.streams; stream++) {
            size_t row = (size_t)(stream * a.n + j), from = (size_t)(stream * a.n_conditions + a.row[j]);
            a.h[row * (size_t)a.width + (size_t)i] = sum;
            a.s[row * (size_t)a.width_stride + (size_t)i] =
                rounded(silu(a.conditions[from * (size_t)a.width + (size_t)i] + a.time[k * a.width + i]));
        }
    }
}

__device__ static void step_chains(const sp_cuda_head &a, int k, sp_chain_memory *shared)
{
    for (int j = (int)blockIdx.x; j < a.n; j += (int)gridDim.x) {
        if (k == 0) sp_start_chain(a, j);
        else finish_step(a, j, k - 1, shared);
        if (k < a.steps) begin_step(a, j, k, shared);
    }
}

__device__ static void modulate(const sp_cuda_head &a, float *shared)
{
    size_t width = (size_t)a.modulations;
    product<1>(a.modulation, a.modulations, 0, a.s, a.streams * a.n, shared,
               [&](int row, int output, const float *v) { a.m[(size_t)row * width + (size_t)output] = v[0]; });
}

/* What lies between the beginning and the end of a step, for all rows. */
__device__ static void run_blocks(const sp_cuda_head &a, float *shared)
{
    sp_grid_sync(a.counter);
    modulate(a, shared);
    sp_grid_sync(a.counter);
    for (int i = 0; i < a.n_blocks; i++) {
        norm_rows(a, i, shared);
        sp_grid_sync(a.counter);
        up(a, i, shared);
        sp_grid_sync(a.counter);
        down(a, i, shared);
        sp_grid_sync(a.counter);
    }
}

__global__ void SP_BOUNDS(THREADS, 2) run_chains(const sp_cuda_head a)
{
    SP_SHARED(float, shared);
    sp_chain_memory *chain = reinterpret_cast<sp_chain_memory *>(shared);
    for (int k = 0;; k++) {
        step_chains(a, k, chain);
        if (k == a.steps) break;
        run_blocks(a, shared);
    }
}

__global__ void SP_BOUNDS(THREADS, 2) run_step(const sp_cuda_head a, int k)
{
    SP_SHARED(float, shared);
    sp_chain_memory *chain = reinterpret_cast<sp_chain_memory *>(shared);
    for (int j = (int)blockIdx.x; j < a.n; j += (int)gridDim.x) begin_step(a, j, k, chain);
    run_blocks(a, shared);
    for (int j = (int)blockIdx.x; j < a.n; j += (int)gridDim.x) {
        last_layer(a, j, chain);
        leave_law(a, j, k, chain);
    }
}

static size_t larger(size_t a, size_t b) { return a > b ? a : b; }

static size_t product_shared(size_t parts) { return WARPS * parts * ROWS * PART_STRIDE * sizeof(float); }

size_t sp_cuda_chains_shared(const sp_cuda_head *a)
{
    size_t chain = sizeof(sp_chain_memory) + 2 * (size_t)a->width * sizeof(float);
    return larger(product_shared(a->gated ? 2 : 1), chain);
}

cudaError_t sp_cuda_head_conditions(cudaStream_t stream, const sp_cuda_head *a, const float *features, size_t k,
                                    uint16_t *x)
{
    size_t rows = (size_t)(a->streams * a->n_conditions), stride = (size_t)a->condition.chunks * SP_CUDA_CHUNK;
    unsigned tiles = sp_blocks((size_t)a->width, TILE) * sp_blocks(rows, ROWS);
    cudaError_t error = SP_LAUNCH(round_rows, sp_blocks(rows * stride, THREADS), THREADS, 0, stream, features, rows, k,
                                  stride, x);
    if (error != cudaSuccess) return error;
    return SP_LAUNCH(make_conditions, tiles, THREADS, product_shared(1), stream, *a, x);
}

/* Two blocks a multiprocessor, all there at once. */
cudaError_t sp_cuda_head_chains(cudaStream_t stream, const sp_cuda_head *a, int multiprocessors)
{
    cudaError_t error = cudaMemsetAsync(a->counter, 0, sizeof *a->counter, stream);
    if (error != cudaSuccess) return error;
    return SP_LAUNCH_COOPERATIVE(run_chains, 2 * (unsigned)multiprocessors, THREADS, sp_cuda_chains_shared(a), stream,
                                 *a);
}

cudaError_t sp_cuda_head_step(cudaStream_t stream, const sp_cuda_head *a, int k, int multiprocessors)
{
    cudaError_t error = cudaMemsetAsync(a->counter, 0, sizeof *a->counter, stream);
    if (error != cudaSuccess) return error;
    return SP_LAUNCH_COOPERATIVE(run_step, 2 * (unsigned)multiprocessors, THREADS, sp_cuda_chains_shared(a), stream,
                                 *a, k);
}
