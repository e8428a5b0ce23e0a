#ifndef SP_HEAD_H
#define SP_HEAD_H
/* The head of models with continuous tokens: an MLP under adaptive layer norms that makes, of a condition (a feature of
 * the transformer) and the state of a denoising chain, the Gaussian of the chain's next step. By flags the heads of
 * SphereAR (Ke et al., arXiv 2509.24335) and MAR (Li et al., arXiv 2406.11838):
 *
 *     s = silu(time_k + condition)                          time_k from a table that open makes
 *     h = input(y);   each block: u = norm(h) (1 + scale) + shift,  h += gate down(act(up(u)))
 *     output = linear(norm(h) (1 + scale) + shift)          scale, shift, gate: linear in s
 *
 *     sp_head *head;                                        // weights, read-only, shared
 *     SP_TRY(sp_head_open(&head, &config, family, tensors, ops, bf16, err));
 *     sp_head_context *context;                             // conditions and scratch of one image in the making
 *     SP_TRY(sp_head_context_open(&context, head, pool, max_rows, err));
 *     sp_head_condition(context, &(sp_head_conditions){.n = n, .n_streams = 2, .features = z, ...});
 *     sp_head_step(context, &(sp_chain_rows){.n = m, .row = rows, .k = k, ...});
 *
 * The adaptive part depends on the time and the condition alone: condition makes it for all steps at once where its
 * table is small enough, else each step makes its own; the bits are the same. State, first and last layer are float
 * whatever the arithmetic. A row's bits depend on its condition, state and step alone. */
#include "io/tensors.h"
#include "kernels/kernels.h"
#include "model/family.h"
#include "model/latent_model.h"
#include "model/sampler.h"

typedef struct sp_head_config {
    size_t dim;          /* of a token */
    size_t condition;    /* width of a feature */
    size_t width, blocks;
    size_t groups;       /* sets of scale, shift and gate, each for blocks / groups blocks in turn */
    size_t hidden;       /* width inside a block's MLP */
    size_t time_width;   /* of the time embedding: cosines, then sines */
    bool gated;          /* silu(gate) up, the gate half first; else silu */
    bool shift_first;    /* rows of the modulation are shift, scale, gate; else scale, shift, gate */
    const sp_sampler *sampler;
    sp_sampler_config chain;
} sp_head_config;

typedef struct sp_head sp_head;
typedef struct sp_head_context sp_head_context;

/* Names are the SP_SLOT_DIFFUSION_ ones of family. bf16: the blocks in bf16 arithmetic, sums in float. */
SP_CHECK sp_status sp_head_open(sp_head **out, const sp_head_config *config, const sp_family *family,
                                const sp_tensors *tensors, const sp_ops *ops, bool bf16, sp_error *err);
void sp_head_close(sp_head *head);
size_t sp_head_parameters(const sp_head *head);
size_t sp_head_bytes(const sp_head *head);
bool sp_head_fixed_deviation(const sp_head *head);
bool sp_head_degenerate(const sp_head *head); /* the last step adds no noise */

/* Chains of a step from which on each thread is sooner done with rows of its own than all with shared products. A
 * device takes all rows at once: SIZE_MAX. */
size_t sp_head_rows_apart(const sp_head *head);

/* max_rows: conditions of one call, a stream. */
SP_CHECK sp_status sp_head_context_open(sp_head_context **out, const sp_head *head, sp_pool *pool, size_t max_rows,
                                        sp_error *err);
void sp_head_context_close(sp_head_context *context);
size_t sp_head_context_bytes(const sp_head_context *context);

typedef struct sp_head_conditions {
    size_t n, n_streams;   /* streams: the conditional one, then when guided the free one */
    const float *features; /* [n_streams, n, condition] */
    const float *scale;    /* [n] of guidance: output = free + scale (conditional - free); read with two streams */
    float temperature;
} sp_head_conditions;

/* Replaces the conditions. */
void sp_head_condition(sp_head_context *context, const sp_head_conditions *conditions);

/* A step of the chains of some of them, as sp_latent_model_ops.step: rows->row counts in conditions. */
void sp_head_step(sp_head_context *context, const sp_chain_rows *rows);

#endif
