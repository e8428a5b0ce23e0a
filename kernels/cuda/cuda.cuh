#ifndef SP_CUDA_CUH
#define SP_CUDA_CUH
/* What every CUDA source here is written with. The same sources are compiled by nvcc for a GPU and by a plain C++
 * compiler over tests/cuda/emulate.h, which runs them on the CPU; so they use the subset of CUDA named here.
 *
 *     __global__ void scale(float *x, float by, int n)
 *     {
 *         SP_SHARED(float, part);                                   // dynamic shared memory, 16-byte aligned
 *         sp_wait_launch();
 *         ...
 *     }
 *     SP_CUDA(SP_LAUNCH(scale, blocks, 256, 256 * sizeof(float), stream, x, 2.0f, n), err);
 *
 * In a kernel: threadIdx, blockIdx, blockDim, gridDim, __syncthreads, __syncwarp, __shfl_*_sync, __ballot_sync,
 * atomics, __threadfence, and the sp_ functions below. No __shared__ variables, no textures, no inline PTX but in this
 * file. Blocks are whole warps of 32 lanes. The runtime API is called through SP_CUDA.
 *
 * Launches. A kernel of SP_LAUNCH may start while the one queued before it is still running, which hides its launch
 * and, in a product, the first of its weights. So every thread of it calls sp_wait_launch before it reads or writes
 * what a kernel writes; ahead of that it may touch parameters, its shared memory, and what was written before the
 * stream was last waited for. What a kernel wrote is not read through sp_load_once, __ldg or __restrict__: they promise
 * that nobody writes it while the reader is there. A cooperative launch starts when all before it have ended.
 *
 * Arithmetic. nvcc runs with -fmad=false: a product and a sum are fused where fmaf stands and nowhere else, as on the
 * CPU. Weights are bf16, products are of bf16 pairs, sums are float.
 *
 * Row invariance. A result has one order of its sum, which depends on its own length only: never on the number of rows,
 * the block a row falls in, or the order in which blocks end. So no float atomics; parts of a sum go to memory of their
 * own and are added in ascending order by whoever reads them.
 *
 * Layouts on the device
 * activations   float or bf16 [rows, width], row-major.
 * weights       bf16 [n, k] as tiles of 16 outputs by 64 inputs, see gemm.cuh: a lane's share of four tensor-core
 *               operands is 4 x 16 bytes, a warp reads a tile as 2048 bytes in a row.
 * keys          bf16 [kv_heads, capacity, head_dim], values bf16 [kv_heads, head_dim, capacity], of one layer and
 *               stream. The slot of a key is its absolute position, except in the branches of a tree. */
#include <math.h>
#include <stddef.h>
#include <stdint.h>

extern "C" {
#include "base/error.h"
}
#include "base/dtype.h"

#if defined(__CUDACC__)
#include <cuda_bf16.h>
#include <cuda_runtime.h>
#else
#include "tests/cuda/emulate.h"
#endif

enum { SP_WARP = 32 };

/* The status of a failed call of the runtime, its error filled; src is the call's text. */
sp_status sp_cuda_fail(sp_error *err, cudaError_t error, const char *what, const char *file, int line);

/* Returns from the function unless the call succeeds: SP_CUDA(cudaMalloc(&p, bytes), err). */
#define SP_CUDA(call, err)                                                                              \
    do {                                                                                                \
        cudaError_t cuda_error_ = (call);                                                               \
        if (cuda_error_ != cudaSuccess) return sp_cuda_fail((err), cuda_error_, #call, __FILE__, __LINE__); \
    } while (0)

/* Most threads and registers of a kernel: __launch_bounds__ with the blocks that should share a multiprocessor. */
#define SP_BOUNDS(threads, blocks) __launch_bounds__(threads, blocks)

/* For measurements of what it brings: whether launches may overlap, as at first they may. */
void sp_cuda_let_overlap(bool yes);

static inline unsigned sp_blocks(size_t count, size_t each) { return (unsigned)((count + each - 1) / each); }

#if defined(__CUDACC__)

#define SP_SHARED(type, name)                                        \
    extern __shared__ __align__(16) unsigned char sp_shared_memory[]; \
    type *name = reinterpret_cast<type *>(sp_shared_memory)

template <typename T> struct sp_same { typedef T type; };

/* Whether kernels of this build wait for the one before on the present device, so that they may start early. */
bool sp_cuda_overlaps();

/* Above 48 KiB a kernel must be told of its shared memory first. */
template <typename... P>
static inline cudaError_t sp_launch(void (*kernel)(P...), bool cooperative, dim3 grid, dim3 block, size_t shared,
                                    cudaStream_t stream, typename sp_same<P>::type... arguments)
{
    void *pointers[] = {const_cast<void *>(static_cast<const void *>(&arguments))...};
    const void *function = reinterpret_cast<const void *>(kernel);
    if (shared > 48 << 10) {
        cudaError_t error =
            cudaFuncSetAttribute(function, cudaFuncAttributeMaxDynamicSharedMemorySize, static_cast<int>(shared));
        if (error != cudaSuccess) return error;
    }
    if (cooperative) return cudaLaunchCooperativeKernel(function, grid, block, pointers, shared, stream);
    cudaLaunchAttribute early = {};
    early.id = cudaLaunchAttributeProgrammaticStreamSerialization;
    early.val.programmaticStreamSerializationAllowed = 1;
    cudaLaunchConfig_t config = {};
    config.gridDim = grid;
    config.blockDim = block;
    config.dynamicSmemBytes = shared;
    config.stream = stream;
    config.attrs = &early;
    config.numAttrs = stream && sp_cuda_overlaps() ? 1 : 0;
    return cudaLaunchKernelExC(&config, function, pointers);
}

/* The kernel queued before has ended, and what it wrote is here. The one queued after may start. */
__device__ static inline void sp_wait_launch()
{
#if __CUDA_ARCH__ >= 900
    asm volatile("griddepcontrol.launch_dependents;" : : : "memory");
    asm volatile("griddepcontrol.wait;" : : : "memory");
#endif
}

/* Every block of a cooperative launch waits for every other; what one wrote before, all see after. The counter is one
 * zeroed word of device memory a launch: blocks add to it, and the last bit turns when all have. */
__device__ static inline void sp_grid_sync(unsigned *counter)
{
    __syncthreads();
    if (threadIdx.x == 0 && threadIdx.y == 0 && threadIdx.z == 0) {
        unsigned blocks = gridDim.x * gridDim.y * gridDim.z;
        bool first = blockIdx.x == 0 && blockIdx.y == 0 && blockIdx.z == 0;
        __threadfence();
        unsigned before = atomicAdd(counter, first ? 0x80000000u - (blocks - 1) : 1u);
        while (((before ^ *static_cast<volatile unsigned *>(counter)) & 0x80000000u) == 0) continue;
        __threadfence();
    }
    __syncthreads();
}

/* Nanoseconds since some moment, the same for every block. */
__device__ static inline uint64_t sp_clock_ns()
{
    uint64_t ns;
    asm volatile("mov.u64 %0, %%globaltimer;" : "=l"(ns));
    return ns;
}

/* 16 bytes that are read once: they pass by the first cache. */
__device__ static inline uint4 sp_load_once(const uint4 *from)
{
    uint4 v;
    asm volatile("ld.global.nc.L1::no_allocate.v4.u32 {%0, %1, %2, %3}, [%4];"
                 : "=r"(v.x), "=r"(v.y), "=r"(v.z), "=r"(v.w) : "l"(from));
    return v;
}

/* Copies 16 bytes from device to shared memory, or writes zeros without reading, in the background. */
__device__ static inline void sp_copy_async16(void *to, const void *from, bool zero)
{
    unsigned address = static_cast<unsigned>(__cvta_generic_to_shared(to));
    int bytes = zero ? 0 : 16;
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" : : "r"(address), "l"(from), "r"(bytes) : "memory");
}
__device__ static inline void sp_copy_commit() { asm volatile("cp.async.commit_group;" : : : "memory"); }

/* Waits until at most this many of the thread's latest groups are under way. */
template <int GROUPS> __device__ static inline void sp_copy_wait()
{
    asm volatile("cp.async.wait_group %0;" : : "n"(GROUPS) : "memory");
}

/* x / (1 + e^-x) by the units for special functions, for what is rounded to bf16 next: relative error below 2^-16 down
 * to x = -80, -0 far below it. */
__device__ static inline float sp_fast_swish(float x) { return __fdividef(x, 1.0f + __expf(-x)); }

/* d [16, 8] += a [16, 16] b [16, 8], bf16 pairs, float sums. With g = lane / 4 and q = lane % 4:
 * a  rows g, g + 8, g, g + 8 at columns 2q, 2q, 2q + 8, 2q + 8, two neighbours a word, the lower in the low half
 * b  rows 2q, 2q + 8 (two neighbours a word) of column g
 * d  row g at columns 2q, 2q + 1, then row g + 8 at the same. */
__device__ static inline void sp_mma_bf16(float d[4], const uint32_t a[4], const uint32_t b[2])
{
    asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
                 "{%0, %1, %2, %3};"
                 : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}

/* Two floats rounded to bf16 in one word, low in the low half. */
__device__ static inline uint32_t sp_pack_bf16(float low, float high)
{
    __nv_bfloat162 pair = __floats2bfloat162_rn(low, high);
    return *reinterpret_cast<uint32_t *>(&pair);
}

#endif

#define SP_LAUNCH(kernel, grid, block, shared, stream, ...) \
    sp_launch(kernel, false, grid, block, shared, stream, __VA_ARGS__)
#define SP_LAUNCH_COOPERATIVE(kernel, grid, block, shared, stream, ...) \
    sp_launch(kernel, true, grid, block, shared, stream, __VA_ARGS__)

/* The sum over a warp, the same bits in every lane. */
__device__ static inline float sp_warp_sum(float x)
{
    for (int step = SP_WARP / 2; step > 0; step /= 2) x += __shfl_xor_sync(0xFFFFFFFFu, x, step);
    return x;
}

__device__ static inline float sp_warp_max(float x)
{
    for (int step = SP_WARP / 2; step > 0; step /= 2) x = fmaxf(x, __shfl_xor_sync(0xFFFFFFFFu, x, step));
    return x;
}

/* The sum over a block of whole warps along x, the same bits in every thread; part is shared memory, a float a warp.
 * Ends after a barrier before which part is read, so part may be used again. */
__device__ static inline float sp_block_sum(float x, float *part)
{
    unsigned lane = threadIdx.x % SP_WARP, warp = threadIdx.x / SP_WARP;
    x = sp_warp_sum(x);
    if (lane == 0) part[warp] = x;
    __syncthreads();
    x = 0.0f;
    for (unsigned i = 0; i < blockDim.x / SP_WARP; i++) x += part[i];
    __syncthreads();
    return x;
}

#endif
