#include "kernels/ref/ref.h"

#include "base/gumbel.h"

void sp_ref_gumbel(uint64_t seed, uint32_t image, uint32_t position, size_t count, float *out)
{
    for (size_t quad = 0; quad < count / 4; quad++) sp_gumbel4(seed, image, position, (uint32_t)quad, out + 4 * quad);
}

/* In float, operation by operation: the scores decide which token is drawn, so every back end gives the same bits. */
void sp_ref_guide(const float *conditional, const float *free_logits, float scale, float inverse_temperature,
                  size_t count, float *scores)
{
    for (size_t i = 0; i < count; i++) {
        float logit = conditional[i];
        if (free_logits) logit = fmaf(scale, conditional[i] - free_logits[i], free_logits[i]);
        scores[i] = logit * inverse_temperature;
    }
}

int32_t sp_ref_argmax(const float *scores, const float *noise, size_t count)
{
    int32_t best = 0;
    float top = -INFINITY;
    for (size_t i = 0; i < count; i++) {
        if (isnan(scores[i])) return -1;
        float value = noise ? scores[i] + noise[i] : scores[i];
        if (value > top) {
            top = value;
            best = (int32_t)i;
        }
    }
    return best;
}

void sp_ref_softmax(const float *scores, float top, float threshold, size_t count, float *law)
{
    double total = 0;
    for (size_t i = 0; i < count; i++)
        if (scores[i] >= threshold) total += exp((double)scores[i] - (double)top);
    for (size_t i = 0; i < count; i++)
        law[i] = scores[i] >= threshold ? (float)(exp((double)scores[i] - (double)top) / total) : 0.0f;
}
