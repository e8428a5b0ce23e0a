/* Whether launches overlap: a device from compute capability 9.0 on, and code that was compiled for one. Code of an
 * older architecture has no wait in it, and may run on a newer device all the same. */
#include <atomic>

#include "kernels/cuda/cuda.cuh"

static std::atomic<bool> wanted{true};

void sp_cuda_let_overlap(bool yes) { wanted = yes; }

#if defined(__CUDACC__)

__global__ void waiting_kernel() { sp_wait_launch(); }

static bool waits()
{
    cudaFuncAttributes attributes;
    cudaError_t error = cudaFuncGetAttributes(&attributes, reinterpret_cast<const void *>(waiting_kernel));
    return error == cudaSuccess && attributes.ptxVersion >= 90 && attributes.binaryVersion >= 90;
}

bool sp_cuda_overlaps()
{
    enum { DEVICES = 64, UNKNOWN = 0, YES = 1, NO = 2 };
    static std::atomic<unsigned char> known[DEVICES];
    int device = 0;
    if (!wanted || cudaGetDevice(&device) != cudaSuccess || device < 0 || device >= DEVICES) return false;
    unsigned char answer = known[device].load(std::memory_order_relaxed);
    if (answer == UNKNOWN) {
        answer = waits() ? YES : NO;
        known[device].store(answer, std::memory_order_relaxed);
    }
    return answer == YES;
}

#endif
