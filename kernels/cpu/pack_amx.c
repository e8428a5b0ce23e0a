#include "kernels/cpu/tiles.h"

#include "base/arena.h"
#include "base/size.h"
#include "kernels/ref/ref.h"

extern sp_op_pack SP_CPU(pack);
extern sp_op_pack sp_avx512_pack;

/* Layout: for each block of 16 outputs and 32 inputs one tile of 1 KiB: 16 rows of input pairs, each row 16 outputs by
 * 2 inputs, as TDPBF16PS reads it. Padding is zero. Full precision is for the avx512 kernel. */
bool SP_CPU(pack)(sp_weight *out, const void *weights, sp_dtype dtype, size_t n, size_t k, bool round_rows)
{
    if (!round_rows) return sp_avx512_pack(out, weights, dtype, n, k, false);
    size_t blocks = (n + 15) / 16, steps = (k + 31) / 32, total;
    *out = (sp_weight){.n = n, .k = k, .dtype = SP_BF16, .round_rows = true};
    if (!sp_size_mul(blocks, steps, &total) || !sp_size_mul(total, SP_TILE_BYTES, &total)) return false;
    uint16_t *data = sp_alloc(total, 1);
    if (!data) return false;
    for (size_t column = 0; column < n; column++) {
        for (size_t i = 0; i < k; i++) {
            size_t tile = column / 16 * steps + i / 32;
            size_t at = tile * 512 + i % 32 / 2 * 32 + column % 16 * 2 + i % 2;
            data[at] = sp_load_bf16(weights, dtype, column * k + i);
        }
    }
    out->data = data;
    out->bytes = total;
    return true;
}
