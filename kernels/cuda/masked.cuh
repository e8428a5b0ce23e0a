#ifndef SP_CUDA_MASKED_CUH
#define SP_CUDA_MASKED_CUH
/* How the rows of a masked model come and go (model/masked.h): which of them the encoder has, the decoder's made of
 * them, and the ones whose features are wanted. Inside masked.cu, which says in what order.
 *
 * Places are the buffer's, then the picture's positions. Rows of a pass are those of the stream with the class, then as
 * many of the one without. Widths are even. */
#include "kernels/cuda/ops.cuh"

struct sp_masked_places {
    const int32_t *row; /* [n] the encoder's row of a place, the same in every stream; -1: its token is not known */
    size_t n, buffer;
    size_t n_known;     /* places with a row */
    size_t n_streams, dim;
};

/* stream, position and slot [n_streams * n] of rows of which each sees all of its stream. */
cudaError_t sp_cuda_masked_rows(cudaStream_t stream, size_t n_streams, size_t n, int32_t *of_stream, int32_t *position,
                                int32_t *slot);

/* What the encoder is fed, before its norm: x [n_streams, n_known, dim] = the class, or none, in places of the buffer
 * and map of the token elsewhere, plus position [n, dim] of the place. latents [n - buffer, latent_dim]: those not
 * known are not read. */
cudaError_t sp_cuda_masked_embed(cudaStream_t stream, const sp_masked_places &places, const float *with_class,
                                 const float *without, const sp_latent_map &map, const float *latents,
                                 const float *position, float *x);

/* What the decoder is fed: x [n_streams, n, dim] = the row of the encoder, from + bias, or mask where there is none,
 * plus position [n, dim]. */
cudaError_t sp_cuda_masked_spread(cudaStream_t stream, const sp_masked_places &places, sp_partial from,
                                  const float *bias, const float *mask, const float *position, float *x);

/* features [n_streams, n_wanted, dim] = rows of x [n_streams, n, dim] of the picture's wanted positions [n_wanted],
 * plus position [n - buffer, dim]. */
cudaError_t sp_cuda_masked_collect(cudaStream_t stream, const sp_masked_places &places, const float *x,
                                   const int32_t *wanted, size_t n_wanted, const float *position, float *features);

#endif
