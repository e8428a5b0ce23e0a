#ifndef SP_NORMAL_H
#define SP_NORMAL_H
/* Gaussian noise fixed by (seed, image, position, purpose, draw), by Box and Muller. Host and device.
 *
 *     float noise[16];
 *     sp_normals(seed, image, position, SP_DRAW_CHAIN, 64 * step, 16, noise);
 *
 * Two 32-bit words r, s give sqrt(-2 log u) cos 2 pi v and sqrt(-2 log u) sin 2 pi v with u = (r + 1/2) / 2^32 and
 * v = (s + 1/2) / 2^32. Only operations that IEEE 754 rounds in one way, so every processor gives the same bits. The
 * largest number is 6.77. */
#include <stddef.h>

#include "base/gumbel.h"

/* Numbers of a draw of its own for each group of four: 64 groups a step. */
enum { SP_MAX_NORMALS = 256 };

/* Cosine and sine of 2 pi (word + 1/2) / 2^32: the nearest quarter turn, then Taylor series of an angle of at most
 * pi / 4. |error| < 2^-52. */
SP_HOST_DEVICE static inline void sp_turn(uint32_t word, double *cosine, double *sine)
{
    uint32_t quarter = (word + 0x20000000u) >> 30;
    double t = ((double)(int32_t)(word - (quarter << 30)) + 0.5) * (1.0 / 4294967296.0);
    double x = t * 6.283185307179586477, z = x * x;
    double s = -1.0 / 121645100408832000.0;
    s = fma(s, z, 1.0 / 355687428096000.0);
    s = fma(s, z, -1.0 / 1307674368000.0);
    s = fma(s, z, 1.0 / 6227020800.0);
    s = fma(s, z, -1.0 / 39916800.0);
    s = fma(s, z, 1.0 / 362880.0);
    s = fma(s, z, -1.0 / 5040.0);
    s = fma(s, z, 1.0 / 120.0);
    s = fma(s, z, -1.0 / 6.0);
    s = fma(x * z, s, x);
    double c = -1.0 / 6402373705728000.0;
    c = fma(c, z, 1.0 / 20922789888000.0);
    c = fma(c, z, -1.0 / 87178291200.0);
    c = fma(c, z, 1.0 / 479001600.0);
    c = fma(c, z, -1.0 / 3628800.0);
    c = fma(c, z, 1.0 / 40320.0);
    c = fma(c, z, -1.0 / 720.0);
    c = fma(c, z, 1.0 / 24.0);
    c = fma(c, z, -0.5);
    c = fma(c, z, 1.0);
    *cosine = quarter % 2 == 0 ? c : s;
    *sine = quarter % 2 == 0 ? s : c;
    if (quarter == 1 || quarter == 2) *cosine = -*cosine;
    if (quarter == 2 || quarter == 3) *sine = -*sine;
}

SP_HOST_DEVICE static inline void sp_normal_of_words(uint32_t r, uint32_t s, float out[2])
{
    double u = ((double)r + 0.5) * (1.0 / 4294967296.0), length = sqrt(-2.0 * sp_log(u)), cosine, sine;
    sp_turn(s, &cosine, &sine);
    out[0] = (float)(length * cosine);
    out[1] = (float)(length * sine);
}

/* n numbers, at most SP_MAX_NORMALS, of draws draw, draw + 1, .. of four each. */
SP_HOST_DEVICE static inline void sp_normals(uint64_t seed, uint32_t image, uint32_t position, sp_draw_purpose purpose,
                                             uint32_t draw, size_t n, float *out)
{
    for (size_t i = 0; i < n; i += 4) {
        float four[4];
        sp_philox_block block = sp_philox(seed, draw + (uint32_t)(i / 4), position, (uint32_t)purpose, image);
        sp_normal_of_words(block.word[0], block.word[1], four);
        sp_normal_of_words(block.word[2], block.word[3], four + 2);
        for (size_t j = i; j < n && j < i + 4; j++) out[j] = four[j - i];
    }
}

#endif
