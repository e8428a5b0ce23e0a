/* Attention of a window over prefix, picture so far, and window, bf16 keys and values, float sums.
 *
 * Roofline. Keys and values are read once for every 16 rows of the tensor core: with 32 heads of 128 and 1000 positions
 * 16 MB a layer and stream, 5 us at 3.35 TB/s; a decode step of one row has no reuse and is bound by that. 64 rows need
 * 4 x 64 x 1000 x 4096 = 1 G operations a layer and stream, 2 us of mma.sync. Loads are 8 bytes a lane, whole
 * sectors.
 *
 * Order. Keys are split by absolute position into parts of 256, those into units of 64, one a warp. A unit is one
 * softmax of 64 scores; units, then parts, are merged in ascending order. What a row does not see has weight 0, which
 * changes no bit. So a row's result depends on its keys and values alone.
 *
 * Trees. The rows of a tree may share a position; the key that a row sees there lies at a slot of its own path. A tile
 * of a tree is one row, whose path is written out into a table from position to slot; the sums then run as in a
 * chain. */
#include "kernels/cuda/ops.cuh"

enum {
    WARPS = 4,
    UNIT = 64,            /* keys of a warp */
    PART = WARPS * UNIT,  /* keys of a block */
    ROWS = 16,            /* of a tile: query rows times the heads that share keys */
    STEPS = UNIT / 16
};

/* Which query row and head a row of a tile is; none has position -1. */
struct tile_row {
    size_t row, head;
    int position;
};

struct attention_arguments {
    sp_rows rows;
    sp_cache cache;
    const uint16_t *q;
    size_t n_streams, rows_each, heads, kv_heads, head_dim;
    size_t per_tile, tiles; /* query rows of a tile, tiles of a stream */
    float scale;
    float *out;   /* [parts, n_rows, heads, head_dim] */
    float2 *mass; /* [parts, n_rows, heads]: largest score, sum of e^(score - it) */
};

__device__ static inline tile_row row_of(const attention_arguments &a, size_t stream, size_t tile, size_t kv_head,
                                         unsigned i)
{
    size_t shared = a.heads / a.kv_heads, query = tile * a.per_tile + i / shared;
    tile_row r = {stream * a.rows_each + query, kv_head * shared + i % shared, -1};
    if (i / shared < a.per_tile && query < a.rows_each) r.position = a.rows.position[r.row];
    return r;
}

/* slots [PART]: where the key of position first + i lies, -1 beyond last. Identity below and at the root of a tree. */
__device__ static inline void find_slots(const attention_arguments &a, size_t stream, size_t tile, int first, int last,
                                         int *slots)
{
    for (unsigned i = threadIdx.x; i < PART; i += WARPS * SP_WARP) {
        int position = first + static_cast<int>(i);
        slots[i] = position <= last ? position : -1;
    }
    __syncthreads();
    if (a.rows.parent && threadIdx.x == 0) {
        int node = a.rows.node ? a.rows.node[tile] : static_cast<int>(tile);
        int root = a.rows.slot[stream * a.rows_each + tile] - node;
        for (int at = last - first; node > 0; node = a.rows.parent[node], at--)
            if (at >= 0 && at < PART) slots[at] = root + node;
    }
    __syncthreads();
}

/* score[t]: columns of keys 16 (t / 2) + 4 (c / 2) + 2 (t % 2) + c % 2 of the unit, c = 0 .. 7, so that a lane's four
 * scores of two tiles are of four neighbours, which lie in one 8-byte word of the values. */
__device__ static inline void scores_of(const attention_arguments &a, const uint16_t *keys, const int *slots,
                                        const uint16_t *top, const uint16_t *bottom, float score[2 * STEPS][4])
{
    unsigned lane = threadIdx.x % SP_WARP, g = lane / 4, q = lane % 4;
    size_t padded = a.cache.head_dim;
    for (size_t d = 4 * q; d < padded; d += 16) {
        const uint2 none = make_uint2(0, 0);
        uint2 upper = top ? *reinterpret_cast<const uint2 *>(top + d) : none;
        uint2 lower = bottom ? *reinterpret_cast<const uint2 *>(bottom + d) : none;
        const uint32_t left[4] = {upper.x, lower.x, upper.y, lower.y};
#pragma unroll
        for (unsigned t = 0; t < 2 * STEPS; t++) {
            int slot = slots[16 * (t / 2) + 4 * (g / 2) + 2 * (t % 2) + g % 2];
            const uint16_t *at = keys + static_cast<size_t>(slot < 0 ? 0 : slot) * padded + d;
            uint2 key = slot < 0 ? none : *reinterpret_cast<const uint2 *>(at);
            const uint32_t right[2] = {key.x, key.y};
            sp_mma_bf16(score[t], left, right);
        }
    }
}

/* Scores to weights e^(scaled score - largest) of the row's visible keys; mass gets the largest and the sum. first:
 * position of the lane's first key. */
__device__ static inline float2 weigh(float score[2 * STEPS][4], unsigned at, int first, int position, float scale)
{
    float top = -INFINITY, sum = 0.0f;
#pragma unroll
    for (unsigned t = 0; t < 2 * STEPS; t++) {
#pragma unroll
        for (unsigned e = 0; e < 2; e++) {
            bool seen = first + static_cast<int>(16 * (t / 2) + 2 * (t % 2) + e) <= position;
            score[t][at + e] = seen ? score[t][at + e] * scale : -INFINITY;
            top = fmaxf(top, score[t][at + e]);
        }
    }
    top = fmaxf(top, __shfl_xor_sync(0xFFFFFFFFu, top, 1));
    top = fmaxf(top, __shfl_xor_sync(0xFFFFFFFFu, top, 2));
    float shift = top > -INFINITY ? top : 0.0f;
#pragma unroll
    for (unsigned t = 0; t < 2 * STEPS; t++) {
#pragma unroll
        for (unsigned e = 0; e < 2; e++) {
            score[t][at + e] = expf(score[t][at + e] - shift);
            sum += score[t][at + e];
        }
    }
    sum += __shfl_xor_sync(0xFFFFFFFFu, sum, 1);
    sum += __shfl_xor_sync(0xFFFFFFFFu, sum, 2);
    return make_float2(top, sum);
}

/* Four neighbouring values of a channel; zeros where there is no key. */
__device__ static inline uint2 values_at(const uint16_t *channel, const int *slots, bool straight)
{
    if (straight) return *reinterpret_cast<const uint2 *>(channel + slots[0]);
    uint32_t v[4];
    for (int i = 0; i < 4; i++) v[i] = slots[i] < 0 ? 0 : channel[slots[i]];
    return make_uint2(v[0] | v[1] << 16, v[2] | v[3] << 16);
}

/* out [ROWS, padded] of this warp: weights times values. */
__device__ static inline void mix(const attention_arguments &a, const uint16_t *values, const int *slots,
                                  float weight[2 * STEPS][4], float *out)
{
    unsigned lane = threadIdx.x % SP_WARP, g = lane / 4, q = lane % 4;
    size_t padded = a.cache.head_dim;
    uint32_t left[STEPS][4];
    bool straight[STEPS];
#pragma unroll
    for (unsigned j = 0; j < STEPS; j++) {
        left[j][0] = sp_pack_bf16(weight[2 * j][0], weight[2 * j][1]);
        left[j][1] = sp_pack_bf16(weight[2 * j][2], weight[2 * j][3]);
        left[j][2] = sp_pack_bf16(weight[2 * j + 1][0], weight[2 * j + 1][1]);
        left[j][3] = sp_pack_bf16(weight[2 * j + 1][2], weight[2 * j + 1][3]);
        const int *s = slots + 16 * j + 4 * q;
        straight[j] = s[0] >= 0 && s[0] % 4 == 0 && s[1] == s[0] + 1 && s[2] == s[0] + 2 && s[3] == s[0] + 3;
    }
    for (size_t d = g; d < padded; d += 8) {
        float sum[4] = {};
#pragma unroll
        for (unsigned j = 0; j < STEPS; j++) {
            uint2 v = values_at(values + d * a.cache.capacity, slots + 16 * j + 4 * q, straight[j]);
            const uint32_t right[2] = {v.x, v.y};
            sp_mma_bf16(sum, left[j], right);
        }
        size_t column = d - g + 2 * q;
        out[g * padded + column] = sum[0];
        out[g * padded + column + 1] = sum[1];
        out[(g + 8) * padded + column] = sum[2];
        out[(g + 8) * padded + column + 1] = sum[3];
    }
}

/* A block: one tile of rows, the keys of one part and one key head. */
__global__ void SP_BOUNDS(WARPS *SP_WARP, 1) attention_kernel(attention_arguments a)
{
    sp_wait_launch();
    size_t padded = a.cache.head_dim, kv_head = blockIdx.x, stream = blockIdx.y / a.tiles, tile = blockIdx.y % a.tiles;
    SP_SHARED(float, sums);                                      /* [WARPS, ROWS, padded] */
    float2 *mass = reinterpret_cast<float2 *>(sums + WARPS * ROWS * padded); /* [WARPS, ROWS] */
    int *slots = reinterpret_cast<int *>(mass + WARPS * ROWS);   /* [PART] */
    unsigned warp = threadIdx.x / SP_WARP, lane = threadIdx.x % SP_WARP, g = lane / 4, q = lane % 4;
    int first = static_cast<int>(blockIdx.z) * PART, last = -1;
    for (unsigned i = 0; i < ROWS; i++) {
        int position = row_of(a, stream, tile, kv_head, i).position;
        last = position > last ? position : last;
    }
    if (last < first) return;
    find_slots(a, stream, tile, first, last, slots);
    tile_row top = row_of(a, stream, tile, kv_head, g), bottom = row_of(a, stream, tile, kv_head, g + 8);
    size_t of_row = static_cast<size_t>(a.rows.stream[stream * a.rows_each]) * a.kv_heads + kv_head;
    const int *own = slots + warp * UNIT;
    float score[2 * STEPS][4] = {};
    scores_of(a, a.cache.keys + of_row * a.cache.capacity * padded, own,
              top.position < 0 ? nullptr : a.q + (top.row * a.heads + top.head) * padded,
              bottom.position < 0 ? nullptr : a.q + (bottom.row * a.heads + bottom.head) * padded, score);
    int lane_first = first + static_cast<int>(warp * UNIT + 4 * q);
    float2 upper = weigh(score, 0, lane_first, top.position, a.scale);
    float2 lower = weigh(score, 2, lane_first, bottom.position, a.scale);
    if (q == 0) mass[warp * ROWS + g] = upper;
    if (q == 0) mass[warp * ROWS + g + 8] = lower;
    mix(a, a.cache.values + of_row * padded * a.cache.capacity, own, score, sums + warp * ROWS * padded);
    __syncthreads();
    size_t n_rows = a.n_streams * a.rows_each;
    for (size_t i = threadIdx.x; i < ROWS * a.head_dim; i += WARPS * SP_WARP) {
        unsigned r = static_cast<unsigned>(i / a.head_dim);
        size_t d = i % a.head_dim;
        tile_row to = row_of(a, stream, tile, kv_head, r);
        if (to.position < first) continue;
        float largest = -INFINITY, sum = 0.0f, total = 0.0f;
        for (unsigned w = 0; w < WARPS; w++) largest = fmaxf(largest, mass[w * ROWS + r].x);
        for (unsigned w = 0; w < WARPS; w++) {
            float share = expf(mass[w * ROWS + r].x - largest);
            sum = fmaf(share, sums[(w * ROWS + r) * padded + d], sum);
            total = fmaf(share, mass[w * ROWS + r].y, total);
        }
        size_t at = (blockIdx.z * n_rows + to.row) * a.heads + to.head;
        a.out[at * a.head_dim + d] = sum;
        if (d == 0) a.mass[at] = make_float2(largest, total);
    }
}

/* y bf16 [n_rows, heads, head_dim]: the parts of a row in ascending order. A warp a head of a row. */
__global__ void SP_BOUNDS(WARPS *SP_WARP, 1)
    merge_kernel(const int32_t *position, const float *out, const float2 *mass, size_t n_rows, size_t heads,
                 size_t head_dim, uint16_t *y)
{
    sp_wait_launch();
    size_t item = static_cast<size_t>(blockIdx.x) * WARPS + threadIdx.x / SP_WARP, items = n_rows * heads;
    if (item >= items) return;
    int last = position[item / heads];
    size_t parts = last < 0 ? 0 : static_cast<size_t>(last) / PART + 1;
    float largest = -INFINITY;
    for (size_t p = 0; p < parts; p++) largest = fmaxf(largest, mass[p * items + item].x);
    for (size_t d = threadIdx.x % SP_WARP; d < head_dim; d += SP_WARP) {
        float sum = 0.0f, total = 0.0f;
        for (size_t p = 0; p < parts; p++) {
            float2 m = mass[p * items + item];
            float share = expf(m.x - largest);
            sum = fmaf(share, out[(p * items + item) * head_dim + d], sum);
            total = fmaf(share, m.y, total);
        }
        y[item * head_dim + d] = static_cast<uint16_t>(sp_pack_bf16(parts ? sum / total : 0.0f, 0.0f));
    }
}

size_t sp_cuda_attention_scratch(size_t n_rows, size_t heads, size_t head_dim, size_t capacity)
{
    return (capacity + PART - 1) / PART * n_rows * heads * (head_dim * sizeof(float) + sizeof(float2));
}

cudaError_t sp_cuda_attention(cudaStream_t stream, const uint16_t *q, const sp_heads &h, const sp_rows &rows,
                              const sp_cache &cache, size_t n_streams, size_t rows_each, void *scratch, uint16_t *y)
{
    size_t n_rows = n_streams * rows_each, shared = h.heads / h.kv_heads, padded = cache.head_dim;
    size_t parts = (cache.capacity + PART - 1) / PART, per_tile = rows.parent ? 1 : ROWS / shared;
    float2 *mass = static_cast<float2 *>(scratch);
    attention_arguments a = {rows, cache, q, n_streams, rows_each, h.heads, h.kv_heads, h.head_dim, per_tile,
                             (rows_each + per_tile - 1) / per_tile, 1.0f / sqrtf(static_cast<float>(h.head_dim)),
                             reinterpret_cast<float *>(mass + parts * n_rows * h.heads), mass};
    dim3 grid(static_cast<unsigned>(h.kv_heads), static_cast<unsigned>(n_streams * a.tiles),
              static_cast<unsigned>(parts));
    size_t bytes = WARPS * ROWS * (padded * sizeof(float) + sizeof(float2)) + PART * sizeof(int);
    cudaError_t error = SP_LAUNCH(attention_kernel, grid, WARPS * SP_WARP, bytes, stream, a);
    if (error != cudaSuccess) return error;
    return SP_LAUNCH(merge_kernel, sp_blocks(n_rows * h.heads, WARPS), WARPS * SP_WARP, 0, stream, rows.position, a.out,
                     mass, n_rows, h.heads, h.head_dim, y);
}
