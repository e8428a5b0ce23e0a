/* The first activations of a pass: rows of a table. Bytes only, dim a row. */
#include "kernels/cuda/ops.cuh"

enum { THREADS = 128 };

__global__ void SP_BOUNDS(THREADS, 1) embed_kernel(sp_embedding e, sp_rows rows, size_t dim, float *x)
{
    sp_wait_launch();
    size_t row = blockIdx.x;
    int token = rows.token[row], position = rows.position[row];
    if (position < 0 || token == SP_TOKEN_GIVEN) return;
    bool prefix = token < 0;
    if (!prefix && !e.codes.data) return;
    size_t line = prefix ? static_cast<size_t>(~token) * e.prefix_lines + (e.prefix_lines > 1 ? position : 0)
                         : e.code_row + static_cast<size_t>(token);
    for (size_t i = threadIdx.x; i < dim; i += THREADS) {
        float v = sp_table_at(prefix ? e.prefix : e.codes, line * dim + i);
        if (prefix && e.prefix_position.data)
            v += sp_table_at(e.prefix_position, static_cast<size_t>(position) * dim + i);
        x[row * dim + i] = v;
    }
}

cudaError_t sp_cuda_embed(cudaStream_t stream, const sp_embedding &embedding, const sp_rows &rows, size_t n_rows,
                          size_t dim, float *x)
{
    return SP_LAUNCH(embed_kernel, static_cast<unsigned>(n_rows), THREADS, 0, stream, embedding, rows, dim, x);
}
