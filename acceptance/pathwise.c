/* Pathwise Jacobi decoding (docs/rules/pathwise.md): the noise g of a position is a function of the seed, so the token
 * y_j = argmax_v (log p_j(v) + g_j(v)) is a function of the tokens before it. Row j is final when every draft before it
 * equals its y; y at the first mismatch is final too, and the y after it are the next drafts.
 *
 * With x* the sequence plain decoding gives for this seed: rows 0 .. n_final - 1 see x* before them, so their y are x*
 * by induction, whatever the drafts were. */
#include "acceptance/accept.h"

extern const sp_accept_ops sp_accept_pathwise;

static sp_status accept(const sp_accept_window *w, size_t *n_final, sp_error *err)
{
    bool matching = true;
    for (size_t j = 0; j < w->n_rows; j++) {
        SP_TRY(sp_sample(w, j, &w->tokens[j], err));
        if (!matching) continue;
        *n_final = j + 1;
        matching = j < w->n_drafts && sp_equality_passes(w->drafts[j], w->tokens[j]);
    }
    return SP_OK;
}

/* The runners-up of scores and noise: the row's past may have been wrong, and then they may be right. */
static size_t guess(const sp_accept_window *w, size_t j, size_t most, int32_t *guesses)
{
    const float *scores = w->rows[j].scores, *noise = w->rows[j].noise;
    const sp_sampling *s = w->sampling;
    float best[SP_MAX_GUESSES];
    bool cut = (s->top_k && (size_t)s->top_k < w->n_codes) || s->top_p < 1.0f;
    float threshold = noise && cut ? sp_sample_threshold(w, scores) : -INFINITY;
    size_t n = 0;
    for (int32_t v = 0; (size_t)v < w->n_codes; v++) {
        float value = noise ? scores[v] + noise[v] : scores[v];
        if (v == w->tokens[j] || scores[v] < threshold || (n == most && value <= best[n - 1])) continue;
        size_t at = n < most ? n++ : n - 1;
        for (; at > 0 && best[at - 1] < value; at--) {
            best[at] = best[at - 1];
            guesses[at] = guesses[at - 1];
        }
        best[at] = value;
        guesses[at] = v;
    }
    return n;
}

static sp_status choose(const sp_accept_window *w, const int32_t *guesses, size_t n, size_t *chosen, int32_t *token,
                        sp_error *err)
{
    SP_TRY(sp_sample(w, 0, token, err));
    *chosen = 0;
    if (sp_equality_passes(w->drafts[0], *token)) return SP_OK;
    while (++*chosen <= n)
        if (sp_equality_passes(guesses[*chosen - 1], *token)) break;
    return SP_OK;
}

const sp_accept_ops sp_accept_pathwise = {
    .name = "pathwise",
    .summary = "checks drafts by equality with the seed's own sample: the picture of ar, in fewer passes",
    .settings = "tree",
    .exactness = SP_IDENTICAL,
    .drafts = true,
    .accept = accept,
    .guess = guess,
    .choose = choose,
};
