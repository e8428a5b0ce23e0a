#include "kernels/ref/ref.h"

#include "base/arena.h"
#include "base/size.h"

/* Layout: floats [n, k], row-major. */
bool sp_ref_pack(sp_weight *out, const void *weights, sp_dtype dtype, size_t n, size_t k, bool round_rows)
{
    size_t count;
    *out = (sp_weight){.n = n, .k = k, .dtype = dtype, .round_rows = round_rows};
    if (!sp_size_mul(n, k, &count)) return false;
    float *data = sp_alloc(count, sizeof *data);
    if (!data) return false;
    for (size_t i = 0; i < count; i++)
        data[i] = round_rows ? sp_bf16_to_f32(sp_load_bf16(weights, dtype, i)) : sp_load_float(weights, dtype, i);
    out->data = data;
    out->bytes = count * sizeof *data;
    return true;
}
