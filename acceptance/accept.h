#ifndef SP_ACCEPT_H
#define SP_ACCEPT_H
/* Acceptance rules: pure functions over one window, testable with no model. acceptance.def lists them.
 *
 * A pass gives scores for rows j = 0 .. n_rows - 1: row j is the law of absolute position + j given everything before
 * it, the drafts of rows before j included. Row j < n_drafts has a draft. A rule says how many rows are final and
 * leaves in tokens [n_rows] the final tokens first, then its drafts for the rest.
 *
 * A rule that records finds in rows[j].law the law that draft j was drawn from, and leaves there the law that it drew
 * tokens[j] from, for every row that is not final. A draft is carried from pass to pass as long as it is not final, so
 * the record must hold for it given all tokens before its position and every decision taken about it so far. */
#include "acceptance/arithmetic.h"
#include "kernels/kernels.h"
#include "specular.h"

typedef struct sp_sampling {
    uint64_t seed;
    uint32_t image;
    float cfg_scale;
    float temperature; /* 0: greedy */
    int top_k;         /* 0: off; ties with the k-th are kept */
    float top_p;       /* 1: off; after top-k. A token stays while the mass above it is at most top_p */
} sp_sampling;

/* One position: its scores (guided logits over temperature), and its Gumbel noise or the law of its draft. */
typedef struct sp_accept_row {
    const float *scores; /* [n_codes] */
    const float *noise;  /* [n_codes], NULL when greedy and for rules that record */
    sp_law *law;         /* NULL for rules that do not record */
} sp_accept_row;

enum { SP_MAX_GROUP = 256, SP_MAX_GUESSES = 15 };

/* What relaxed rules go by. */
typedef struct sp_relaxation {
    const float *codes; /* [n_codes, code_dim], of the codec */
    size_t code_dim;
    size_t group_size;       /* 1 .. SP_MAX_GROUP, the draft included */
    float group_delta;       /* a member's probability differs from the draft's by less */
    float group_distance;    /* the squared distance of the codes, scaled to length 1, is less */
    const int32_t *group_of; /* [n_codes] static groups; NULL: groups by rank, with the two limits above */
    size_t near;             /* nearest codes whose probability may count for a draft's, below n_codes */
    float near_delta;        /* they add at most this much, 0 to 1 */
    float near_lambda;       /* or at most near_lambda - 1 times the draft's own, from 1; 0: near_delta holds */
} sp_relaxation;

typedef struct sp_accept_window {
    size_t position; /* absolute, of row 0 */
    uint32_t pass;   /* passes of the picture before this one */
    size_t n_rows;   /* at least 1 */
    size_t n_drafts; /* n_rows or n_rows - 1 */
    size_t n_codes;
    const sp_accept_row *rows; /* [n_rows] */
    const int32_t *drafts;     /* [n_drafts] */
    int32_t *tokens;           /* [n_rows] out */
    const sp_sampling *sampling;
    const sp_relaxation *relaxation;
    const sp_ops *ops;
    float *scratch;            /* [n_codes] */
    double *deviation;         /* relaxed rules add |their chance to accept - the exact one| of each tested draft */
} sp_accept_window;

/* A window whose rows are the nodes of a tree of drafts, for rules that walk. Row 0 is the last final token; row j > 0
 * is a draft for the position of its parent's law, and has the law of the next position. Children of one row stand in
 * the order they were drawn in, without replacement, from its rows[j].law; at temperature 0 that law is a point, and
 * they are the likeliest of the drafter. */
typedef struct sp_accept_tree {
    const sp_accept_window *window; /* drafts and tokens are not used; scratch and the laws are used up */
    const int32_t *ids;             /* [n_rows] from 1 on */
    const int32_t *parents;         /* [n_rows] from 1 on, each below its row */
    int32_t *path;                  /* [n_rows] out: rows from 0 on, each the parent of the next */
    float *distance;                /* [n_codes] scratch, as order */
    int32_t *order;
} sp_accept_tree;

/* One line of acceptance.def. */
typedef struct sp_accept_ops {
    const char *name;
    const char *summary;
    const char *settings; /* options that only this rule and its like read, by name, separated by spaces; NULL: none */
    sp_exactness exactness;
    bool drafts;  /* false: the window is one row, nothing is drafted */
    bool records; /* rows come with the laws of their drafts instead of noise */
    /* *n_final is set to 1 .. n_rows. SP_EFORMAT when scores are not finite. */
    sp_status (*accept)(const sp_accept_window *window, size_t *n_final, sp_error *err);
    /* Other guesses for the first draft's position, each in a branch of its own beside the window (decode/frontier.h);
     * both NULL for rules without. guess: after accept, at most most guesses (up to SP_MAX_GUESSES) for the position of
     * row j besides its draft tokens[j], for a pass that starts there; returns how many. */
    size_t (*guess)(const sp_accept_window *window, size_t j, size_t most, int32_t *guess);
    /* The token of row 0: *chosen is 0 for its draft, 1 .. n for one of the guesses, n + 1 for none of them, and then
     * *token. The rows after it go to accept. */
    sp_status (*choose)(const sp_accept_window *window, const int32_t *guess, size_t n, size_t *chosen, int32_t *token,
                        sp_error *err);
    /* Instead of accept, for rules over trees: the drafts along path, n_path - 1 of them, and then token are final. */
    sp_status (*walk)(const sp_accept_tree *tree, size_t *n_path, int32_t *token, sp_error *err);
} sp_accept_ops;

/* NULL when there is no such rule. */
const sp_accept_ops *sp_accept_find(const char *name);
const sp_accept_ops *const *sp_accept_all(void); /* NULL at the end */

/* The token of row j: argmax of scores + noise within top-k and top-p (docs/rules/pathwise.md); at temperature 0 the
 * argmax of the scores. Exact and lazy: the sets are built only when the unrestricted winner is outside them.
 * SP_EFORMAT when a score is not a number. */
SP_CHECK sp_status sp_sample(const sp_accept_window *window, size_t j, int32_t *token, sp_error *err);

/* Fails with SP_EFORMAT: the scores of a position are not numbers. */
sp_status sp_sample_broken(size_t position, const sp_sampling *sampling, sp_error *err);

/* The smallest of scores [n_codes] that top-k and then top-p leave: the law of plain sampling is the softmax of the
 * scores at or above it. -INFINITY when both are off. Uses the window's sampling, n_codes and scratch. */
float sp_sample_threshold(const sp_accept_window *window, const float *scores);

/* The law that sp_sample draws row j from, into p [n_codes], which may be the window's scratch; at temperature 0 all of
 * it on one token. SP_EFORMAT when a score is not a number. */
SP_CHECK sp_status sp_sample_law(const sp_accept_window *window, size_t j, float *p, sp_error *err);

#endif
