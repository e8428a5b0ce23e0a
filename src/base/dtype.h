#ifndef SP_DTYPE_H
#define SP_DTYPE_H
/* Number formats of stored weights, and their conversion. Narrow formats are held as their bits. Host and
 * device. */
#include <stdint.h>

#include "base/host_device.h"

typedef enum { SP_F32 = 0, SP_BF16 = 1, SP_F16 = 2 } sp_dtype;

SP_HOST_DEVICE static inline float sp_bf16_to_f32(uint16_t h)
{
    union { uint32_t u; float f; } bits = {(uint32_t)h << 16};
    return bits.f;
}

SP_HOST_DEVICE static inline float sp_f16_to_f32(uint16_t h)
{
    union { uint32_t u; float f; } bits;
    uint32_t exponent = h >> 10 & 31, fraction = h & 1023u, sign = (uint32_t)(h & 0x8000u) << 16;
    if (exponent == 0) { /* zero or subnormal: fraction * 2^-24 */
        bits.f = (float)fraction * (1.0f / 16777216.0f);
        bits.u |= sign;
    } else {
        bits.u = sign | (exponent == 31 ? 255u : exponent + 112u) << 23 | fraction << 13;
    }
    return bits.f;
}

/* Round to nearest even; NaN stays NaN. */
SP_HOST_DEVICE static inline uint16_t sp_f32_to_bf16(float x)
{
    union { float f; uint32_t u; } bits = {x};
    if ((bits.u & 0x7FFFFFFFu) > 0x7F800000u) return (uint16_t)(bits.u >> 16 | 64);
    return (uint16_t)((bits.u + 0x7FFFu + (bits.u >> 16 & 1)) >> 16);
}

#endif
