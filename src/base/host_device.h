#ifndef SP_HOST_DEVICE_H
#define SP_HOST_DEVICE_H
/* SP_HOST_DEVICE before a function that both the C and the CUDA compiler take. */
#include <stdint.h>

#if defined(__CUDACC__)
#define SP_HOST_DEVICE __host__ __device__
#else
#define SP_HOST_DEVICE
#endif

#endif
