/* What libspecular-cuda.so offers, and whether a device can be used. */
#include "kernels/cuda/table.cuh"

#include "kernels/cuda/cuda.cuh"

enum { OLDEST = 8 }; /* compute capability 8.0: bf16 tensor cores and copies in the background */

static sp_status check(int device, sp_error *err)
{
    int count = 0, major = 0;
    SP_CUDA(cudaGetDeviceCount(&count), err);
    if (device < 0 || device >= count)
        return SP_FAIL(err, SP_EDEVICE, "device cuda:%d: there %s %d of them, counted from 0; use --device cuda:0 or "
                       "cpu", device, count == 1 ? "is" : "are", count);
    SP_CUDA(cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, device), err);
    if (major < OLDEST)
        return SP_FAIL(err, SP_EDEVICE, "device cuda:%d: its compute capability is %d.x; expected %d.0 or above; use "
                       "--device cpu", device, major, OLDEST);
    return SP_OK;
}

extern "C" __attribute__((visibility("default"))) const sp_device_ops *sp_device_functions(void)
{
    static const sp_device_ops ops = {SP_DEVICE_VERSION, "cuda", check, &sp_cuda_models, &sp_cuda_codec,
                                      &sp_cuda_head_ops, &sp_cuda_masked};
    return &ops;
}
