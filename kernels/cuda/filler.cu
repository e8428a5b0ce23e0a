/* Weights on their way into device memory. */
#include "kernels/cuda/filler.cuh"

extern "C" {
#include "base/arena.h"
}

static sp_status put(const void *to, const void *from, size_t bytes, sp_error *err)
{
    SP_CUDA(cudaMemcpy(const_cast<void *>(to), from, bytes, cudaMemcpyHostToDevice), err);
    return SP_OK;
}

sp_status sp_fill_vector(sp_filler *f, const float *from, size_t count, const float **to)
{
    *to = NULL;
    if (!from) return SP_OK;
    *to = sp_take<float>(&f->b, count);
    return f->b.base ? put(*to, from, count * sizeof(float), f->err) : SP_OK;
}

sp_status sp_fill_matrix(sp_filler *f, const sp_device_matrix *from, sp_cuda_weight *to)
{
    if (!from->rows) return SP_OK;
    if (from->k % 8 != 0)
        return SP_FAIL(f->err, SP_EUNSUPPORTED, "device: a matrix of %zu inputs; expected a multiple of 8; use "
                       "--device cpu", from->k);
    unsigned char *tiles = sp_take<unsigned char>(&f->b, sp_cuda_weight_bytes(from->n, from->k));
    *to = sp_cuda_weight{tiles, from->n, from->k, sp_cuda_slices(from->n, from->k)};
    size_t bytes = from->n * from->k * sizeof(uint16_t);
    if (bytes > f->largest) f->largest = bytes;
    if (!tiles) return SP_OK;
    SP_TRY(put(f->staging, from->rows, bytes, f->err));
    SP_CUDA(sp_cuda_pack(NULL, f->staging, from->n, from->k, tiles), f->err);
    return SP_OK;
}

sp_status sp_fill_table(sp_filler *f, const sp_device_table *from, size_t dim, sp_table *to)
{
    *to = sp_table{NULL, from->dtype};
    if (!from->data) return SP_OK;
    size_t bytes = from->rows * dim * (from->dtype == SP_F32 ? 4 : 2);
    unsigned char *memory = sp_take<unsigned char>(&f->b, bytes);
    to->data = memory;
    return memory ? put(memory, from->data, bytes, f->err) : SP_OK;
}

sp_status sp_fill_transposed(sp_filler *f, const float *from, size_t n, size_t k, const float **to)
{
    *to = sp_take<float>(&f->b, n * k);
    if (!*to) return SP_OK;
    float *columns = static_cast<float *>(sp_alloc(n * k, sizeof *columns));
    if (!columns) return SP_FAIL(f->err, SP_ENOMEM, "device: no host memory for %zu x %zu weights", n, k);
    for (size_t i = 0; i < n * k; i++) columns[i % k * n + i / k] = from[i];
    sp_status status = put(*to, columns, n * k * sizeof *columns, f->err);
    sp_release(columns);
    return status;
}

sp_status sp_filler_take(sp_filler *f, unsigned char **memory, size_t *bytes)
{
    *bytes = f->b.used;
    SP_CUDA(cudaMalloc(memory, f->b.used), f->err);
    SP_CUDA(cudaMalloc(&f->staging, f->largest), f->err);
    f->b = sp_bump{*memory, 0};
    return SP_OK;
}

sp_status sp_filler_finish(sp_filler *f, sp_status status)
{
    cudaError_t error = cudaDeviceSynchronize();
    cudaFree(f->staging);
    SP_TRY(status);
    SP_CUDA(error, f->err);
    return SP_OK;
}
