#include "kernels/cpu/panel.h"

#include <string.h>

#include "base/arena.h"
#include "base/size.h"
#include "kernels/ref/ref.h"

extern sp_op_pack SP_CPU(pack);

/* Layout: panels of SP_PANEL outputs, each [k, SP_PANEL], so a step of the inner loop reads one contiguous run. The
 * last panel is filled with zeros. bf16 weights stay 16-bit and are widened as they are read; f16 becomes f32. */
bool SP_CPU(pack)(sp_weight *out, const void *weights, sp_dtype dtype, size_t n, size_t k, bool round_rows)
{
    size_t panels = (n + SP_PANEL - 1) / SP_PANEL, count, total;
    sp_dtype stored = dtype == SP_BF16 || round_rows ? SP_BF16 : SP_F32;
    size_t element = stored == SP_BF16 ? 2 : 4;
    *out = (sp_weight){.n = n, .k = k, .dtype = stored, .round_rows = round_rows};
    if (!sp_size_mul(panels, SP_PANEL, &count) || !sp_size_mul(count, k, &count) || !sp_size_mul(count, element,
                                                                                                 &total))
        return false;
    unsigned char *data = sp_alloc(total, 1);
    if (!data) return false;
    for (size_t column = 0; column < n; column++) {
        size_t base = column / SP_PANEL * SP_PANEL * k + column % SP_PANEL;
        for (size_t i = 0; i < k; i++) {
            unsigned char *to = data + (base + i * SP_PANEL) * element;
            if (stored == SP_BF16) {
                uint16_t value = sp_load_bf16(weights, dtype, column * k + i);
                memcpy(to, &value, 2);
            } else {
                float value = sp_load_float(weights, dtype, column * k + i);
                memcpy(to, &value, 4);
            }
        }
    }
    out->data = data;
    out->bytes = total;
    return true;
}
