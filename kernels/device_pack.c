#include <string.h>

#include "base/arena.h"
#include "base/size.h"
#include "kernels/device.h"
#include "kernels/ref/ref.h"

/* Layout: bf16 [n, k], row-major. What is not stored as bf16 is rounded. */
bool sp_device_pack(sp_weight *out, const void *weights, sp_dtype dtype, size_t n, size_t k, bool round_rows)
{
    size_t count;
    *out = (sp_weight){.n = n, .k = k, .dtype = dtype, .round_rows = round_rows};
    if (!sp_size_mul(n, k, &count)) return false;
    uint16_t *data = sp_alloc(count, sizeof *data);
    if (!data) return false;
    if (dtype == SP_BF16) memcpy(data, weights, count * sizeof *data);
    for (size_t i = 0; dtype != SP_BF16 && i < count; i++) data[i] = sp_f32_to_bf16(sp_load_float(weights, dtype, i));
    out->data = data;
    out->bytes = count * sizeof *data;
    return true;
}
