#ifndef SP_CHAIN_H
#define SP_CHAIN_H
/* Acceptance rules of continuous tokens: pure functions over the Gaussian steps of denoising chains, testable with no
 * model. chains.def lists them.
 *
 * A chain is y_{k+1} = mean_k + deviation_k * noise_k, k = 0 .. n_steps - 1, from y_0 ~ N(0, I); y_{n_steps} is the
 * token. Rules that draft by themselves couple the chain of a position with the one it had in the pass before, step by
 * step; rules with a drafter decide about its tokens. */
#include "acceptance/chain_arithmetic.h"
#include "specular.h"

/* The last chain of a position, or one step of it: y_{k+1} = mean + deviation * noise, [steps, dim] each. */
typedef struct sp_chain_path {
    float *state, *mean, *deviation, *noise;
} sp_chain_path;

/* A token of the drafter, and what decides about it. All [dim]. */
typedef struct sp_chain_check {
    float *draft;                      /* its last state, and out: the one that is final */
    const float *q_mean, *q_deviation; /* it was drawn from N(mean, deviation^2) */
    const float *p_mean, *p_deviation; /* the last step of the target's own chain */
    const float *own;                  /* the target's token */
} sp_chain_check;

/* What single rules read; the others ignore it. */
typedef struct sp_chain_settings {
    bool path_front; /* mirror: the path test decides as long as every earlier draft of the window passed */
    size_t gamma;    /* cspd, cspd-released: tokens drafted before a check, 1 to SP_MAX_WINDOW - 1 */
    float prefill;   /* cspd, cspd-released: share of the tokens that the target draws alone first, 0 to 1 */
    bool align;      /* cspd, cspd-released: draft and target share the noise of a position */
    float tolerance; /* cspd-released: rho, the distance at which drafts pass with probability exp(-1/2), from 0 */
} sp_chain_settings;

/* One line of chains.def. */
typedef struct sp_chain_ops {
    const char *name;
    const char *summary;
    const char *settings; /* options that only this rule and its like read, by name, separated by spaces; NULL: none */
    sp_exactness exactness;
    bool drafts;        /* false: the window is one position, nothing is drafted */
    bool needs_drafter; /* drafts come from a second model */
    bool compares;      /* needs a last step that adds noise */
    bool bonus;         /* the target draws one more token after the last draft */
    bool reflects;      /* couple is reflection, which devices know */
    /* One step of a chain under a new condition: path is the step of the last chain and becomes that of the new one.
     * NULL for rules without paths. */
    void (*couple)(const sp_chain_draw *draw, size_t k, size_t dim, const float *mean, const float *deviation,
                   const sp_chain_path *path);
    /* Instead of coupling, at positions that are final in this pass: means [n_steps, dim] of the new condition along
     * the states of path, deviations unchanged. Returns how many states of the path stay; when not all, the next is
     * drawn into path, and the noise of the steps after it. NULL when there is no such option. */
    size_t (*front)(const sp_chain_draw *draw, size_t n_steps, size_t dim, const float *means,
                    const sp_chain_path *path);
    /* Whether a draft stays; if not, check->draft is what takes its place. Of rules with a drafter. */
    bool (*verify)(const sp_chain_draw *draw, const sp_chain_settings *settings, size_t dim,
                   const sp_chain_check *check);
    /* How many of n rows are final: kept[j] tells whether row j came out as what later rows have seen. */
    size_t (*commit)(const bool *kept, size_t n);
} sp_chain_ops;

/* Commits of the rules: up to the first row that was not kept, that one included; and all rows. */
size_t sp_commit_first_change(const bool *kept, size_t n);
size_t sp_commit_all(const bool *kept, size_t n);

/* A draw from (p - q)+, normalised, into check->draft, by rejection from p. Returns how many draws it took: given a
 * rejected draft 1 / (1 - A) on average, where A is the probability that a draft passes. */
size_t sp_chain_residual(const sp_chain_draw *draw, size_t dim, const sp_chain_check *check);

/* NULL when there is no such rule. */
const sp_chain_ops *sp_chain_find(const char *name);
const sp_chain_ops *const *sp_chain_all(void); /* NULL at the end */

#endif
