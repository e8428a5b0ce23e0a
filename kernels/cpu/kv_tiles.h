#ifndef SP_KV_TILES_H
#define SP_KV_TILES_H
/* Keys and values of one head as bf16 in the tiles that attention multiplies by; width is a multiple of 32.
 *
 * Keys: a block of 16 positions is 16 width numbers, [width / 2 pairs of channels][16 positions][2]. Values: a block of
 * 32 positions is 32 width numbers, [width / 16][16 pairs of positions][16 channels][2]. */
#include <stddef.h>

#include "kernels/kernels.h"

enum { SP_KEY_BLOCK = 16, SP_VALUE_BLOCK = 32, SP_TILE_PAIRS = 32, SP_TILE_NUMBERS = 512 };

/* Whether a cache is laid out like this; otherwise it is floats, as kernels.h has it. */
static inline bool sp_kv_in_tiles(const sp_kv_view *kv, size_t width) { return kv->round && width % 32 == 0; }

/* Where channels 0 and 1 of the key of position p lie; a pair of channels further on is SP_TILE_PAIRS further on. */
static inline size_t sp_key_at(size_t p, size_t width)
{
    return p / SP_KEY_BLOCK * SP_KEY_BLOCK * width + p % SP_KEY_BLOCK * 2;
}

/* Where channel 0 of the value of position p lies; the next one is 2 further on, channel 16 SP_TILE_NUMBERS. */
static inline size_t sp_value_at(size_t p, size_t width)
{
    return p / SP_VALUE_BLOCK * SP_VALUE_BLOCK * width + p % SP_VALUE_BLOCK / 2 * SP_TILE_PAIRS + p % 2;
}

/* Copies the key, or the value, of position from to position to. Caches of one head each, which may be the same. */
static inline void sp_key_copy(const uint16_t *keys, size_t from, uint16_t *to_keys, size_t to, size_t width)
{
    const uint16_t *key = keys + sp_key_at(from, width);
    uint16_t *to_key = to_keys + sp_key_at(to, width);
    for (size_t pair = 0; pair < width / 2; pair++, key += SP_TILE_PAIRS, to_key += SP_TILE_PAIRS) {
        to_key[0] = key[0];
        to_key[1] = key[1];
    }
}

static inline void sp_value_copy(const uint16_t *values, size_t from, uint16_t *to_values, size_t to, size_t width)
{
    const uint16_t *value = values + sp_value_at(from, width);
    uint16_t *to_value = to_values + sp_value_at(to, width);
    for (size_t column = 0; column < width / 16; column++, value += SP_TILE_NUMBERS, to_value += SP_TILE_NUMBERS)
        for (size_t d = 0; d < 16; d++) to_value[2 * d] = value[2 * d];
}

#endif
