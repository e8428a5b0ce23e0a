#ifndef SP_GUMBEL_H
#define SP_GUMBEL_H
/* Gumbel noise fixed by (seed, image, position, token): g = -log(-log u). Host and device.
 *
 * argmax_v (log p_v + g_v) is a draw from p (Gumbel-max), so with this noise a sample is a function of the seed.
 * u is (r + 1/2) / 2^32 for the 32 random bits r, exact in double; the logarithm below uses only operations that
 * IEEE 754 rounds in one way, so every processor gives the same bits. |error| < 4 ulp of double, then one rounding
 * to float. */
#include <math.h>
#include <stdint.h>
#include <string.h>

#include "base/philox.h"

/* Natural logarithm of a positive normal double: x = 2^k m with m in [sqrt(1/2), sqrt 2),
 * log m = 2 atanh(s), s = (m - 1) / (m + 1), by its odd series to s^21. */
SP_HOST_DEVICE static inline double sp_log(double x)
{
    uint64_t bits;
    memcpy(&bits, &x, sizeof bits);
    uint64_t shifted = bits - 0x3FE6A09E667F3BCDu; /* bits of sqrt(1/2): rounds the exponent to nearest */
    int64_t k = (int64_t)shifted >> 52;
    bits -= (uint64_t)k << 52;
    double m;
    memcpy(&m, &bits, sizeof m);
    double s = (m - 1.0) / (m + 1.0), z = s * s;
    double p = 1.0 / 21.0;
    p = fma(p, z, 1.0 / 19.0);
    p = fma(p, z, 1.0 / 17.0);
    p = fma(p, z, 1.0 / 15.0);
    p = fma(p, z, 1.0 / 13.0);
    p = fma(p, z, 1.0 / 11.0);
    p = fma(p, z, 1.0 / 9.0);
    p = fma(p, z, 1.0 / 7.0);
    p = fma(p, z, 1.0 / 5.0);
    p = fma(p, z, 1.0 / 3.0);
    double twice = 2.0 * s;
    return fma((double)k, 0.693147180559945286, fma(twice * z, p, twice));
}

SP_HOST_DEVICE static inline float sp_gumbel_of_bits(uint32_t r)
{
    double u = ((double)r + 0.5) * (1.0 / 4294967296.0);
    return (float)-sp_log(-sp_log(u));
}

/* Noise of four tokens 4 * quad .. 4 * quad + 3 of one position. */
SP_HOST_DEVICE static inline void sp_gumbel4(uint64_t seed, uint32_t image, uint32_t position, uint32_t quad,
                                             float out[4])
{
    sp_philox_block block = sp_philox(seed, quad, position, SP_DRAW_GUMBEL, image);
    for (int i = 0; i < 4; i++) out[i] = sp_gumbel_of_bits(block.word[i]);
}

#endif
