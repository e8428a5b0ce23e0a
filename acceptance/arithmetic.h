#ifndef SP_ARITHMETIC_H
#define SP_ARITHMETIC_H
/* The arithmetic of the rules, once: what C and CUDA C share (docs/rules/). Rows and codes are looped over elsewhere.
 *
 * p is the law of a position in this pass, q the law its draft was drawn from, d the draft, u uniform in [0, 1). */
#include <math.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/philox.h"

/* How a draft was drawn, given every token before its position. */
typedef enum {
    SP_LAW_POINT = 0,   /* with certainty */
    SP_LAW_UNIFORM = 1, /* uniformly among all codes */
    SP_LAW_ROW = 2      /* from probability */
} sp_law_kind;

typedef struct sp_law {
    sp_law_kind kind;
    float *probability; /* [n_codes], meant when kind is SP_LAW_ROW; there whatever the kind */
} sp_law;

/* q(code) for a draft. */
SP_HOST_DEVICE static inline float sp_law_at(const sp_law *q, int32_t draft, size_t n_codes, int32_t code)
{
    if (q->kind == SP_LAW_ROW) return q->probability[code];
    if (q->kind == SP_LAW_UNIFORM) return 1.0f / (float)n_codes;
    return code == draft ? 1.0f : 0.0f;
}

/* u of a purpose at a position, another one in each pass: a position is visited many times. 53 bits. */
SP_HOST_DEVICE static inline double sp_uniform(uint64_t seed, uint32_t image, sp_draw_purpose purpose,
                                               uint32_t position, uint32_t pass)
{
    sp_philox_block block = sp_philox(seed, pass, position, (uint32_t)purpose, image);
    return ((double)(block.word[0] >> 5) * 67108864.0 + (double)(block.word[1] >> 6)) * (1.0 / 9007199254740992.0);
}

/* The ratio test: true with probability min(1, p / q). As a product, p = q always passes and p = 0 never does. */
SP_HOST_DEVICE static inline bool sp_ratio_passes(double u, double p, double q) { return u * q < p; }

/* The probability of the same. */
SP_HOST_DEVICE static inline double sp_ratio(double p, double q) { return p < q ? p / q : 1.0; }

/* Weight of a code once its draft is refused: (p - q)+. */
SP_HOST_DEVICE static inline float sp_residual(float p, float q) { return p > q ? p - q : 0.0f; }

/* Equality test of pathwise decoding: the draft is the token that the seed draws. */
SP_HOST_DEVICE static inline bool sp_equality_passes(int32_t draft, int32_t drawn) { return draft == drawn; }

/* Order of the codes by probability, the smaller code first among equals. */
SP_HOST_DEVICE static inline bool sp_outranks(float p_a, int32_t a, float p_b, int32_t b)
{
    return p_a > p_b || (p_a == p_b && a < b);
}

/* Whether a code near the draft in rank stays in its group. */
SP_HOST_DEVICE static inline bool sp_group_admits(float p_code, float p_draft, float delta, float squared_distance,
                                                  float limit)
{
    return fabsf(p_code - p_draft) < delta && squared_distance < limit;
}

/* |a / |a| - b / |b||^2 = 2 - 2 cos(a, b), between 0 and 4. */
SP_HOST_DEVICE static inline float sp_code_distance(const float *a, const float *b, size_t width)
{
    double product = 0, a_squared = 0, b_squared = 0;
    for (size_t i = 0; i < width; i++) {
        product += (double)a[i] * (double)b[i];
        a_squared += (double)a[i] * (double)a[i];
        b_squared += (double)b[i] * (double)b[i];
    }
    double lengths = sqrt(a_squared * b_squared);
    return lengths > 0 ? (float)(2.0 - 2.0 * product / lengths) : 2.0f;
}

#endif
