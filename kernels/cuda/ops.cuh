#ifndef SP_CUDA_OPS_CUH
#define SP_CUDA_OPS_CUH
/* The operations of a transformer on a device: each enqueues its kernels on a stream and returns at once. Pointers are
 * device memory. kernels/ref has the specification of those that share a name with it. Widths are even. */
#include "kernels/cuda/cuda.cuh"

/* What a matrix product leaves: slices sums of k / slices inputs each, to be added in ascending order.
 * sum [slices, n_rows, n]; NULL where there is nothing to add. */
struct sp_partial {
    const float *sum;
    int slices;
    size_t stride; /* floats from a slice to the next */
};

/* A matrix [n, k] as sp_cuda_pack leaves it; k is a multiple of 8. */
struct sp_cuda_weight {
    const void *tiles;
    size_t n, k;
    int slices;
};

/* Bytes of the tiles of a matrix, and the slices of its product. */
size_t sp_cuda_weight_bytes(size_t n, size_t k);
int sp_cuda_slices(size_t n, size_t k);

/* tiles from bf16 rows [n, k]. Products read tiles early: wait for the stream before the first one. */
cudaError_t sp_cuda_pack(cudaStream_t stream, const uint16_t *rows, size_t n, size_t k, void *tiles);

/* y = x W^T, x bf16 [n_rows, k], into sums [slices, n_rows, n]. Row-invariant. Weights are read once for every 128
 * rows. */
cudaError_t sp_cuda_gemm(cudaStream_t stream, const sp_cuda_weight &w, const uint16_t *x, size_t n_rows, float *sums,
                         sp_partial *y);

/* y [n_rows, n] = x + bias [n]; bias may be NULL. */
cudaError_t sp_cuda_finish(cudaStream_t stream, sp_partial x, const float *bias, size_t n_rows, size_t n, float *y);

/* x [n_rows, width] += add, then rms_norm of it: y bf16, and features the same unrounded; either may be NULL, and
 * features may be x. gain NULL: no norm, y and features are the sum. */
cudaError_t sp_cuda_norm(cudaStream_t stream, float *x, sp_partial add, const float *gain, float eps, size_t n_rows,
                         size_t width, uint16_t *y, float *features);

struct sp_layer_norm {
    const float *gain, *bias; /* [width] */
    float eps;
};

/* x [n_rows, width] += add + add_bias [width], then layer_norm of it, as sp_cuda_norm. add_bias is read where there is
 * something to add. */
cudaError_t sp_cuda_layer_norm(cudaStream_t stream, float *x, sp_partial add, const float *add_bias,
                               const sp_layer_norm &norm, size_t n_rows, size_t width, uint16_t *y, float *features);

/* y bf16 [n_rows, width] = silu(gate) * up, x rows [gate | up] of 2 width. */
cudaError_t sp_cuda_swiglu(cudaStream_t stream, sp_partial x, size_t n_rows, size_t width, uint16_t *y);

/* y bf16 [n_rows, width] = gelu(x + bias [width]) by erf. */
cudaError_t sp_cuda_gelu(cudaStream_t stream, sp_partial x, const float *bias, size_t n_rows, size_t width,
                         uint16_t *y);

/* The rows of a pass, n_streams windows of rows_each one after another. Row r is fed at position[r] (absolute, of the
 * prefix too; -1: not fed, its results are undefined), its key and value go to slot[r] of cache stream[r], which is
 * the same for all rows of a window. token: a code; ~id: prefix id, whose row is the one of its position;
 * SP_TOKEN_GIVEN: x is there already. parent NULL: chains, slot[r] = position[r]. Else the rows of a window are nodes
 * of a tree, the same in every window: row r is node[r], or node r where node is NULL. Node 0 lies at its position, and
 * node i at slot i after it; parent, by node, says which node it follows, one position after that. */
enum { SP_TOKEN_GIVEN = INT32_MIN };
struct sp_rows {
    const int32_t *token, *stream, *position, *slot, *parent, *node;
};

/* Keys bf16 [streams, kv_heads, capacity, head_dim] and values [streams, kv_heads, head_dim, capacity] of a layer;
 * head_dim is rounded up to a multiple of 16 and capacity is one of 64. Zeroed once, before use. */
struct sp_cache {
    uint16_t *keys, *values;
    size_t capacity, head_dim;
};

/* Heads and what is done to them before attention. head_dim even and at most 256; heads / kv_heads at most 16. */
struct sp_heads {
    size_t heads, kv_heads, head_dim;
    const float *q_norm, *k_norm; /* [heads, head_dim], [kv_heads, head_dim]; NULL: no norm */
    const float *q_bias, *k_bias; /* the same shapes, or NULL */
    bool layer_norm;              /* else RMSNorm */
    float eps;
    const float *cosine, *sine; /* [positions, head_dim / 2]; NULL: no rotation */
    bool adjacent;              /* rotates pairs (2j, 2j + 1), else (j, j + head_dim / 2) */
    const float *bias;          /* [heads + 2 kv_heads, head_dim] of queries, keys, values; NULL: none */
};

/* Of qkv rows [q heads | k heads | v heads]: adds the bias, norms and rotates queries and keys, writes q bf16 [n_rows,
 * heads, padded head_dim], whose padding stays as it is, and the cache. */
cudaError_t sp_cuda_heads(cudaStream_t stream, sp_partial qkv, const sp_heads &heads, const sp_rows &rows,
                          const sp_cache &cache, size_t n_rows, uint16_t *q);

/* Copies keys and values of slots from[i] (device memory), which ascend and are at least first + i, to first + i. */
cudaError_t sp_cuda_kv_move(cudaStream_t stream, const sp_cache &cache, size_t kv_heads, size_t of_stream,
                            const int32_t *from, size_t first, size_t n);

/* y bf16 [n_streams * rows_each, heads, head_dim] = softmax(q K^T / sqrt(head_dim)) V over the keys up to each row's
 * position, along its path in a tree. Row-invariant. scratch holds sp_cuda_attention_scratch bytes. */
cudaError_t sp_cuda_attention(cudaStream_t stream, const uint16_t *q, const sp_heads &heads, const sp_rows &rows,
                              const sp_cache &cache, size_t n_streams, size_t rows_each, void *scratch, uint16_t *y);
size_t sp_cuda_attention_scratch(size_t n_rows, size_t heads, size_t head_dim, size_t capacity);

/* A table [rows, dim] as it is stored. */
struct sp_table {
    const void *data;
    int dtype; /* sp_dtype */
};

struct sp_embedding {
    sp_table codes, prefix, prefix_position; /* prefix_position.data NULL: none; codes.data: rows of codes stay */
    size_t code_row;     /* row of code 0 */
    size_t prefix_lines; /* rows of a prefix id: 1, or one for each position of the prefix */
};

/* x [n_rows, dim] = the rows of the tokens. */
cudaError_t sp_cuda_embed(cudaStream_t stream, const sp_embedding &embedding, const sp_rows &rows, size_t n_rows,
                          size_t dim, float *x);

/* Continuous tokens into rows: weights [latent_dim, dim], bias [dim]. */
struct sp_latent_map {
    const float *weights, *bias;
    size_t latent_dim;
};

/* x [n_streams * rows_each, dim] = weights^T latents + bias where token is not of the prefix; latents [rows_each,
 * latent_dim] are the same in every stream. Row-invariant. */
cudaError_t sp_cuda_latents(cudaStream_t stream, const sp_latent_map &map, const sp_rows &rows, const float *latents,
                            size_t n_streams, size_t rows_each, size_t dim, float *x);

/* features [n_rows, dim] += the row of table of each row's place behind the prefix; rows of the prefix stay. */
cudaError_t sp_cuda_add_position(cudaStream_t stream, const sp_table &table, const sp_rows &rows, size_t n_prefix,
                                 size_t n_rows, size_t dim, float *features);

/* The rows of a drafting model: joined bf16 [n_rows, 2 dim] = [row of codes | feature], x [n_rows, dim] = bias. A row's
 * feature is given [n_rows, dim] in a chain; in a tree it is that of kept [streams, max_nodes, dim] of the node that
 * the row follows. */
cudaError_t sp_cuda_join(cudaStream_t stream, const sp_table &codes, const sp_rows &rows, const float *given,
                         const float *kept, size_t max_nodes, const float *bias, size_t n_streams, size_t rows_each,
                         size_t dim, uint16_t *joined, float *x);

/* kept [n_streams, max_nodes, dim] at the nodes of rows = their features [n_streams * rows_each, dim]; the last row of
 * a chain is node 0. */
cudaError_t sp_cuda_keep_features(cudaStream_t stream, const sp_rows &rows, const float *features, size_t n_streams,
                                  size_t rows_each, size_t max_nodes, size_t dim, float *kept);

/* Element i of a table. */
__device__ static inline float sp_table_at(const sp_table &t, size_t i)
{
    if (t.dtype == SP_F32) return static_cast<const float *>(t.data)[i];
    uint16_t half = static_cast<const uint16_t *>(t.data)[i];
    return t.dtype == SP_BF16 ? sp_bf16_to_f32(half) : sp_f16_to_f32(half);
}

/* Element i of a product: its slices in ascending order. */
__device__ static inline float sp_partial_at(const sp_partial &x, size_t i)
{
    float sum = x.sum[i];
    for (int slice = 1; slice < x.slices; slice++) sum += x.sum[static_cast<size_t>(slice) * x.stride + i];
    return sum;
}

/* Elements i, i + 1; i is even. */
__device__ static inline float2 sp_partial_pair(const sp_partial &x, size_t i)
{
    float2 sum = *reinterpret_cast<const float2 *>(x.sum + i);
    for (int slice = 1; slice < x.slices; slice++) {
        float2 part = *reinterpret_cast<const float2 *>(x.sum + static_cast<size_t>(slice) * x.stride + i);
        sum.x += part.x;
        sum.y += part.y;
    }
    return sum;
}

#endif
