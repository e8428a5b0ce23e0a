#ifndef SP_EMULATE_H
#define SP_EMULATE_H
/* The subset of CUDA that kernels/cuda is written in, on a CPU, for a plain C++ compiler: cuda.cuh includes this where
 * nvcc is not the compiler. Slow, exact about what a kernel may rely on, and unforgiving:
 *
 * - The threads of a block are fibers that take turns: a warp runs on until it waits for the others, and the order of
 *   warps, lanes and blocks is another one each time (SP_EMULATE_SEED=N: others still). So what a barrier should keep
 *   apart is not apart without it. A barrier or a shuffle that not all of its threads reach ends the program and says
 *   so. Blocks of a launch run one after another, those of a cooperative launch together.
 * - Device and shared memory start as NaN bits and end where no memory is: reading or writing beyond is a fault, and
 *   cudaFree looks at what lies before. Copies must lie inside an allocation.
 * - Streams run at once, in the order of the calls; a graph is the list of what was recorded. But every other launch
 *   or so is put off until the next one of its stream has come to sp_wait_launch, as on a GPU where launches overlap;
 *   so what a kernel does too early it does with what was there before.
 * - Kernel launches, allocations and copies can be made to fail: sp_emulate_memory, sp_emulate_lose.
 *
 * In the environment of a program SP_EMULATE_MEMORY=BYTES and SP_EMULATE_LOSE=CALLS do the same. */
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>

#include "base/dtype.h"

#define __global__
#define __device__
#define __host__
#define __forceinline__ inline
#define __launch_bounds__(...)
#define __align__(n) __attribute__((aligned(n)))
#define __constant__

/* ---- the runtime ---- */

enum cudaError_t {
    cudaSuccess = 0,
    cudaErrorInvalidValue = 1,
    cudaErrorMemoryAllocation = 2,
    cudaErrorInsufficientDriver = 35,
    cudaErrorNoDevice = 100,
    cudaErrorInvalidDevice = 101,
    cudaErrorNoKernelImageForDevice = 209,
    cudaErrorLaunchFailure = 719,
    cudaErrorNotReady = 600,
    cudaErrorStreamCaptureUnsupported = 900
};
enum cudaMemcpyKind {
    cudaMemcpyHostToHost,
    cudaMemcpyHostToDevice,
    cudaMemcpyDeviceToHost,
    cudaMemcpyDeviceToDevice,
    cudaMemcpyDefault
};
enum cudaStreamCaptureMode {
    cudaStreamCaptureModeGlobal,
    cudaStreamCaptureModeThreadLocal,
    cudaStreamCaptureModeRelaxed
};
enum { cudaStreamDefault = 0, cudaStreamNonBlocking = 1, cudaEventDefault = 0, cudaEventDisableTiming = 2 };
enum { cudaHostAllocDefault = 0, cudaHostAllocPortable = 1, cudaHostAllocMapped = 2 };
enum cudaDeviceAttr {
    cudaDevAttrMultiProcessorCount = 16,
    cudaDevAttrComputeCapabilityMajor = 75,
    cudaDevAttrComputeCapabilityMinor = 76,
    cudaDevAttrMaxSharedMemoryPerBlockOptin = 97,
    cudaDevAttrCooperativeLaunch = 95
};

typedef struct sp_emulated_stream *cudaStream_t;
typedef struct sp_emulated_graph *cudaGraph_t;
typedef struct sp_emulated_graph *cudaGraphExec_t;
typedef struct sp_emulated_event *cudaEvent_t;

struct cudaDeviceProp {
    char name[256];
    size_t totalGlobalMem;
    int major, minor, multiProcessorCount;
    size_t sharedMemPerBlockOptin;
};

const char *cudaGetErrorString(cudaError_t error);
const char *cudaGetErrorName(cudaError_t error);
cudaError_t cudaGetLastError();
cudaError_t cudaPeekAtLastError();
cudaError_t cudaGetDeviceCount(int *count);
cudaError_t cudaSetDevice(int device);
cudaError_t cudaGetDevice(int *device);
cudaError_t cudaGetDeviceProperties(cudaDeviceProp *properties, int device);
cudaError_t cudaDeviceGetAttribute(int *value, cudaDeviceAttr attribute, int device);
cudaError_t cudaDeviceSynchronize();
cudaError_t cudaMemGetInfo(size_t *free_bytes, size_t *total_bytes);
cudaError_t cudaMalloc(void **out, size_t bytes);
cudaError_t cudaFree(void *memory);
cudaError_t cudaMallocHost(void **out, size_t bytes);
cudaError_t cudaHostAlloc(void **out, size_t bytes, unsigned flags);
cudaError_t cudaHostGetDevicePointer(void **device, void *host, unsigned flags);
cudaError_t cudaFreeHost(void *memory);
cudaError_t cudaMemcpy(void *to, const void *from, size_t bytes, cudaMemcpyKind kind);
cudaError_t cudaMemcpyAsync(void *to, const void *from, size_t bytes, cudaMemcpyKind kind, cudaStream_t stream);
cudaError_t cudaMemcpy2DAsync(void *to, size_t to_pitch, const void *from, size_t from_pitch, size_t width,
                              size_t height, cudaMemcpyKind kind, cudaStream_t stream);
cudaError_t cudaMemset(void *to, int value, size_t bytes);
cudaError_t cudaMemsetAsync(void *to, int value, size_t bytes, cudaStream_t stream);
cudaError_t cudaStreamCreateWithFlags(cudaStream_t *out, unsigned flags);
cudaError_t cudaStreamDestroy(cudaStream_t stream);
cudaError_t cudaStreamSynchronize(cudaStream_t stream);
cudaError_t cudaStreamQuery(cudaStream_t stream);
cudaError_t cudaStreamWaitEvent(cudaStream_t stream, cudaEvent_t event, unsigned flags);
cudaError_t cudaStreamBeginCapture(cudaStream_t stream, cudaStreamCaptureMode mode);
cudaError_t cudaStreamEndCapture(cudaStream_t stream, cudaGraph_t *out);
cudaError_t cudaGraphInstantiate(cudaGraphExec_t *out, cudaGraph_t graph, unsigned long long flags);
cudaError_t cudaGraphLaunch(cudaGraphExec_t graph, cudaStream_t stream);
cudaError_t cudaGraphDestroy(cudaGraph_t graph);
cudaError_t cudaGraphExecDestroy(cudaGraphExec_t graph);
cudaError_t cudaEventCreateWithFlags(cudaEvent_t *out, unsigned flags);
cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream);
cudaError_t cudaEventSynchronize(cudaEvent_t event);
cudaError_t cudaEventQuery(cudaEvent_t event);
cudaError_t cudaEventElapsedTime(float *milliseconds, cudaEvent_t start, cudaEvent_t end);
cudaError_t cudaEventDestroy(cudaEvent_t event);

template <typename T> static inline cudaError_t cudaMalloc(T **out, size_t bytes)
{
    return cudaMalloc(reinterpret_cast<void **>(out), bytes);
}
template <typename T> static inline cudaError_t cudaMallocHost(T **out, size_t bytes)
{
    return cudaMallocHost(reinterpret_cast<void **>(out), bytes);
}
template <typename T> static inline cudaError_t cudaHostAlloc(T **out, size_t bytes, unsigned flags)
{
    return cudaHostAlloc(reinterpret_cast<void **>(out), bytes, flags);
}
template <typename T> static inline cudaError_t cudaHostGetDevicePointer(T **out, void *host, unsigned flags)
{
    return cudaHostGetDevicePointer(reinterpret_cast<void **>(out), host, flags);
}

/* ---- faults, for tests ---- */

/* The device has this much memory; 0: as much as the host gives. */
void sp_emulate_memory(size_t bytes);

/* After this many more launches, copies and allocations succeed, each call fails as on a lost device; < 0: never. */
void sp_emulate_lose(long calls);

/* Launches, copies and allocations so far. */
long sp_emulate_calls();

/* Allocations of device memory that are not freed. */
size_t sp_emulate_allocations();

/* ---- vectors ---- */

struct uint3 { unsigned x, y, z; };
struct dim3 {
    unsigned x, y, z;
    dim3(unsigned x_ = 1, unsigned y_ = 1, unsigned z_ = 1) : x(x_), y(y_), z(z_) {}
};
struct int2 { int x, y; };
struct int4 { int x, y, z, w; };
struct uint2 { unsigned x, y; };
struct alignas(16) uint4 { unsigned x, y, z, w; };
struct float2 { float x, y; };
struct alignas(16) float4 { float x, y, z, w; };
static inline int2 make_int2(int x, int y) { return {x, y}; }
static inline uint2 make_uint2(unsigned x, unsigned y) { return {x, y}; }
static inline uint4 make_uint4(unsigned x, unsigned y, unsigned z, unsigned w) { return {x, y, z, w}; }
static inline float2 make_float2(float x, float y) { return {x, y}; }
static inline float4 make_float4(float x, float y, float z, float w) { return {x, y, z, w}; }

/* ---- inside a kernel ---- */

/* Where the running fiber stands. */
struct sp_emulated_place {
    uint3 thread, block;
    dim3 threads, blocks;
};
extern sp_emulated_place *sp_emulated_now;

#define threadIdx (sp_emulated_now->thread)
#define blockIdx (sp_emulated_now->block)
#define blockDim (sp_emulated_now->threads)
#define gridDim (sp_emulated_now->blocks)
#define warpSize 32

void *sp_emulated_shared();
#define SP_SHARED(type, name) type *name = static_cast<type *>(sp_emulated_shared())

void __syncthreads();
int __syncthreads_or(int predicate);
int __syncthreads_and(int predicate);
int __syncthreads_count(int predicate);
void sp_grid_sync(unsigned *counter);
void sp_wait_launch();

/* Leaves value for the other lanes of mask, waits for all of them; lane i's value lies at i times 64 bytes, until this
 * lane's next exchange. */
const unsigned char *sp_emulated_exchange(unsigned mask, const void *value, size_t bytes);
unsigned sp_emulated_lane();
[[noreturn]] void sp_emulated_wrong(const char *what);

template <typename T> static inline T sp_emulated_shuffle(unsigned mask, T value, unsigned from)
{
    const unsigned char *values = sp_emulated_exchange(mask, &value, sizeof value);
    if (from >= 32 || !(mask >> from & 1)) sp_emulated_wrong("a shuffle reads a lane outside its mask");
    T out;
    std::memcpy(&out, values + 64 * from, sizeof out);
    return out;
}

static inline void __syncwarp(unsigned mask = 0xFFFFFFFFu)
{
    char nothing = 0;
    sp_emulated_exchange(mask, &nothing, 1);
}

template <typename T> static inline T __shfl_sync(unsigned mask, T value, int from, int width = 32)
{
    unsigned lane = sp_emulated_lane(), w = static_cast<unsigned>(width);
    return sp_emulated_shuffle(mask, value, lane / w * w + static_cast<unsigned>(from) % w);
}

template <typename T> static inline T __shfl_xor_sync(unsigned mask, T value, int with, int width = 32)
{
    unsigned lane = sp_emulated_lane(), from = lane ^ static_cast<unsigned>(with), w = static_cast<unsigned>(width);
    return sp_emulated_shuffle(mask, value, from / w > lane / w ? lane : from);
}

template <typename T> static inline T __shfl_down_sync(unsigned mask, T value, unsigned by, int width = 32)
{
    unsigned lane = sp_emulated_lane(), w = static_cast<unsigned>(width);
    return sp_emulated_shuffle(mask, value, lane % w + by < w ? lane + by : lane);
}

template <typename T> static inline T __shfl_up_sync(unsigned mask, T value, unsigned by, int width = 32)
{
    unsigned lane = sp_emulated_lane(), w = static_cast<unsigned>(width);
    return sp_emulated_shuffle(mask, value, lane % w >= by ? lane - by : lane);
}

static inline unsigned __ballot_sync(unsigned mask, int predicate)
{
    const unsigned char *values = sp_emulated_exchange(mask, &predicate, sizeof predicate);
    unsigned out = 0;
    for (unsigned i = 0; i < 32; i++) {
        int of_lane = 0;
        if (mask >> i & 1) std::memcpy(&of_lane, values + 64 * i, sizeof of_lane);
        out |= of_lane ? 1u << i : 0;
    }
    return out;
}
static inline int __any_sync(unsigned mask, int predicate) { return __ballot_sync(mask, predicate) != 0; }
static inline int __all_sync(unsigned mask, int predicate) { return __ballot_sync(mask, predicate) == mask; }

static inline void __threadfence() {}
static inline void __threadfence_block() {}
static inline void __threadfence_system() {}

/* Fibers change places at barriers only, so a read and a write are one step. */
template <typename T, typename U> static inline T atomicAdd(T *at, U by)
{
    T before = *at;
    *at = static_cast<T>(before + static_cast<T>(by));
    return before;
}
template <typename T, typename U> static inline T atomicMax(T *at, U with)
{
    T before = *at;
    if (static_cast<T>(with) > before) *at = static_cast<T>(with);
    return before;
}
template <typename T, typename U> static inline T atomicMin(T *at, U with)
{
    T before = *at;
    if (static_cast<T>(with) < before) *at = static_cast<T>(with);
    return before;
}
template <typename T, typename U> static inline T atomicExch(T *at, U with)
{
    T before = *at;
    *at = static_cast<T>(with);
    return before;
}
template <typename T, typename U, typename V> static inline T atomicCAS(T *at, U expected, V with)
{
    T before = *at;
    if (before == static_cast<T>(expected)) *at = static_cast<T>(with);
    return before;
}

template <typename T> static inline T __ldg(const T *from) { return *from; }

static inline unsigned __float_as_uint(float x)
{
    unsigned u;
    std::memcpy(&u, &x, sizeof u);
    return u;
}
static inline float __uint_as_float(unsigned u)
{
    float x;
    std::memcpy(&x, &u, sizeof x);
    return x;
}
static inline int __float_as_int(float x) { return static_cast<int>(__float_as_uint(x)); }
static inline float __int_as_float(int i) { return __uint_as_float(static_cast<unsigned>(i)); }
static inline int __popc(unsigned x) { return __builtin_popcount(x); }
static inline int __ffs(int x) { return __builtin_ffs(x); }
static inline int __clz(int x) { return x ? __builtin_clz(static_cast<unsigned>(x)) : 32; }
template <typename T> static inline T min(T a, T b) { return b < a ? b : a; }
template <typename T> static inline T max(T a, T b) { return a < b ? b : a; }

uint64_t sp_clock_ns();
static inline float sp_fast_swish(float x) { return x / (1.0f + std::exp(-x)); }

static inline uint4 sp_load_once(const uint4 *from) { return *from; }

/* The copy happens at the wait of its group, as late as the hardware may do it. */
void sp_copy_async16(void *to, const void *from, bool zero);
void sp_copy_commit();
void sp_emulated_copy_wait(int groups);
template <int GROUPS> static inline void sp_copy_wait() { sp_emulated_copy_wait(GROUPS); }

void sp_mma_bf16(float d[4], const uint32_t a[4], const uint32_t b[2]);

static inline uint32_t sp_pack_bf16(float low, float high)
{
    return static_cast<uint32_t>(sp_f32_to_bf16(low)) | static_cast<uint32_t>(sp_f32_to_bf16(high)) << 16;
}

/* ---- launches ---- */

cudaError_t sp_emulated_launch(std::function<void()> kernel, bool cooperative, dim3 grid, dim3 block, size_t shared,
                               cudaStream_t stream);

template <typename T> struct sp_same { typedef T type; };

template <typename... P>
static inline cudaError_t sp_launch(void (*kernel)(P...), bool cooperative, dim3 grid, dim3 block, size_t shared,
                                    cudaStream_t stream, typename sp_same<P>::type... arguments)
{
    return sp_emulated_launch([=] { kernel(arguments...); }, cooperative, grid, block, shared, stream);
}

#endif
