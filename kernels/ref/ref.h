#ifndef SP_REF_H
#define SP_REF_H
/* The specification: every operation of ops.def in plain C, sums in double, rounded to float once. */
#include <math.h>
#include <string.h>

#include "kernels/kernels.h"

#define SP_OP(name, result, arguments) result sp_ref_##name arguments;
#include "kernels/ops.def"
#undef SP_OP

/* Element i of an array of a stored dtype; the array need not be aligned. */
static inline float sp_load_float(const void *data, sp_dtype dtype, size_t i)
{
    if (dtype == SP_F32) {
        float x;
        memcpy(&x, (const unsigned char *)data + 4 * i, 4);
        return x;
    }
    uint16_t h;
    memcpy(&h, (const unsigned char *)data + 2 * i, 2);
    return dtype == SP_BF16 ? sp_bf16_to_f32(h) : sp_f16_to_f32(h);
}

/* The same as bf16, to nearest even. */
static inline uint16_t sp_load_bf16(const void *data, sp_dtype dtype, size_t i)
{
    uint16_t h;
    if (dtype != SP_BF16) return sp_f32_to_bf16(sp_load_float(data, dtype, i));
    memcpy(&h, (const unsigned char *)data + 2 * i, 2);
    return h;
}

#endif
