#ifndef SP_CHAIN_ARITHMETIC_H
#define SP_CHAIN_ARITHMETIC_H
/* The arithmetic of the rules of continuous tokens, once: what C and CUDA C share (docs/rules/mirror.md, cspd.md).
 * Densities are compared as differences of logarithms, summed in double. */
#include "acceptance/arithmetic.h"
#include "base/normal.h"

/* Steps of a chain and passes of a picture have room in the counters of their draws. */
enum { SP_MAX_LATENT = SP_MAX_NORMALS, SP_MAX_STEPS = 1023, SP_MAX_CHAIN_PASSES = 65535 };

/* Whose random bits. */
typedef struct sp_chain_draw {
    uint64_t seed;
    uint32_t image, position, pass;
} sp_chain_draw;

/* log u, u uniform; at most 0. */
SP_HOST_DEVICE static inline double sp_chain_log_uniform(const sp_chain_draw *d, sp_draw_purpose purpose, uint32_t draw)
{
    return sp_log(sp_uniform(d->seed, d->image, purpose, d->position, draw) + 0x1p-54);
}

/* First draws: of the noise of step k in the pass, see SP_DRAW_FRESH. */
SP_HOST_DEVICE static inline uint32_t sp_chain_fresh_draw(const sp_chain_draw *d, size_t k)
{
    return d->pass << 16 | (uint32_t)k << 6;
}

/* Of the position's own chain: at = 0 is its start, k + 1 step k. */
SP_HOST_DEVICE static inline uint32_t sp_chain_noise_draw(size_t at) { return (uint32_t)at << 6; }

SP_HOST_DEVICE static inline void sp_chain_fresh(const sp_chain_draw *d, sp_draw_purpose purpose, size_t k, size_t dim,
                                                 float *noise)
{
    sp_normals(d->seed, d->image, d->position, purpose, sp_chain_fresh_draw(d, k), dim, noise);
}

SP_HOST_DEVICE static inline void sp_chain_noise(const sp_chain_draw *d, sp_draw_purpose purpose, size_t at, size_t dim,
                                                 float *noise)
{
    sp_normals(d->seed, d->image, d->position, purpose, sp_chain_noise_draw(at), dim, noise);
}

/* y_{k+1}. */
SP_HOST_DEVICE static inline float sp_chain_move(float mean, float deviation, float noise)
{
    return (float)((double)mean + (double)deviation * (double)noise);
}

/* log N(x; a, s^2) - log N(x; b, t^2). */
SP_HOST_DEVICE static inline double sp_log_ratio(size_t dim, const float *x, const float *a, const float *s,
                                                 const float *b, const float *t)
{
    double sum = 0;
    for (size_t j = 0; j < dim; j++) {
        double da = ((double)x[j] - (double)a[j]) / (double)s[j], db = ((double)x[j] - (double)b[j]) / (double)t[j];
        sum += 0.5 * (db - da) * (db + da);
        if (s[j] != t[j]) sum += sp_log((double)t[j] / (double)s[j]);
    }
    return sum;
}

/* Reflection maximal coupling of N(b + delta, 1) and N(b, 1) in whitened coordinates: b + delta + xi was drawn from the
 * first, b + z is from the second, z = xi + factor delta. Returns true, and factor 1, when they are the same: with
 * probability 2 Phi(-|delta| / 2). Otherwise xi is reflected along delta. */
SP_HOST_DEVICE static inline bool sp_mirror_meets(double log_u, size_t dim, const double *xi, const double *delta,
                                                  double *factor)
{
    double square = 0, product = 0;
    for (size_t j = 0; j < dim; j++) {
        square += delta[j] * delta[j];
        product += delta[j] * xi[j];
    }
    bool met = log_u <= -product - 0.5 * square;
    *factor = met ? 1.0 : -2.0 * product / square;
    return met;
}

/* The same with z, which may be xi. */
SP_HOST_DEVICE static inline bool sp_mirror(double log_u, size_t dim, const double *xi, const double *delta, double *z)
{
    double factor;
    bool met = sp_mirror_meets(log_u, dim, xi, delta, &factor);
    for (size_t j = 0; j < dim; j++) z[j] = xi[j] + factor * delta[j];
    return met;
}

/* One number of a step under its last law and the new one, in whitened coordinates: xi and the distance of the means
 * over s, the smaller of the deviations. The excess of the larger one is split off, with noise that no decision has
 * seen; what the new law has of it is shift. The number is mean + shift + s z, z ~ N(0, 1). */
typedef struct sp_whitened {
    double xi, delta, shift, s;
} sp_whitened;

/* excess is read where the deviations differ. */
SP_HOST_DEVICE static inline sp_whitened sp_whiten(float old_mean, float old_deviation, float old_noise, float mean,
                                                   float deviation, float excess)
{
    double so = (double)old_deviation, sn = (double)deviation, noise = (double)old_noise, from = (double)old_mean;
    sp_whitened w;
    w.s = so < sn ? so : sn;
    w.xi = noise;
    w.shift = 0;
    if (so > sn) {
        w.xi = w.s / so * noise + sqrt(1 - w.s * w.s / (so * so)) * (double)excess;
        from += so * noise - w.s * w.xi;
    } else if (sn > so) {
        w.shift = sqrt(sn * sn - w.s * w.s) * (double)excess;
    }
    w.delta = (from - (double)mean - w.shift) / w.s;
    return w;
}

/* The number and its noise under the new law, where the whitened one is z. */
SP_HOST_DEVICE static inline float sp_whitened_state(sp_whitened w, float mean, double z)
{
    return (float)((double)mean + w.shift + w.s * z);
}
SP_HOST_DEVICE static inline float sp_whitened_noise(sp_whitened w, float deviation, double z)
{
    return (float)((w.shift + w.s * z) / (double)deviation);
}

/* Block verification over the steps of a path. H = exp(log_h) after i steps is min(1, H r_i), r_i the ratio of the new
 * density of the step to the old one. gap: distance of the two means of the next step in deviations. */
SP_HOST_DEVICE static inline double sp_block_extend(double log_h, double log_ratio)
{
    double sum = log_h + log_ratio;
    return sum < 0 ? sum : sum >= 0 ? 0 : -INFINITY;
}

SP_HOST_DEVICE static inline double sp_normal_tail(double x) { return 0.5 * erfc(x * 0.70710678118654752440); }

/* Where H p = q on the line through the means, 0 at that of q. */
SP_HOST_DEVICE static inline double sp_block_edge(double log_h, double gap) { return 0.5 * gap - log_h / gap; }

/* Mass of (H p - q)+ from u on, which is right of the edge. */
SP_HOST_DEVICE static inline double sp_block_mass(double log_h, double gap, double u)
{
    double mass = exp(log_h) * sp_normal_tail(u - gap) - sp_normal_tail(u);
    return mass > 0 ? mass : 0;
}

/* Probability that the path may stay for this many of its steps. */
SP_HOST_DEVICE static inline double sp_block_allows(double log_h, double gap)
{
    double h = exp(log_h), mass = gap > 0 ? sp_block_mass(log_h, gap, sp_block_edge(log_h, gap)) : 0;
    if (!(gap < INFINITY)) mass = h;
    return mass + (1 - h) > 0 ? mass / (mass + (1 - h)) : 1;
}

/* A draw from (H p - q)+ on the line: where the mass right of it is the share `share` of the whole. */
SP_HOST_DEVICE static inline double sp_block_draw(double log_h, double gap, double share)
{
    double low = sp_block_edge(log_h, gap), high = low + gap + 40, mass = share * sp_block_mass(log_h, gap, low);
    for (int i = 0; i < 64; i++) {
        double middle = 0.5 * (low + high);
        if (sp_block_mass(log_h, gap, middle) > mass) low = middle;
        else high = middle;
    }
    return low;
}

#endif
