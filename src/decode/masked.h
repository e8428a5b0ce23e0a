#ifndef SP_MASKED_DECODER_H
#define SP_MASKED_DECODER_H
/* The decode loop of masked models: tokens in random order, the first ones one a pass, then more and more.
 *
 *     sp_masked_decoder *decoder;
 *     SP_TRY(sp_masked_decoder_open(&decoder, &model, drafter.ops ? &drafter : NULL, pool, err));
 *     SP_TRY(sp_masked_decode(decoder, &(sp_masked_plan){.chain = plan, .passes = 64, .model = &model}, err));
 *     decoder->chains->latents ...
 *
 * The order and the noise of a position follow from the seed alone, so a target and its drafter share both. All memory
 * is taken by open. Results do not depend on the number of threads. */
#include "decode/chain.h"
#include "model/masked_model.h"

typedef struct sp_masked_plan {
    sp_chain_plan chain;            /* its drafter, window and draft_init are not read */
    size_t passes;                  /* in which the model alone draws everything, 1 to the number of positions */
    const sp_masked_model *model;
    const sp_masked_model *drafter; /* of rules that draft by a model; else NULL */
} sp_masked_plan;

typedef struct sp_masked_memory sp_masked_memory;

typedef struct sp_masked_decoder {
    sp_chain_decoder *chains; /* owned; what came out. Its histogram counts passes of more than SP_MAX_WINDOW there */
    sp_masked_memory *memory;
} sp_masked_decoder;

SP_CHECK sp_status sp_masked_decoder_open(sp_masked_decoder **out, const sp_masked_model *model,
                                          const sp_masked_model *drafter, sp_pool *pool, sp_error *err);
void sp_masked_decoder_close(sp_masked_decoder *decoder);
size_t sp_masked_decoder_bytes(const sp_masked_decoder *decoder);

/* SP_EARG for a rule that needs a conditional a position, a number of passes out of range, or a setting of the rule;
 * SP_EFORMAT when a state is not finite. */
SP_CHECK sp_status sp_masked_decode(sp_masked_decoder *decoder, const sp_masked_plan *plan, sp_error *err);

/* Tokens that are left after pass k of n, when `left` were before it: floor(positions cos(pi/2 (k + 1) / n)) as in
 * MaskGIT (Chang et al., arXiv 2202.04200), fewer than before, and at least 1; the last pass draws that one too. */
size_t sp_masked_left(size_t positions, size_t n, size_t k, size_t left);

/* A uniformly random order [positions]; tokens are drawn from its end. */
void sp_masked_order(uint64_t seed, uint32_t image, size_t positions, int32_t *order);

#endif
