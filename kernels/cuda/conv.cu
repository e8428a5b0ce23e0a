/* Roofline (H100: 989 Tflop/s dense bf16 by wgmma, about 60 % of it by mma.sync, 3.35 TB/s). A 3x3 convolution does 18
 * n flops for each of its inputs and reads 4 bytes of it: from n = 32 on the tensor cores are the bound; conv_out, of
 * n = 3, is bound by its input. A block of 128 pixels and 128 channels reads 23 KB of input and 74 KB of weights a
 * chunk of 32 channels for 9.4 Mflop: 97 flops a byte, of which the weights come out of the second-level cache.
 * Expected: 50 to 60 % of what mma.sync can do where blocks fill the card (planes from 64 x 64 on), less below.
 *
 * A block keeps the patch of the picture under its pixels in shared memory, a chunk of channels at a time: raw by
 * asynchronous copies while the chunk before is multiplied, then normed, through swish and rounded, once for all nine
 * taps. Weights come in stages, one a tap. Nearest-neighbour doubling is where a tap looks in the patch.
 *
 * Fragments: the channels of a chunk may be summed in any order that both operands share. Lane t of a quad takes
 * channels 8 t .. 8 t + 7, one 16-byte load, as its share of two products of 16: no bank conflicts without padding,
 * since rows of neighbouring pixels are 64 bytes. */
#include "kernels/cuda/conv.cuh"

enum { CHUNK = SP_CUDA_CHUNK, STAGES = 4, MAX_THREADS = 256 };

/* What a block makes: TILE_ROWS x TILE_COLUMNS pixels of TILE_N channels, by WARPS_M x WARPS_N warps. */
template <int TILE_ROWS, int TILE_COLUMNS, int TILE_N, int WARPS_M, int WARPS_N, int SIZE, bool UPSAMPLE> struct tile {
    static constexpr int rows = TILE_ROWS, columns = TILE_COLUMNS, n = TILE_N, size = SIZE;
    static constexpr bool upsample = UPSAMPLE;
    static constexpr int taps = SIZE * SIZE, threads = 32 * WARPS_M * WARPS_N, warps_n = WARPS_N;
    static constexpr int m_tiles = TILE_ROWS * TILE_COLUMNS / WARPS_M / 16, n_tiles = TILE_N / WARPS_N / 8;
    static constexpr int patch_rows = SIZE == 1 ? TILE_ROWS : UPSAMPLE ? TILE_ROWS / 2 + 2 : TILE_ROWS + 2;
    static constexpr int patch_columns = SIZE == 1 ? TILE_COLUMNS : UPSAMPLE ? TILE_COLUMNS / 2 + 2 : TILE_COLUMNS + 2;
    static constexpr int patch = patch_rows * patch_columns;
    static constexpr size_t raw_bytes = sizeof(float) * patch * CHUNK, a_bytes = 2 * patch * CHUNK;
    static constexpr size_t b_bytes = 2 * TILE_N * CHUNK, bytes = raw_bytes + a_bytes + STAGES * b_bytes;
};

/* Where the block's pixels and channels begin, and the patch: that may be outside the picture. */
struct place {
    int row, column, n, patch_row, patch_column;
};

template <typename T> __device__ static place place_of(const sp_cuda_conv &c)
{
    int width = (int)(T::upsample ? 2 * c.in.width : c.in.width), across = (width + T::columns - 1) / T::columns;
    place p;
    p.row = (int)blockIdx.x / across * T::rows;
    p.column = (int)blockIdx.x % across * T::columns;
    p.n = (int)blockIdx.y * T::n;
    p.patch_row = (T::upsample ? p.row / 2 : p.row) - T::size / 2;
    p.patch_column = (T::upsample ? p.column / 2 : p.column) - T::size / 2;
    return p;
}

/* The pixel of the picture under pixel i of the patch; false outside. */
template <typename T> __device__ static bool source(const sp_cuda_conv &c, const place &p, int i, size_t *pixel)
{
    int row = p.patch_row + i / T::patch_columns, column = p.patch_column + i % T::patch_columns;
    *pixel = (size_t)row * c.in.width + (size_t)column;
    return row >= 0 && row < (int)c.in.height && column >= 0 && column < (int)c.in.width;
}

template <typename T> __device__ static void copy_raw(const sp_cuda_conv &c, const place &p, int chunk, float *raw)
{
#pragma unroll 1
    for (int i = (int)threadIdx.x; i < T::patch * CHUNK / 4; i += T::threads) {
        size_t pixel, channel = (size_t)(chunk * CHUNK + i % 8 * 4);
        if (!source<T>(c, p, i / 8, &pixel) || channel >= c.in.channels) continue;
        sp_copy_async16(raw + 4 * i, c.x + pixel * c.x_stride + channel, false);
    }
}

/* f(raw) in bf16; zeros outside the picture and from channel k on. A thread has the same four channels throughout. */
template <typename T>
__device__ static void transform(const sp_cuda_conv &c, const place &p, int chunk, const float *raw, uint16_t *a)
{
    size_t first = (size_t)(chunk * CHUNK) + threadIdx.x % 8 * 4, k = c.in.channels;
    float2 affine[4];
    for (int j = 0; j < 4; j++)
        affine[j] = c.affine && first + (size_t)j < k ? c.affine[first + (size_t)j] : make_float2(1.0f, 0.0f);
#pragma unroll 1
    for (int i = (int)threadIdx.x; i < T::patch * CHUNK / 4; i += T::threads) {
        size_t pixel;
        bool inside = source<T>(c, p, i / 8, &pixel);
        float4 x = reinterpret_cast<const float4 *>(raw)[i];
        float v[4] = {x.x, x.y, x.z, x.w};
        for (int j = 0; j < 4; j++) v[j] = fmaf(v[j], affine[j].x, affine[j].y);
        if (c.swish)
            for (int j = 0; j < 4; j++) v[j] = sp_fast_swish(v[j]);
        for (int j = 0; j < 4; j++) v[j] = inside && first + (size_t)j < k ? v[j] : 0.0f;
        reinterpret_cast<uint2 *>(a)[i] = make_uint2(sp_pack_bf16(v[0], v[1]), sp_pack_bf16(v[2], v[3]));
    }
}

/* Rows beyond n repeat the last one: what they give is not stored. */
template <typename T>
__device__ static void copy_weights(const sp_cuda_conv &c, const place &p, int step, uint16_t *b)
{
    for (int i = (int)threadIdx.x; i < T::n * CHUNK / 8; i += T::threads) {
        size_t row = (size_t)(p.n + i / 4) < c.n ? (size_t)(p.n + i / 4) : c.n - 1;
        const uint16_t *from = c.weights.data + (size_t)step * c.weights.step_stride + row * c.weights.row_stride;
        sp_copy_async16(b + 8 * i, from + i % 4 * 8, false);
    }
}

/* Where tap (dy, dx) of the tile's pixel m lies in the patch. */
template <typename T> __device__ static int patch_pixel(int m, int dy, int dx)
{
    int row = m / T::columns, column = m % T::columns;
    if (T::size == 1) return row * T::patch_columns + column;
    row = T::upsample ? (row + dy + 1) >> 1 : row + dy;
    column = T::upsample ? (column + dx + 1) >> 1 : column + dx;
    return row * T::patch_columns + column;
}

template <typename T>
__device__ static void multiply(const uint16_t *a, const uint16_t *b, int tap, float sums[T::m_tiles][T::n_tiles][4])
{
    int lane = (int)threadIdx.x % 32, warp = (int)threadIdx.x / 32, g = lane / 4, t = lane % 4;
    int first_m = warp / T::warps_n * T::m_tiles * 16, first_n = warp % T::warps_n * T::n_tiles * 8;
    int dy = tap / T::size, dx = tap % T::size;
    uint4 weights[T::n_tiles];
#pragma unroll
    for (int j = 0; j < T::n_tiles; j++)
        weights[j] = *reinterpret_cast<const uint4 *>(b + (first_n + j * 8 + g) * CHUNK + 8 * t);
#pragma unroll
    for (int i = 0; i < T::m_tiles; i++) {
        int m = first_m + i * 16 + g;
        uint4 low = *reinterpret_cast<const uint4 *>(a + patch_pixel<T>(m, dy, dx) * CHUNK + 8 * t);
        uint4 high = *reinterpret_cast<const uint4 *>(a + patch_pixel<T>(m + 8, dy, dx) * CHUNK + 8 * t);
        const uint32_t first[4] = {low.x, high.x, low.y, high.y}, second[4] = {low.z, high.z, low.w, high.w};
#pragma unroll
        for (int j = 0; j < T::n_tiles; j++) {
            const uint32_t w[4] = {weights[j].x, weights[j].y, weights[j].z, weights[j].w};
            sp_mma_bf16(sums[i][j], first, w);
            sp_mma_bf16(sums[i][j], second, w + 2);
        }
    }
}

__device__ static void store(const sp_cuda_conv &c, size_t pixel, size_t n, float sum)
{
    if (n >= c.n) return;
    if (c.bias) sum += c.bias[n];
    if (c.residual) sum += c.residual[pixel * c.y_stride + n];
    size_t half = c.transposed ? n * c.half_stride + pixel : pixel * c.half_stride + n;
    if (c.y) c.y[pixel * c.y_stride + n] = sum;
    else c.half[half] = (uint16_t)sp_pack_bf16(sum, 0.0f);
}

template <typename T>
__device__ static void store_all(const sp_cuda_conv &c, const place &p, const float sums[T::m_tiles][T::n_tiles][4])
{
    int lane = (int)threadIdx.x % 32, warp = (int)threadIdx.x / 32, g = lane / 4, t = lane % 4;
    int first_m = warp / T::warps_n * T::m_tiles * 16, first_n = p.n + warp % T::warps_n * T::n_tiles * 8;
    int height = (int)(T::upsample ? 2 * c.in.height : c.in.height);
    int width = (int)(T::upsample ? 2 * c.in.width : c.in.width);
#pragma unroll
    for (int i = 0; i < 2 * T::m_tiles; i++) {
        int m = first_m + i / 2 * 16 + i % 2 * 8 + g, row = p.row + m / T::columns, column = p.column + m % T::columns;
        if (row >= height || column >= width) continue;
        size_t pixel = (size_t)row * (size_t)width + (size_t)column;
#pragma unroll
        for (int j = 0; j < T::n_tiles; j++) {
            store(c, pixel, (size_t)(first_n + j * 8 + 2 * t), sums[i / 2][j][i % 2 * 2]);
            store(c, pixel, (size_t)(first_n + j * 8 + 2 * t + 1), sums[i / 2][j][i % 2 * 2 + 1]);
        }
    }
}

/* Copies of a step: the weights of the one STAGES - 1 ahead; with a chunk's first tap the raw patch of the next chunk,
 * which the chunk's own has just been made of. Size 1 has one step a chunk, and waits for its patch. */
template <typename T> __global__ void SP_BOUNDS(T::threads, 2) convolve(const sp_cuda_conv c)
{
    sp_wait_launch();
    SP_SHARED(unsigned char, memory);
    float *raw = reinterpret_cast<float *>(memory);
    uint16_t *a = reinterpret_cast<uint16_t *>(memory + T::raw_bytes);
    uint16_t *b = reinterpret_cast<uint16_t *>(memory + T::raw_bytes + T::a_bytes);
    place p = place_of<T>(c);
    int chunks = (int)((c.in.channels + CHUNK - 1) / CHUNK), steps = chunks * T::taps;
    float sums[T::m_tiles][T::n_tiles][4] = {};
    copy_raw<T>(c, p, 0, raw);
    sp_copy_commit();
    for (int i = 0; i < STAGES - 1; i++) {
        if (i < steps) copy_weights<T>(c, p, i, b + i * T::n * CHUNK);
        sp_copy_commit();
    }
    for (int i = 0; i < steps; i++) {
        int chunk = i / T::taps, tap = i % T::taps, ahead = i + STAGES - 1;
        if (T::size == 1) sp_copy_wait<0>();
        else sp_copy_wait<STAGES - 2>();
        if (tap == 0) {
            __syncthreads();
            transform<T>(c, p, chunk, raw, a);
        }
        __syncthreads();
        if (tap == 0 && chunk + 1 < chunks) copy_raw<T>(c, p, chunk + 1, raw);
        if (ahead < steps) copy_weights<T>(c, p, ahead, b + ahead % STAGES * T::n * CHUNK);
        sp_copy_commit();
        multiply<T>(a, b + i % STAGES * T::n * CHUNK, tap, sums);
    }
    store_all<T>(c, p, sums);
}

static size_t divided_up(size_t a, size_t b) { return (a + b - 1) / b; }

template <typename T> static size_t blocks_of(const sp_cuda_conv *c)
{
    size_t up = T::upsample ? 2 : 1;
    return divided_up(up * c->in.height, T::rows) * divided_up(up * c->in.width, T::columns);
}

template <typename T> static cudaError_t launch(cudaStream_t stream, const sp_cuda_conv *c)
{
    dim3 grid((unsigned)blocks_of<T>(c), (unsigned)divided_up(c->n, T::n));
    return SP_LAUNCH(convolve<T>, grid, T::threads, T::bytes, stream, *c);
}

/* Large blocks where there are enough of them for every multiprocessor, thin ones for the three colours. */
template <int SIZE, bool UPSAMPLE>
static cudaError_t choose(cudaStream_t stream, const sp_cuda_conv *c, int multiprocessors)
{
    constexpr int flat = SIZE == 1;
    using wide = tile<flat ? 1 : 8, flat ? 128 : 16, 128, 2, 4, SIZE, UPSAMPLE>;
    using small = tile<flat ? 1 : 8, flat ? 64 : 8, 64, 2, 2, SIZE, UPSAMPLE>;
    using thin = tile<flat ? 1 : 8, flat ? 128 : 16, 8, 8, 1, SIZE, UPSAMPLE>;
    if (c->n <= thin::n) return launch<thin>(stream, c);
    bool fills = blocks_of<wide>(c) * divided_up(c->n, wide::n) >= (size_t)multiprocessors;
    if (fills && c->n > small::n) return launch<wide>(stream, c);
    return launch<small>(stream, c);
}

cudaError_t sp_cuda_convolve(cudaStream_t stream, const sp_cuda_conv *call, int multiprocessors)
{
    if (call->size == 3 && call->upsample) return choose<3, true>(stream, call, multiprocessors);
    if (call->size == 3) return choose<3, false>(stream, call, multiprocessors);
    sp_cuda_conv flat = *call;
    flat.in.width *= flat.in.height;
    flat.in.height = 1;
    return choose<1, false>(stream, &flat, multiprocessors);
}

static uint16_t bf16_of(const void *weights, sp_dtype dtype, size_t i)
{
    if (dtype == SP_BF16) return static_cast<const uint16_t *>(weights)[i];
    if (dtype == SP_F16) return sp_f32_to_bf16(sp_f16_to_f32(static_cast<const uint16_t *>(weights)[i]));
    return sp_f32_to_bf16(static_cast<const float *>(weights)[i]);
}

void sp_cuda_pack_conv(const void *weights, sp_dtype dtype, size_t n, size_t k, size_t size, uint16_t *out)
{
    size_t taps = size * size, steps = sp_cuda_chunks(k) * taps;
    for (size_t step = 0; step < steps; step++) {
        for (size_t row = 0; row < n; row++) {
            for (size_t i = 0; i < CHUNK; i++) {
                size_t channel = step / taps * CHUNK + i, from = (row * k + channel) * taps + step % taps;
                out[(step * n + row) * CHUNK + i] = channel < k ? bf16_of(weights, dtype, from) : (uint16_t)0;
            }
        }
    }
}
