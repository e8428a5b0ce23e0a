#ifndef SP_ENUMERABLE_H
#define SP_ENUMERABLE_H
/* A model small enough to count every outcome: V codes, N positions, one random logit vector a prefix node
 * (uniform in +-2.4), run through the production loop. The exact law of each sequence is computed here, apart from the
 * code under test. */
#include "decode/decode.h"
#include "support.h"

enum { SP_ENUM_CODES = 4, SP_ENUM_POSITIONS = 5, SP_ENUM_OUTCOMES = 1024, SP_ENUM_WINDOW = 128 };

typedef struct sp_enumerable {
    int32_t history[SP_ENUM_POSITIONS];  /* tokens fed so far */
    int32_t window[SP_ENUM_WINDOW];      /* of the last forward call */
    bool guided;
} sp_enumerable;

/* Logit of a code after the first n tokens; stream 1 is the unconditional law. */
static inline float sp_enum_logit(const int32_t *tokens, size_t n, int32_t code, uint32_t stream)
{
    size_t node = 1;
    for (size_t i = 0; i < n; i++) node = node * SP_ENUM_CODES + (size_t)tokens[i];
    return 2.4f * sp_test_value(1000 + stream, node * SP_ENUM_CODES + (size_t)code);
}

/* The one number that the model knows of the first n tokens. */
static inline float sp_enum_feature(const int32_t *tokens, size_t n, uint32_t stream)
{
    return sp_enum_logit(tokens, n, 0, 4 + stream);
}

static inline sp_status sp_enum_begin(void *state, const sp_model_prompt *prompt, bool guided, float *features,
                                      sp_error *err)
{
    (void)prompt, (void)features, (void)err;
    ((sp_enumerable *)state)->guided = guided;
    return SP_OK;
}

/* The tokens before the law of row j: the history, then the row's own branch. Returns how many. */
static inline size_t sp_enum_past(const sp_enumerable *m, const sp_model_window *w, size_t j, int32_t *tokens)
{
    size_t depth = 0, at = j;
    for (; at > 0; at = w->parents ? (size_t)w->parents[at] : at - 1) depth++;
    size_t n = w->first + depth;
    for (size_t i = 0; i < w->first; i++) tokens[i] = m->history[i];
    for (at = j; at > 0; at = w->parents ? (size_t)w->parents[at] : at - 1) tokens[w->first - 1 + depth--] = w->ids[at];
    if (w->first > 0) tokens[w->first - 1] = w->ids[0];
    return n;
}

static inline sp_status sp_enum_forward(void *state, const sp_model_window *w, sp_error *err)
{
    sp_enumerable *m = state;
    (void)err;
    for (size_t j = 0; j < w->n; j++) {
        int32_t past[SP_ENUM_POSITIONS];
        size_t n = sp_enum_past(m, w, j, past);
        m->window[j] = w->ids[j];
        for (uint32_t stream = 0; stream < (m->guided ? 2u : 1u); stream++) {
            for (int32_t code = 0; code < SP_ENUM_CODES; code++)
                w->logits[(stream * w->n + j) * SP_ENUM_CODES + (size_t)code] = sp_enum_logit(past, n, code, stream);
            if (w->features) w->features[stream * w->n + j] = sp_enum_feature(past, n, stream);
        }
    }
    for (size_t j = 0; j < w->n && (j == 0 || !w->parents); j++)
        if (w->first + j > 0) m->history[w->first + j - 1] = w->ids[j];
    return SP_OK;
}

static inline sp_status sp_enum_keep(void *state, size_t first, const int32_t *path, size_t n, sp_error *err)
{
    sp_enumerable *m = state;
    (void)err;
    for (size_t i = first == 0; i < n; i++) m->history[first + i - 1] = m->window[path[i]];
    return SP_OK;
}

static inline sp_model sp_enum_model(sp_enumerable *state)
{
    static const sp_model_ops ops = {sp_enum_begin, sp_enum_forward, sp_enum_keep};
    return (sp_model){&ops, state, SP_ENUM_CODES, 1, SP_ENUM_POSITIONS, 1, 1};
}

/* Softmax of scores: top-k with ties, top-p on the rest, by the definitions. */
static inline void sp_enum_cut(const double score[SP_ENUM_CODES], const sp_sampling *s, double law[SP_ENUM_CODES])
{
    double total = 0;
    for (int v = 0; v < SP_ENUM_CODES; v++) {
        int rank = 0;
        for (int w = 0; w < SP_ENUM_CODES; w++) rank += score[w] > score[v];
        law[v] = s->top_k && rank >= s->top_k ? 0 : exp(score[v]);
        total += law[v];
    }
    double kept = 0, cut[SP_ENUM_CODES];
    for (int v = 0; v < SP_ENUM_CODES; v++) {
        double above = 0;
        for (int w = 0; w < SP_ENUM_CODES; w++) above += score[w] > score[v] ? law[w] : 0;
        cut[v] = above <= (double)s->top_p * total ? law[v] : 0;
        kept += cut[v];
    }
    for (int v = 0; v < SP_ENUM_CODES; v++) law[v] = cut[v] / kept;
}

/* Law of the next code: guidance, temperature, then the cut. */
static inline void sp_enum_law(const int32_t *tokens, size_t n, const sp_sampling *s, double law[SP_ENUM_CODES])
{
    double score[SP_ENUM_CODES];
    for (int32_t v = 0; v < SP_ENUM_CODES; v++) {
        double c = (double)sp_enum_logit(tokens, n, v, 0), u = (double)sp_enum_logit(tokens, n, v, 1);
        score[v] = (u + (double)s->cfg_scale * (c - u)) / (double)s->temperature;
    }
    sp_enum_cut(score, s, law);
}

static inline void sp_enum_laws(const sp_sampling *s, double law[SP_ENUM_OUTCOMES])
{
    for (int outcome = 0; outcome < SP_ENUM_OUTCOMES; outcome++) {
        int32_t tokens[SP_ENUM_POSITIONS];
        law[outcome] = 1;
        for (int i = 0, rest = outcome; i < SP_ENUM_POSITIONS; i++,
             rest /= SP_ENUM_CODES) tokens[i] = rest % SP_ENUM_CODES;
        for (size_t i = 0; i < SP_ENUM_POSITIONS; i++) {
            double next[SP_ENUM_CODES];
            sp_enum_law(tokens, i, s, next);
            law[outcome] *= next[tokens[i]];
        }
    }
}

static inline int sp_enum_outcome(const int32_t *tokens)
{
    int outcome = 0;
    for (int i = SP_ENUM_POSITIONS - 1; i >= 0; i--) outcome = outcome * SP_ENUM_CODES + tokens[i];
    return outcome;
}

/* (X2 - dof) / sqrt(2 dof) of counts against a law; outcomes expected fewer than 10 times share one cell. *outside is
 * how many runs fell where the law is zero. */
static inline double sp_enum_chi_square(const double *law, const uint32_t *count, double runs, uint32_t *outside)
{
    double x2 = 0, pooled = 0, seen = 0;
    int cells = 0;
    *outside = 0;
    for (int i = 0; i < SP_ENUM_OUTCOMES; i++) {
        double expected = law[i] * runs;
        if (law[i] == 0) *outside += count[i];
        if (expected < 10) {
            pooled += expected;
            seen += count[i];
        } else {
            x2 += (count[i] - expected) * (count[i] - expected) / expected;
            cells++;
        }
    }
    if (pooled > 10) {
        x2 += (seen - pooled) * (seen - pooled) / pooled;
        cells++;
    }
    double dof = cells - 1;
    return (x2 - dof) / sqrt(2 * dof);
}

#endif
