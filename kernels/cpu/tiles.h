#ifndef SP_TILES_H
#define SP_TILES_H
/* AMX tiles: eight of 16 rows by 64 bytes. TDPBF16PS: C [16 x 16 floats] += A [16 rows x 32 bf16] B [16 pairs x 16]. */
#include "kernels/cpu/simd.h"

enum { SP_TILE_BYTES = 1024 };

/* All eight tiles at full size, but for rows of results (0 to 3) and of activations (4); once a thread before its first
 * tile instruction, sp_tiles_end after its last. */
static inline void sp_tiles_begin_rows(size_t rows)
{
    struct {
        uint8_t palette, start_row, reserved[14];
        uint16_t row_bytes[16];
        uint8_t rows[16];
    } config = {.palette = 1};
    for (int i = 0; i < 8; i++) {
        config.row_bytes[i] = 64;
        config.rows[i] = i < 5 ? (uint8_t)rows : 16;
    }
    _tile_loadconfig(&config);
}

static inline void sp_tiles_begin(void) { sp_tiles_begin_rows(16); }

static inline void sp_tiles_end(void) { _tile_release(); }

/* n floats to bf16, round to nearest even, zeros up to padded (a multiple of 32). */
static inline void sp_round_row(const float *x, size_t n, size_t padded, uint16_t *out)
{
    for (size_t i = 0; i < padded; i += 16) {
        size_t live = i >= n ? 0 : n - i;
        __m512 v = live >= 16 ? _mm512_loadu_ps(x + i)
                   : live     ? _mm512_maskz_loadu_ps(sp_vec_mask(live), x + i)
                              : _mm512_setzero_ps();
        _mm256_storeu_si256((__m256i *)(out + i), (__m256i)_mm512_cvtneps_pbh(v));
    }
}

#endif
