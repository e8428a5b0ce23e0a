#include "acceptance/verify.h"

#include <string.h>

/* Codes whose weights are summed at once. */
enum { BLOCK = 64, SUMS = 8 };

/* In eight sums: one would wait for itself at every addition. */
static double block_sum(const float *weights, size_t n)
{
    double sum[SUMS] = {0};
    size_t i = 0;
    for (; i + SUMS <= n; i += SUMS)
        for (size_t s = 0; s < SUMS; s++) sum[s] += (double)weights[i + s];
    for (; i < n; i++) sum[0] += (double)weights[i];
    return ((sum[0] + sum[1]) + (sum[2] + sum[3])) + ((sum[4] + sum[5]) + (sum[6] + sum[7]));
}

int32_t sp_weights_draw(const float *weights, size_t n, double u)
{
    double total = 0;
    for (size_t start = 0; start < n; start += BLOCK)
        total += block_sum(weights + start, n - start < BLOCK ? n - start : BLOCK);
    double rest = u * total;
    for (size_t start = 0; start < n; start += BLOCK) {
        size_t end = n - start < BLOCK ? n : start + BLOCK;
        double sum = block_sum(weights + start, end - start);
        if (rest >= sum) {
            rest -= sum;
            continue;
        }
        for (size_t i = start; i < end; i++) {
            if (rest < (double)weights[i]) return (int32_t)i;
            rest -= (double)weights[i];
        }
        /* Sums in another order: what is left by rounding goes to the next code with weight. */
        rest = 0;
    }
    size_t last = n - 1;
    while (last > 0 && weights[last] <= 0) last--;
    return (int32_t)last;
}

double sp_row_uniform(const sp_accept_window *w, sp_draw_purpose purpose, size_t j)
{
    return sp_uniform(w->sampling->seed, w->sampling->image, purpose, (uint32_t)(w->position + j), w->pass);
}

bool sp_ratio_test(const sp_accept_window *w, size_t j, const float *p)
{
    int32_t draft = w->drafts[j];
    double q = (double)sp_law_at(w->rows[j].law, draft, w->n_codes, draft);
    return sp_ratio_passes(sp_row_uniform(w, SP_DRAW_ACCEPT, j), (double)p[draft], q);
}

int32_t sp_residual_draw(const sp_accept_window *w, size_t j, const float *p)
{
    const sp_law *law = w->rows[j].law;
    float *weights = law->probability; /* q is overwritten code by code, as it is read */
    bool any = false;
    for (size_t v = 0; v < w->n_codes; v++) {
        weights[v] = sp_residual(p[v], sp_law_at(law, w->drafts[j], w->n_codes, (int32_t)v));
        any |= weights[v] > 0;
    }
    /* p <= q everywhere means p = q but for rounding, and then nothing is refused but by rounding. */
    return sp_weights_draw(any ? weights : p, w->n_codes, sp_row_uniform(w, SP_DRAW_RESIDUAL, j));
}

void sp_row_record(const sp_accept_window *w, size_t j, const float *p)
{
    sp_law *law = w->rows[j].law;
    law->kind = SP_LAW_ROW;
    memcpy(law->probability, p, w->n_codes * sizeof *p);
}

sp_status sp_verify_rows(const sp_accept_window *w, sp_draft_test *test, sp_after after, size_t *n_final, sp_error *err)
{
    bool passing = true;
    float *p = w->scratch;
    for (size_t j = 0; j < w->n_rows; j++) {
        SP_TRY(sp_sample_law(w, j, p, err));
        bool tested = j < w->n_drafts && (passing || after == SP_AFTER_COUPLE);
        bool passed = tested && test(w, j, p);
        if (passed) w->tokens[j] = w->drafts[j];
        else if (tested) w->tokens[j] = sp_residual_draw(w, j, p);
        else w->tokens[j] = sp_weights_draw(p, w->n_codes, sp_row_uniform(w, SP_DRAW_REDRAFT, j));
        if (passing) *n_final = j + 1;
        passing = passing && passed;
        /* Whether the draft was kept or replaced, the token has law p given the tokens before it. */
        sp_row_record(w, j, p);
    }
    return SP_OK;
}
