/* Jacobi decoding with maximal coupling between passes (arXiv 2510.24211 and, as adaptive continuation, 2603.18599;
 * docs/rules/coupled.md): drafts after the first refused one are tested too, so that those whose law changed little
 * stay. */
#include "acceptance/verify.h"

extern const sp_accept_ops sp_accept_coupled;

static sp_status accept(const sp_accept_window *w, size_t *n_final, sp_error *err)
{
    return sp_verify_rows(w, sp_ratio_test, SP_AFTER_COUPLE, n_final, err);
}

/* Draws of guesses and of their tests at one position, apart from each other and from those of other passes. */
static double guess_uniform(const sp_accept_window *w, size_t j, size_t test, size_t index)
{
    return sp_uniform(w->sampling->seed, w->sampling->image, SP_DRAW_GUESS, (uint32_t)(w->position + j),
                      2 * (w->pass * (SP_MAX_GUESSES + 1) + (uint32_t)index) + (uint32_t)test);
}

/* More draws from the law of the draft, without replacement. */
static size_t guess(const sp_accept_window *w, size_t j, size_t most, int32_t *guesses)
{
    const float *law = w->rows[j].law->probability;
    float *left = w->scratch;
    double mass = 0;
    for (size_t v = 0; v < w->n_codes; v++) mass += (double)(left[v] = law[v]);
    int32_t drawn = w->tokens[j];
    for (size_t i = 0; i < most; i++) {
        mass -= (double)left[drawn];
        left[drawn] = 0;
        /* What rounding may leave of an empty law is not worth a row. */
        if (mass < 1e-4) return i;
        drawn = guesses[i] = sp_weights_draw(left, w->n_codes, guess_uniform(w, j, 0, i));
    }
    return most;
}

/* p becomes (p - q)+ and q loses x, both normalised: what the next guess is tested with. */
static void set_aside(float *p, float *q, size_t n, int32_t x)
{
    double p_left = 0, q_left = 0;
    for (size_t v = 0; v < n; v++) p_left += (double)sp_residual(p[v], q[v]);
    /* p = q but for rounding: it stays. */
    float *to = p_left > 0 ? p : NULL;
    for (size_t v = 0; v < n; v++) {
        if (to) to[v] = (float)((double)sp_residual(p[v], q[v]) / p_left);
        if ((int32_t)v != x) q_left += (double)q[v];
    }
    q[x] = 0;
    for (size_t v = 0; v < n && q_left > 0; v++) q[v] = (float)((double)q[v] / q_left);
}

/* Recursive rejection sampling without replacement over the draft and the guesses beside it. */
static sp_status choose(const sp_accept_window *w, const int32_t *guesses, size_t n, size_t *chosen, int32_t *token,
                        sp_error *err)
{
    float *p = w->scratch, *q = w->rows[0].law->probability;
    SP_TRY(sp_sample_law(w, 0, p, err));
    for (*chosen = 0; *chosen <= n; ++*chosen) {
        int32_t x = *chosen == 0 ? w->drafts[0] : guesses[*chosen - 1];
        if (sp_ratio_passes(guess_uniform(w, 0, 1, *chosen), (double)p[x], (double)q[x])) return SP_OK;
        set_aside(p, q, w->n_codes, x);
    }
    *token = sp_weights_draw(p, w->n_codes, sp_row_uniform(w, SP_DRAW_RESIDUAL, 0));
    return SP_OK;
}

const sp_accept_ops sp_accept_coupled = {
    .name = "coupled",
    .summary = "as sjd, but keeps the drafts after a refused one as far as a maximal coupling can",
    .settings = "tree",
    .exactness = SP_EXACT,
    .drafts = true,
    .records = true,
    .accept = accept,
    .guess = guess,
    .choose = choose,
};
