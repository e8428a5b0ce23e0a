#ifndef SP_CUDA_BLOCK_CUH
#define SP_CUDA_BLOCK_CUH
/* Sums and largest values over a block of whole warps along x, the same bits in every thread. part is shared memory, an
 * element a warp. Each ends with a barrier after part was last read, so it may be used again. */
#include "kernels/cuda/cuda.cuh"

enum { SP_MAX_WARPS = 32 };

struct sp_add {
    template <class T> __device__ T operator()(T a, T b) const { return a + b; }
};

struct sp_larger {
    template <class T> __device__ T operator()(T a, T b) const { return a > b ? a : b; }
};

template <class T, class F> __device__ static inline T sp_block_fold(T x, T *part, F fold)
{
    unsigned lane = threadIdx.x % SP_WARP, warp = threadIdx.x / SP_WARP;
    for (int step = SP_WARP / 2; step > 0; step /= 2) x = fold(x, __shfl_xor_sync(0xFFFFFFFFu, x, step));
    if (lane == 0) part[warp] = x;
    __syncthreads();
    x = part[0];
    for (unsigned i = 1; i < blockDim.x / SP_WARP; i++) x = fold(x, part[i]);
    __syncthreads();
    return x;
}

/* Floats as integers of the same order; -0 as 0, and NaN above all. */
__device__ static inline uint32_t sp_ordered(float x)
{
    uint32_t bits;
    x += 0.0f;
    memcpy(&bits, &x, sizeof bits);
    if ((bits & 0x7FFFFFFFu) > 0x7F800000u) return 0xFFFFFFFFu;
    return bits & 0x80000000u ? ~bits : bits | 0x80000000u;
}

__device__ static inline float sp_from_ordered(uint32_t key)
{
    uint32_t bits = key & 0x80000000u ? key & 0x7FFFFFFFu : ~key;
    float x;
    memcpy(&x, &bits, sizeof x);
    return x;
}

/* A code in a race: the largest of these has the largest value and, of those, the smallest code. 0 is below all. */
__device__ static inline unsigned long long sp_runner(float value, uint32_t code)
{
    return static_cast<unsigned long long>(sp_ordered(value)) << 32 | (0xFFFFFFFFu - code);
}
__device__ static inline int32_t sp_runner_code(unsigned long long runner)
{
    return static_cast<int32_t>(0xFFFFFFFFu - static_cast<uint32_t>(runner));
}
__device__ static inline float sp_runner_value(unsigned long long runner)
{
    return sp_from_ordered(static_cast<uint32_t>(runner >> 32));
}

/* A value that is not a number wins its race. */
__device__ static inline bool sp_runner_broken(unsigned long long runner)
{
    return static_cast<uint32_t>(runner >> 32) == 0xFFFFFFFFu;
}

#endif
