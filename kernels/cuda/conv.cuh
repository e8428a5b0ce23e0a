#ifndef SP_CUDA_CONV_CUH
#define SP_CUDA_CONV_CUH
/* Convolutions of the codec, and the matrix products of its attention, as one implicit matrix product:
 *
 *     y [pixels, n] = bias + residual + sum over taps and channels of f(x) W,   f(x) = swish(x scale + shift), or x
 *
 * x is float, rows of a pixel x_stride floats apart; f(x) is rounded to bf16 as the processor's bf16 arithmetic does,
 * W is bf16, sums are float. What lies between k and x_stride is not used. The order of an output's sum depends on k
 * and size alone.
 *
 *     sp_cuda_conv call = {.size = 3, .in = plane, .n = 128, .x = x, .x_stride = sp_cuda_stride(plane.channels),
 *                          .weights = sp_cuda_packed(device_weights, 128), .bias = bias, .y = y, .y_stride = 128};
 *     SP_CUDA(sp_cuda_convolve(stream, &call, multiprocessors), err);
 *
 * multiprocessors: of the device. */
#include "kernels/cuda/cuda.cuh"

extern "C" {
#include "kernels/kernels.h"
}

/* Floats from one pixel's row of channels to the next: whole copies of 16 bytes. */
static inline size_t sp_cuda_stride(size_t channels) { return (channels + 3) / 4 * 4; }

/* Channels are summed in chunks of this many; weights have whole chunks, zeros at the end. */
enum { SP_CUDA_CHUNK = 32 };
static inline size_t sp_cuda_chunks(size_t k) { return (k + SP_CUDA_CHUNK - 1) / SP_CUDA_CHUNK; }

/* Rows of SP_CUDA_CHUNK channels: row r of step s (a chunk and in it a tap) at data + s step_stride + r row_stride. */
typedef struct sp_cuda_rows {
    const uint16_t *data; /* bf16, 16-byte aligned */
    size_t row_stride, step_stride;
} sp_cuda_rows;

/* Weights [chunks, taps, n, SP_CUDA_CHUNK] as sp_cuda_pack_conv writes them. */
static inline sp_cuda_rows sp_cuda_packed(const uint16_t *data, size_t n)
{
    return sp_cuda_rows{data, SP_CUDA_CHUNK, n * SP_CUDA_CHUNK};
}

/* A matrix [n, stride] by rows, stride a multiple of SP_CUDA_CHUNK, zeros from column k on; for size 1. */
static inline sp_cuda_rows sp_cuda_matrix(const uint16_t *data, size_t stride)
{
    return sp_cuda_rows{data, stride, SP_CUDA_CHUNK};
}

/* Values of the packed weights of a convolution. */
static inline size_t sp_cuda_packed_count(size_t n, size_t k, size_t size)
{
    return sp_cuda_chunks(k) * SP_CUDA_CHUNK * size * size * n;
}

/* On the host: weights [n, k, size, size] of dtype to bf16 in out. */
void sp_cuda_pack_conv(const void *weights, sp_dtype dtype, size_t n, size_t k, size_t size, uint16_t *out);

typedef struct sp_cuda_conv {
    int size;              /* 3, one pixel of zeros around the picture; or 1 */
    bool upsample;         /* of size 3: the input doubled by nearest neighbour */
    sp_plane in;           /* channels: k */
    size_t n;
    const float *x;
    size_t x_stride;       /* a multiple of 4 */
    const float2 *affine;  /* [k] scale and shift; NULL: f(x) = x */
    bool swish;
    sp_cuda_rows weights;
    const float *bias;     /* [n], or NULL */
    const float *residual; /* rows y_stride floats apart, may be y; or NULL */
    float *y;              /* rows y_stride floats apart; or NULL: */
    uint16_t *half;        /* the result in bf16, as [pixels, half_stride] or, transposed, [n, half_stride] */
    size_t y_stride, half_stride;
    bool transposed;
} sp_cuda_conv;

SP_CHECK cudaError_t sp_cuda_convolve(cudaStream_t stream, const sp_cuda_conv *call, int multiprocessors);

#endif
