#ifndef SP_CHAIN_DECODER_H
#define SP_CHAIN_DECODER_H
/* The decode loop of continuous tokens: condition, chains, accept, commit, until the grid is full. It owns the window
 * and the paths of its positions, and knows no rule and no model by name.
 *
 *     sp_chain_decoder *decoder;
 *     SP_TRY(sp_chain_decoder_open(&decoder, &model, drafter.ops ? &drafter : NULL, pool, SP_MAX_WINDOW, err));
 *     SP_TRY(sp_chain_decode(decoder, &model, &plan, err));
 *     decoder->latents, decoder->pass_of_token, decoder->passes ...
 *
 * All memory is taken by open; the loop allocates nothing. Results do not depend on the number of threads. */
#include "acceptance/chain.h"
#include "decode/pacer.h"
#include "model/latent_model.h"

typedef struct sp_chain_plan {
    const sp_chain_ops *rule;
    size_t window;                  /* 0: by the decoder's pacer */
    sp_chain_settings settings;     /* what single rules read: acceptance/chain.h */
    sp_latent_guidance guidance;
    const char *draft_init;         /* context that a position without a chain feeds: "left", "above" or "uniform",
                                     * which is zeros */
    uint64_t seed;
    uint32_t image;
    sp_model_prompt prompt;
    const sp_latent_model *drafter; /* of rules that draft by a model; else NULL */
    sp_progress_call *progress;     /* may be NULL */
    void *user;
} sp_chain_plan;

typedef struct sp_chain_memory sp_chain_memory;

typedef struct sp_chain_decoder {
    size_t dim, n_steps, n_positions, columns, max_window;
    float *latents;         /* [n_positions, dim] final ones, then drafts */
    int32_t *pass_of_token; /* [n_positions] from 1 */
    size_t passes;
    size_t drafted, accepted; /* drafts that later rows were fed or that a model drafted; those of them that stayed */
    size_t draft_passes;      /* of the drafter */
    uint32_t histogram[SP_MAX_WINDOW + 1];
    double prefill_ms, decode_ms;
    double condition_ms, chain_ms; /* of decode_ms: the transformer's, the head's */
    sp_pacer pacer;
    sp_chain_memory *memory;
} sp_chain_decoder;

SP_CHECK sp_status sp_chain_decoder_open(sp_chain_decoder **out, const sp_latent_model *model,
                                         const sp_latent_model *drafter, sp_pool *pool, size_t max_window,
                                         sp_error *err);
void sp_chain_decoder_close(sp_chain_decoder *decoder);
size_t sp_chain_decoder_bytes(const sp_chain_decoder *decoder);

/* SP_EARG when the rule compares last steps and the model's is degenerate, and when a setting is out of range;
 * SP_EFORMAT when a state is not finite. */
SP_CHECK sp_status sp_chain_decode(sp_chain_decoder *decoder, const sp_latent_model *model, const sp_chain_plan *plan,
                                   sp_error *err);

#endif
