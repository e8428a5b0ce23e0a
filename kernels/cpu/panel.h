#ifndef SP_PANEL_H
#define SP_PANEL_H
/* How cpu/pack.c lays weights out, for the kernels that read them: panels of SP_PANEL outputs, each [k, SP_PANEL]. */
#include "kernels/cpu/simd.h"

enum { SP_PANEL_VECTORS = 4, SP_PANEL = SP_PANEL_VECTORS * SP_LANES };

/* Vector v of step i of a panel, as floats, in a register: compilers would rather load it again for every row, and two
 * loads a cycle are what bounds a product of a few rows. */
static inline sp_vec sp_panel_load(const void *panel, sp_dtype dtype, size_t i, size_t v)
{
    size_t at = i * SP_PANEL + v * SP_LANES;
    if (dtype == SP_BF16) return sp_vec_load_bf16((const uint16_t *)panel + at);
    sp_vec weight = sp_vec_load((const float *)panel + at);
    __asm__("" : "+v"(weight));
    return weight;
}

#endif
