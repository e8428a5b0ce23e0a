#include <math.h>
#include <string.h>

#include "acceptance/accept.h"

static void swap(float *a, float *b)
{
    float keep = *a;
    *a = *b;
    *b = keep;
}

/* Splits x [n] around one of its values into larger | equal | smaller; returns the value. */
static float split(float *x, size_t n, size_t *n_larger, size_t *n_equal)
{
    float a = x[0], b = x[n / 2], c = x[n - 1];
    float pivot = fmaxf(fminf(a, b), fminf(fmaxf(a, b), c));
    size_t larger = 0, at = 0, smaller = n;
    while (at < smaller) {
        if (x[at] > pivot) swap(&x[larger++], &x[at++]);
        else if (x[at] < pivot) swap(&x[at], &x[--smaller]);
        else at++;
    }
    *n_larger = larger;
    *n_equal = smaller - larger;
    return pivot;
}

/* The k-th largest of x [n], 1 <= k <= n; x is reordered. */
static float rank_threshold(float *x, size_t n, size_t k)
{
    for (;;) {
        size_t larger, equal;
        float pivot = split(x, n, &larger, &equal);
        if (k <= larger) {
            n = larger;
        } else if (k <= larger + equal) {
            return pivot;
        } else {
            k -= larger + equal;
            x += larger + equal;
            n -= larger + equal;
        }
    }
}

static double mass(const float *x, size_t n, float top)
{
    double sum = 0;
    for (size_t i = 0; i < n; i++) sum += exp((double)(x[i] - top));
    return sum;
}

/* The smallest value of x [n] such that the values above it have at most the given mass; x is reordered. */
static float mass_threshold(float *x, size_t n, float top, double limit)
{
    double above = 0;
    float threshold = top;
    while (n > 0) {
        size_t larger, equal;
        float pivot = split(x, n, &larger, &equal);
        double larger_mass = mass(x, larger, top);
        if (above + larger_mass > limit) {
            n = larger;
            continue;
        }
        threshold = pivot;
        above += larger_mass + (double)equal * exp((double)(pivot - top));
        if (above > limit) break;
        x += larger + equal;
        n -= larger + equal;
    }
    return threshold;
}

/* Whether a score is in the top-k by its rank, and in the top-p of all codes by the mass above it. */
static bool inside(const float *scores, size_t n, float score, float top, size_t k, double p)
{
    size_t rank = 0;
    for (size_t i = 0; i < n; i++) rank += scores[i] > score;
    if (k && rank >= k) return false;
    if (p >= 1.0 || rank == 0) return true;
    double all = 0, above = 0;
    for (size_t i = 0; i < n; i++) {
        double weight = exp((double)(scores[i] - top));
        all += weight;
        if (scores[i] > score) above += weight;
    }
    return above <= p * all;
}

float sp_sample_threshold(const sp_accept_window *w, const float *scores)
{
    const sp_sampling *s = w->sampling;
    size_t n = w->n_codes, kept = n;
    float threshold = -INFINITY, top = -INFINITY;
    for (size_t i = 0; i < n; i++) {
        w->scratch[i] = scores[i];
        top = fmaxf(top, scores[i]);
    }
    if (s->top_k && (size_t)s->top_k < n) {
        threshold = rank_threshold(w->scratch, n, (size_t)s->top_k);
        kept = 0;
        for (size_t i = 0; i < n; i++)
            if (scores[i] >= threshold) w->scratch[kept++] = scores[i];
    }
    if (s->top_p < 1.0f) {
        double limit = (double)s->top_p * mass(w->scratch, kept, top);
        threshold = fmaxf(threshold, mass_threshold(w->scratch, kept, top, limit));
    }
    return threshold;
}

sp_status sp_sample_broken(size_t position, const sp_sampling *s, sp_error *err)
{
    return SP_FAIL(err, SP_EFORMAT,
                   "model: the scores of position %zu are not numbers: the weights are damaged, or "
                   "--cfg-scale %g is too large", position, (double)s->cfg_scale);
}

sp_status sp_sample(const sp_accept_window *w, size_t j, int32_t *token, sp_error *err)
{
    const sp_sampling *s = w->sampling;
    const float *scores = w->rows[j].scores, *noise = s->temperature > 0 ? w->rows[j].noise : NULL;
    size_t n = w->n_codes;
    *token = w->ops->argmax(scores, noise, n);
    if (*token < 0) return sp_sample_broken(w->position + j, s, err);
    bool ranked = s->top_k && (size_t)s->top_k < n, massed = s->top_p < 1.0f;
    if (!noise || (!ranked && !massed)) return SP_OK;
    float top = scores[w->ops->argmax(scores, NULL, n)];
    /* With both sets the mass is that of the top-k, which only the full path knows. */
    if (!(ranked && massed) &&
        inside(scores, n, scores[*token], top, ranked ? (size_t)s->top_k : 0, (double)s->top_p))
        return SP_OK;
    float threshold = sp_sample_threshold(w, scores), best = -INFINITY;
    for (size_t i = 0; i < n; i++) {
        if (scores[i] >= threshold && scores[i] + noise[i] > best) {
            best = scores[i] + noise[i];
            *token = (int32_t)i;
        }
    }
    return SP_OK;
}

sp_status sp_sample_law(const sp_accept_window *w, size_t j, float *p, sp_error *err)
{
    const sp_sampling *s = w->sampling;
    const float *scores = w->rows[j].scores;
    int32_t likeliest = w->ops->argmax(scores, NULL, w->n_codes);
    if (likeliest < 0) return sp_sample_broken(w->position + j, s, err);
    float top = scores[likeliest];
    /* A temperature near 0 takes scores beyond the range of float: their differences are greedy too. */
    if (s->temperature <= 0 || !isfinite(top)) {
        memset(p, 0, w->n_codes * sizeof *p);
        p[likeliest] = 1;
        return SP_OK;
    }
    bool cut = (s->top_k && (size_t)s->top_k < w->n_codes) || s->top_p < 1.0f;
    w->ops->softmax(scores, top, cut ? sp_sample_threshold(w, scores) : -INFINITY, w->n_codes, p);
    return SP_OK;
}
