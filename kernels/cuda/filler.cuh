#ifndef SP_CUDA_FILLER_CUH
#define SP_CUDA_FILLER_CUH
/* Weights of a plan (kernels/device.h) in one allocation of device memory. A walk over the plan names every place in
 * turn; the first walk measures, the second gives out memory and fills it, so that the two cannot differ.
 *
 *     SP_TRY(sp_fill(&memory, &bytes, err, [&](sp_filler *f) {
 *         SP_TRY(sp_fill_vector(f, plan->norm, plan->dim, &norm));
 *         return sp_fill_matrix(f, &plan->head, &head);
 *     }));                                                  // memory is the caller's, of a failed fill too: cudaFree
 *
 * Vectors and matrices that are NULL in the plan take no place and become NULL. All functions copy to the device that
 * is set. */
#include "kernels/cuda/ops.cuh"

extern "C" {
#include "base/size.h"
#include "kernels/device.h"
}

/* Gives out memory from base on; measures while that is NULL. */
struct sp_bump {
    unsigned char *base;
    size_t used;
};

template <typename T> static inline T *sp_take(sp_bump *b, size_t count)
{
    T *at = b->base ? reinterpret_cast<T *>(b->base + b->used) : NULL;
    b->used += sp_round_up(count * sizeof(T), 256);
    return at;
}

struct sp_filler {
    sp_bump b;
    uint16_t *staging; /* rows of a matrix on the device, on their way to tiles */
    size_t largest;    /* bytes of one */
    sp_error *err;
};

sp_status sp_fill_vector(sp_filler *f, const float *from, size_t count, const float **to);
sp_status sp_fill_matrix(sp_filler *f, const sp_device_matrix *from, sp_cuda_weight *to);
sp_status sp_fill_table(sp_filler *f, const sp_device_table *from, size_t dim, sp_table *to);

/* from [n, k] as [k, n]. */
sp_status sp_fill_transposed(sp_filler *f, const float *from, size_t n, size_t k, const float **to);

/* Between the walks: takes the memory that the first one measured. After the second: gives back what was on the way. */
sp_status sp_filler_take(sp_filler *f, unsigned char **memory, size_t *bytes);
sp_status sp_filler_finish(sp_filler *f, sp_status status);

template <typename WALK>
static inline sp_status sp_fill(unsigned char **memory, size_t *bytes, sp_error *err, WALK walk)
{
    sp_filler f = {{NULL, 0}, NULL, 0, err};
    SP_TRY(walk(&f));
    SP_TRY(sp_filler_take(&f, memory, bytes));
    return sp_filler_finish(&f, walk(&f));
}

#endif
