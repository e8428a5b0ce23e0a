/* What follows the product of queries, keys and values, fused: the bias, the norm of heads, rotation, the write into
 * the cache.
 *
 * Roofline: bytes only, at most 3 x 4096 x 4 a row and slice from the second-level cache. One warp a head of a row. */
#include "kernels/cuda/ops.cuh"

enum { WARPS = 4, MAX_PAIRS = 4 }; /* pairs a lane holds: heads of up to 256 */

/* Elements of pair j: neighbours, or halves of the head apart. */
__device__ static inline size_t first_of(size_t j, bool adjacent) { return adjacent ? 2 * j : j; }

__device__ static inline void normalise(float (*v)[2], const sp_heads &h, const float *gain, const float *bias,
                                        unsigned lane, size_t step)
{
    float mean = 0.0f, squares = 0.0f;
    if (h.layer_norm) {
#pragma unroll
        for (int p = 0; p < MAX_PAIRS; p++) mean += v[p][0] + v[p][1];
        mean = sp_warp_sum(mean) / static_cast<float>(h.head_dim);
    }
#pragma unroll
    for (int p = 0; p < MAX_PAIRS; p++) {
        if (lane + p * SP_WARP >= h.head_dim / 2) continue;
        v[p][0] -= mean;
        v[p][1] -= mean;
        squares = fmaf(v[p][0], v[p][0], squares);
        squares = fmaf(v[p][1], v[p][1], squares);
    }
    float scale = 1.0f / sqrtf(sp_warp_sum(squares) / static_cast<float>(h.head_dim) + h.eps);
#pragma unroll
    for (int p = 0; p < MAX_PAIRS; p++) {
        size_t j = lane + p * SP_WARP, a = first_of(j, h.adjacent), b = a + step;
        if (j >= h.head_dim / 2) continue;
        v[p][0] = v[p][0] * scale * gain[a] + (bias ? bias[a] : 0.0f);
        v[p][1] = v[p][1] * scale * gain[b] + (bias ? bias[b] : 0.0f);
    }
}

__device__ static inline uint16_t rounded(float x) { return static_cast<uint16_t>(sp_pack_bf16(x, 0.0f)); }

__global__ void SP_BOUNDS(WARPS *SP_WARP, 1)
    heads_kernel(sp_partial qkv, sp_heads h, sp_rows rows, sp_cache cache, uint16_t *q, size_t n_rows)
{
    sp_wait_launch();
    unsigned lane = threadIdx.x % SP_WARP;
    size_t all = h.heads + 2 * h.kv_heads, item = static_cast<size_t>(blockIdx.x) * WARPS + threadIdx.x / SP_WARP;
    if (item >= n_rows * all) return;
    size_t row = item / all, head = item % all, half = h.head_dim / 2, padded = cache.head_dim;
    int position = rows.position[row];
    if (position < 0) return;
    bool value = head >= h.heads + h.kv_heads, key = !value && head >= h.heads;
    size_t kv_head = value ? head - h.heads - h.kv_heads : head - h.heads; /* of a key or value */
    size_t step = h.adjacent ? 1 : half;
    float v[MAX_PAIRS][2] = {};
#pragma unroll
    for (int p = 0; p < MAX_PAIRS; p++) {
        size_t j = lane + p * SP_WARP, at = (row * all + head) * h.head_dim + first_of(j, h.adjacent);
        if (j >= half) continue;
        v[p][0] = sp_partial_at(qkv, at);
        v[p][1] = sp_partial_at(qkv, at + step);
        if (!h.bias) continue;
        v[p][0] += h.bias[head * h.head_dim + first_of(j, h.adjacent)];
        v[p][1] += h.bias[head * h.head_dim + first_of(j, h.adjacent) + step];
    }
    if (!value && h.q_norm)
        normalise(v, h, (key ? h.k_norm + kv_head * h.head_dim : h.q_norm + head * h.head_dim),
                  key ? (h.k_bias ? h.k_bias + kv_head * h.head_dim : nullptr)
                      : (h.q_bias ? h.q_bias + head * h.head_dim : nullptr), lane, step);
    size_t slot = static_cast<size_t>(rows.slot[row]), stream = static_cast<size_t>(rows.stream[row]);
    uint16_t *keys = cache.keys + ((stream * h.kv_heads + kv_head) * cache.capacity + slot) * padded;
    uint16_t *values = cache.values + (stream * h.kv_heads + kv_head) * padded * cache.capacity + slot;
    uint16_t *to = key ? keys : q + (row * h.heads + head) * padded;
#pragma unroll
    for (int p = 0; p < MAX_PAIRS; p++) {
        size_t j = lane + p * SP_WARP, a = first_of(j, h.adjacent), b = a + step;
        if (j >= half) continue;
        if (value) {
            values[a * cache.capacity] = rounded(v[p][0]);
            values[b * cache.capacity] = rounded(v[p][1]);
            continue;
        }
        size_t angle = static_cast<size_t>(position) * half + j;
        float c = h.cosine ? h.cosine[angle] : 1.0f, s = h.cosine ? h.sine[angle] : 0.0f;
        to[a] = rounded(v[p][0] * c - v[p][1] * s);
        to[b] = rounded(v[p][1] * c + v[p][0] * s);
    }
}

cudaError_t sp_cuda_heads(cudaStream_t stream, sp_partial qkv, const sp_heads &heads, const sp_rows &rows,
                          const sp_cache &cache, size_t n_rows, uint16_t *q)
{
    size_t items = n_rows * (heads.heads + 2 * heads.kv_heads);
    return SP_LAUNCH(heads_kernel, sp_blocks(items, WARPS), WARPS * SP_WARP, 0, stream, qkv, heads, rows, cache, q,
                     n_rows);
}

/* One thread an element of a head: slots ascend and each lies above where it goes, so in this order none is overwritten
 * before it is read. */
__global__ void move_kernel(sp_cache cache, size_t kv_heads, size_t stream, const int32_t *from, size_t first, size_t n)
{
    sp_wait_launch();
    size_t element = static_cast<size_t>(blockIdx.x) * blockDim.x + threadIdx.x;
    if (element >= kv_heads * cache.head_dim) return;
    size_t head = stream * kv_heads + element / cache.head_dim, d = element % cache.head_dim;
    uint16_t *keys = cache.keys + head * cache.capacity * cache.head_dim + d;
    uint16_t *values = cache.values + (head * cache.head_dim + d) * cache.capacity;
    for (size_t i = 0; i < n; i++) {
        size_t slot = static_cast<size_t>(from[i]);
        keys[(first + i) * cache.head_dim] = keys[slot * cache.head_dim];
        values[first + i] = values[slot];
    }
}

cudaError_t sp_cuda_kv_move(cudaStream_t stream, const sp_cache &cache, size_t kv_heads, size_t of_stream,
                            const int32_t *from, size_t first, size_t n)
{
    return SP_LAUNCH(move_kernel, sp_blocks(kv_heads * cache.head_dim, 128), 128, 0, stream, cache, kv_heads, of_stream,
                     from, first, n);
}
