#ifndef SP_PHILOX_H
#define SP_PHILOX_H
/* Philox4x32-10 (Salmon et al., SC 2011): a counter-based generator. The same bits as curand_Philox4x32_10.
 * There is no state: key = the 64-bit seed, counter = {draw, position, purpose, image}. Host and device. */
#include <stdint.h>

#include "base/host_device.h"

/* What a draw is for: no two purposes share bits. */
typedef enum {
    SP_DRAW_GUMBEL = 0,   /* noise of tokens 4 draw .. 4 draw + 3 */
    SP_DRAW_INIT = 1,     /* a uniform start of a position */
    SP_DRAW_ACCEPT = 2,   /* the test of a draft in pass draw */
    SP_DRAW_RESIDUAL = 3, /* the token in place of a draft refused in pass draw */
    SP_DRAW_REDRAFT = 4,  /* a draft, or a final token without one, drawn in pass draw */
    SP_DRAW_GUESS = 5,    /* guesses beside a draft and their tests */
    /* Of continuous tokens; draws of Gaussians count quads of numbers, see sp_normals. */
    SP_DRAW_CHAIN = 6,    /* a position's chain: quad + 64 step; step 0 is its start, k + 1 the noise of step k */
    SP_DRAW_COUPLE = 7,   /* the test of step k of a chain against the last one: k + 1024 pass */
    SP_DRAW_FRESH = 8,    /* noise that no decision has seen: quad + 64 step + 65536 pass */
    SP_DRAW_APART = 9,    /* a chain that shares no noise with its draft: as SP_DRAW_CHAIN */
    SP_DRAW_ORDER = 10    /* the place of a position in the order of a masked model */
} sp_draw_purpose;

/* Of evaluation, not of pictures: where in its own probability a token stands, and which prompts a resample holds. */
enum { SP_DRAW_RANK = 100, SP_DRAW_RESAMPLE = 101 };

typedef struct sp_philox_block {
    uint32_t word[4];
} sp_philox_block;

SP_HOST_DEVICE static inline sp_philox_block sp_philox(uint64_t key, uint32_t c0, uint32_t c1, uint32_t c2, uint32_t c3)
{
    uint32_t k0 = (uint32_t)key, k1 = (uint32_t)(key >> 32);
    for (int round = 0; round < 10; round++) {
        uint64_t a = (uint64_t)0xD2511F53u * c0, b = (uint64_t)0xCD9E8D57u * c2;
        uint32_t n0 = (uint32_t)(b >> 32) ^ c1 ^ k0, n2 = (uint32_t)(a >> 32) ^ c3 ^ k1;
        c1 = (uint32_t)b;
        c3 = (uint32_t)a;
        c0 = n0;
        c2 = n2;
        k0 += 0x9E3779B9u;
        k1 += 0xBB67AE85u;
    }
    sp_philox_block out = {{c0, c1, c2, c3}};
    return out;
}

#endif
