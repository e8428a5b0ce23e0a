#include "kernels/cuda/cuda.cuh"

/* What can be done about it. */
static const char *remedy(cudaError_t error)
{
    switch (error) {
    case cudaErrorMemoryAllocation: return "give it a smaller batch or window, or use --device cpu";
    case cudaErrorNoDevice:
    case cudaErrorInsufficientDriver: return "check it with nvidia-smi, or use --device cpu";
    case cudaErrorNoKernelImageForDevice: return "build for this GPU (CMAKE_CUDA_ARCHITECTURES), or use --device cpu";
    default: return "run the command again to go on, or use --device cpu";
    }
}

sp_status sp_cuda_fail(sp_error *err, cudaError_t error, const char *what, const char *file, int line)
{
    int name = 0;
    while (what[name] != '\0' && what[name] != '(') name++;
    return sp_error_set(err, SP_EDEVICE, 0, file, line, "device: %.*s: %s (%s); %s", name, what,
                        cudaGetErrorString(error), cudaGetErrorName(error), remedy(error));
}
