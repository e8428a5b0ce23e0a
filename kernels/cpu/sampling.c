/* gumbel, guide and argmax: the same operations in the same order as ref, wider: bits are equal. */
#include "kernels/cpu/simd.h"

#include <math.h>

#include "base/gumbel.h"

extern sp_op_gumbel SP_CPU(gumbel);
extern sp_op_guide SP_CPU(guide);
extern sp_op_argmax SP_CPU(argmax);
extern sp_op_softmax SP_CPU(softmax);

void SP_CPU(gumbel)(uint64_t seed, uint32_t image, uint32_t position, size_t count, float *out)
{
    enum { CHUNK = 256 };
    uint32_t bits[CHUNK];
    for (size_t start = 0; start < count; start += CHUNK) {
        size_t n = count - start < CHUNK ? count - start : CHUNK;
        for (size_t i = 0; i < n; i += 4) {
            sp_philox_block block = sp_philox(seed, (uint32_t)((start + i) / 4), position, SP_DRAW_GUMBEL, image);
            for (size_t w = 0; w < 4; w++) bits[i + w] = block.word[w];
        }
        for (size_t i = 0; i < n; i++) out[start + i] = sp_gumbel_of_bits(bits[i]);
    }
}

void SP_CPU(guide)(const float *conditional, const float *free_logits, float scale, float inverse_temperature,
                   size_t count, float *scores)
{
    if (free_logits == NULL) {
        for (size_t i = 0; i < count; i++) scores[i] = conditional[i] * inverse_temperature;
        return;
    }
    for (size_t i = 0; i < count; i++)
        scores[i] = fmaf(scale, conditional[i] - free_logits[i], free_logits[i]) * inverse_temperature;
}

int32_t SP_CPU(argmax)(const float *scores, const float *noise, size_t count)
{
    sp_vec top = sp_vec_set(-INFINITY);
    float largest = -INFINITY;
    unsigned broken = 0;
    size_t i = 0;
    for (; i + SP_LANES <= count; i += SP_LANES) {
        sp_vec v = sp_vec_load(scores + i);
        broken |= sp_vec_is_nan(v);
        if (noise) v = sp_vec_add(v, sp_vec_load(noise + i));
        top = sp_vec_max(top, v);
    }
    for (; i < count; i++) {
        float v = noise ? scores[i] + noise[i] : scores[i];
        broken |= isnan(scores[i]) != 0;
        if (v > largest) largest = v;
    }
    float lanes = sp_vec_top(top);
    if (lanes > largest) largest = lanes;
    if (broken) return -1;
    top = sp_vec_set(largest);
    for (i = 0; i + SP_LANES <= count; i += SP_LANES) {
        sp_vec v = sp_vec_load(scores + i);
        if (noise) v = sp_vec_add(v, sp_vec_load(noise + i));
        unsigned found = sp_vec_equal(v, top);
        if (found) return (int32_t)i + __builtin_ctz(found);
    }
    for (; i < count; i++)
        if ((noise ? scores[i] + noise[i] : scores[i]) == largest) return (int32_t)i;
    return 0;
}

void SP_CPU(softmax)(const float *scores, float top, float threshold, size_t count, float *law)
{
    sp_vec shift = sp_vec_set(top), sum = sp_vec_set(0), nothing = sp_vec_set(-INFINITY);
    for (size_t i = 0; i < count; i += SP_LANES) {
        size_t n = count - i < SP_LANES ? count - i : SP_LANES;
        for (size_t lane = i; lane < i + n; lane++) law[lane] = scores[lane] >= threshold ? scores[lane] : -INFINITY;
        sp_vec score = sp_vec_keep_n(sp_vec_load_n(law + i, n), nothing, n);
        sp_vec weight = sp_vec_exp(sp_vec_sub(score, shift));
        sp_vec_store_n(law + i, weight, n);
        sum = sp_vec_add(sum, weight);
    }
    sp_vec scale = sp_vec_set(1.0f / sp_vec_sum(sum));
    for (size_t i = 0; i < count; i += SP_LANES) {
        size_t n = count - i < SP_LANES ? count - i : SP_LANES;
        sp_vec_store_n(law + i, sp_vec_mul(sp_vec_load_n(law + i, n), scale), n);
    }
}
