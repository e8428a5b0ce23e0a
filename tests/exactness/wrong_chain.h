#ifndef SP_WRONG_CHAIN_H
#define SP_WRONG_CHAIN_H
/* Wrong ways to couple chains, to test paths and to decide about drafts, built from the parts of the right ones. Each
 * must be caught. */
#include "chain_trial.h"

extern const sp_chain_ops sp_chain_ar, sp_chain_mirror, sp_chain_cspd, sp_chain_cspd_released;

typedef void coupling(const sp_chain_draw *, size_t, size_t, const float *, const float *, const sp_chain_path *);
typedef size_t front_test(const sp_chain_draw *, size_t, size_t, const float *, const sp_chain_path *);
typedef bool verifying(const sp_chain_draw *, const sp_chain_settings *, size_t, const sp_chain_check *);

/* ---- couplings, of equal deviations unless they say so */

typedef struct wrong_step {
    double xi[TOY_DIM], delta[TOY_DIM], z[TOY_DIM], log_ratio;
    bool met;
    float fresh[TOY_DIM];
} wrong_step;

static inline wrong_step wrong_look(const sp_chain_draw *draw, size_t k, size_t dim, const float *mean,
                                    const float *deviation, const sp_chain_path *path)
{
    wrong_step w = {.log_ratio = 0};
    for (size_t j = 0; j < dim; j++) {
        w.xi[j] = (double)path->noise[j];
        w.delta[j] = ((double)path->mean[j] - (double)mean[j]) / (double)deviation[j];
        w.log_ratio -= w.delta[j] * (w.xi[j] + 0.5 * w.delta[j]);
    }
    uint32_t at = draw->pass << 10 | (uint32_t)k;
    w.met = sp_mirror(sp_chain_log_uniform(draw, SP_DRAW_COUPLE, at), dim, w.xi, w.delta, w.z);
    sp_chain_fresh(draw, SP_DRAW_FRESH, k, dim, w.fresh);
    return w;
}

/* The step goes on with this noise, or with the state it had. */
static inline void wrong_put(size_t dim, const float *mean, const float *deviation, const double *z, bool met,
                             const sp_chain_path *path)
{
    for (size_t j = 0; j < dim; j++) {
        path->noise[j] = (float)z[j];
        if (!met) path->state[j] = sp_chain_move(mean[j], deviation[j], path->noise[j]);
        path->mean[j] = mean[j];
        path->deviation[j] = deviation[j];
    }
}

static inline void put_fresh(size_t dim, const float *mean, const float *deviation, const wrong_step *w,
                             const sp_chain_path *path)
{
    double z[TOY_DIM];
    for (size_t j = 0; j < dim; j++) z[j] = (double)w->fresh[j];
    wrong_put(dim, mean, deviation, z, false, path);
}

#define WRONG_COUPLING(name)                                                                                       \
    static inline void name(const sp_chain_draw *draw, size_t k, size_t dim, const float *mean,                    \
                            const float *deviation, const sp_chain_path *path)

/* A chain that has to move is drawn from p instead of the residual. */
WRONG_COUPLING(moves_by_p)
{
    wrong_step w = wrong_look(draw, k, dim, mean, deviation, path);
    if (w.met) wrong_put(dim, mean, deviation, w.z, true, path);
    else put_fresh(dim, mean, deviation, &w, path);
}

/* A state stays when its own ratio is high, without a coin, and is drawn anew otherwise. */
WRONG_COUPLING(keeps_high_ratios)
{
    wrong_step w = wrong_look(draw, k, dim, mean, deviation, path);
    if (w.log_ratio > -0.3) {
        for (size_t j = 0; j < dim; j++) w.z[j] = w.xi[j] + w.delta[j];
        wrong_put(dim, mean, deviation, w.z, true, path);
    } else {
        put_fresh(dim, mean, deviation, &w, path);
    }
}

/* The record keeps the noise of a state that stayed, although its mean moved. */
WRONG_COUPLING(keeps_old_noise)
{
    wrong_step w = wrong_look(draw, k, dim, mean, deviation, path);
    wrong_put(dim, mean, deviation, w.met ? w.xi : w.z, w.met, path);
}

/* The record keeps the mean of the first chain. */
WRONG_COUPLING(keeps_old_mean)
{
    wrong_step w = wrong_look(draw, k, dim, mean, deviation, path);
    float old[TOY_DIM];
    memcpy(old, path->mean, dim * sizeof *old);
    wrong_put(dim, mean, deviation, w.z, w.met, path);
    memcpy(path->mean, old, dim * sizeof *old);
}

/* The noise is not reflected: states that do not meet share it. */
WRONG_COUPLING(shares_noise_unreflected)
{
    wrong_step w = wrong_look(draw, k, dim, mean, deviation, path);
    wrong_put(dim, mean, deviation, w.met ? w.z : w.xi, w.met, path);
}

/* The coin of the first pass is used in every pass. */
WRONG_COUPLING(tosses_one_coin)
{
    sp_chain_draw first = *draw;
    first.pass = 0;
    sp_chain_mirror.couple(&first, k, dim, mean, deviation, path);
}

/* Both laws are taken to have the new deviation. Of unequal deviations. */
WRONG_COUPLING(ignores_old_deviation)
{
    wrong_step w = wrong_look(draw, k, dim, mean, deviation, path);
    wrong_put(dim, mean, deviation, w.z, w.met, path);
}

/* Right, but slow: what is across the distance is drawn anew. */
WRONG_COUPLING(redraws_across)
{
    wrong_step w = wrong_look(draw, k, dim, mean, deviation, path);
    if (w.met) {
        wrong_put(dim, mean, deviation, w.z, true, path);
        return;
    }
    double square = 0, along = 0, z[TOY_DIM];
    for (size_t j = 0; j < dim; j++) {
        square += w.delta[j] * w.delta[j];
        along += w.delta[j] * (w.z[j] - (double)w.fresh[j]);
    }
    for (size_t j = 0; j < dim; j++) z[j] = (double)w.fresh[j] + along / square * w.delta[j];
    wrong_put(dim, mean, deviation, z, false, path);
}

/* ---- path tests at the front */

#define WRONG_FRONT(name)                                                                                          \
    static inline size_t name(const sp_chain_draw *draw, size_t n_steps, size_t dim, const float *means,           \
                              const sp_chain_path *path)

/* The steps after the residual go on with the noise that the test has looked at. */
WRONG_FRONT(reuses_noise)
{
    float noise[TOY_STEPS * TOY_DIM];
    memcpy(noise, path->noise, n_steps * dim * sizeof *noise);
    size_t stays = sp_chain_mirror.front(draw, n_steps, dim, means, path);
    memcpy(path->noise, noise, n_steps * dim * sizeof *noise);
    return stays;
}

/* The next state is drawn from p instead of (H p - q)+. */
WRONG_FRONT(goes_on_by_p)
{
    size_t stays = sp_chain_mirror.front(draw, n_steps, dim, means, path);
    for (size_t j = 0; stays < n_steps && j < dim; j++) {
        size_t at = stays * dim + j;
        path->state[at] = sp_chain_move(means[at], path->deviation[at], path->noise[at]);
    }
    return stays;
}

/* The whole path is tested by its ratio at once, and a refused one is drawn from p. */
WRONG_FRONT(draws_refused_paths_from_p)
{
    double ratio = 0;
    for (size_t k = 0; k < n_steps; k++)
        ratio += sp_log_ratio(dim, path->state + k * dim, means + k * dim, path->deviation + k * dim,
                              path->mean + k * dim, path->deviation + k * dim);
    if (sp_chain_log_uniform(draw, SP_DRAW_COUPLE, draw->pass << 10) <= ratio) return n_steps;
    for (size_t k = 0; k < n_steps; k++) sp_chain_fresh(draw, SP_DRAW_FRESH, k, dim, path->noise + k * dim);
    for (size_t j = 0; j < dim; j++) path->state[j] = sp_chain_move(means[j], path->deviation[j], path->noise[j]);
    return 0;
}

/* A path stays as long as no coin falls the other way, without looking at the lengths beyond. */
WRONG_FRONT(stops_at_first_refusal)
{
    double log_h = 0;
    size_t stays = 0;
    for (; stays < n_steps; stays++) {
        size_t at = stays * dim;
        log_h = sp_block_extend(log_h, sp_log_ratio(dim, path->state + at, means + at, path->deviation + at,
                                                    path->mean + at, path->deviation + at));
        uint32_t coin = draw->pass << 10 | (uint32_t)stays;
        if (sp_chain_log_uniform(draw, SP_DRAW_COUPLE, coin) > log_h) break;
    }
    for (size_t k = stays; k < n_steps; k++) sp_chain_fresh(draw, SP_DRAW_FRESH, k, dim, path->noise + k * dim);
    for (size_t j = 0; stays < n_steps && j < dim; j++) {
        size_t at = stays * dim + j;
        path->state[at] = sp_chain_move(means[at], path->deviation[at], path->noise[at]);
    }
    return stays;
}

/* ---- decisions about the drafts of a second model */

#define WRONG_VERIFY(name)                                                                                         \
    static inline bool name(const sp_chain_draw *draw, const sp_chain_settings *settings, size_t dim,              \
                            const sp_chain_check *check)

/* sum over the earlier steps of log deviation of q - log deviation of p, summed over the numbers too: set by a test. */
static double wrong_log_sigma;

static inline double check_ratio(size_t dim, const sp_chain_check *c, const float *x)
{
    return sp_log_ratio(dim, x, c->p_mean, c->p_deviation, c->q_mean, c->q_deviation);
}

static inline void put_own(size_t dim, const sp_chain_check *c) { memcpy(c->draft, c->own, dim * sizeof(float)); }

/* A refused draft is replaced by the target's own token, a draw from p. */
WRONG_VERIFY(replaces_by_p)
{
    (void)settings;
    if (sp_chain_log_uniform(draw, SP_DRAW_ACCEPT, 0) <= check_ratio(dim, check, check->draft)) return true;
    put_own(dim, check);
    return false;
}

/* Drafts stay when their ratio is high. */
WRONG_VERIFY(keeps_likely_drafts)
{
    (void)settings;
    if (check_ratio(dim, check, check->draft) > -0.3) return true;
    sp_chain_residual(draw, dim, check);
    return false;
}

/* Tries from (w p - q)+ as the published program: a hundred, then zeros. */
static inline void bounded_residual(const sp_chain_draw *draw, size_t dim, double log_weight, const sp_chain_check *c)
{
    float noise[TOY_DIM];
    for (uint32_t i = 0; i < 100; i++) {
        sp_normals(draw->seed, draw->image, draw->position, SP_DRAW_FRESH, i << 6, dim, noise);
        for (size_t j = 0; j < dim; j++) c->draft[j] = sp_chain_move(c->p_mean[j], c->p_deviation[j], noise[j]);
        double u = sp_uniform(draw->seed, draw->image, SP_DRAW_RESIDUAL, draw->position, i);
        if (u < 1 - exp(-check_ratio(dim, c, c->draft) - log_weight)) return;
    }
    for (size_t j = 0; j < dim; j++) c->draft[j] = 0;
}

/* The published formula: the ratio of the last steps times that of all earlier deviations. */
WRONG_VERIFY(weighs_by_sigma)
{
    (void)settings;
    double ratio = wrong_log_sigma + check_ratio(dim, check, check->draft);
    if (sp_chain_log_uniform(draw, SP_DRAW_ACCEPT, 0) <= ratio) return true;
    bounded_residual(draw, dim, wrong_log_sigma, check);
    return false;
}

/* The published program: the weight inverted, distances divided by 42. */
WRONG_VERIFY(weighs_by_inverse_sigma)
{
    (void)settings;
    double ratio = -wrong_log_sigma;
    for (size_t j = 0; j < dim; j++) {
        double p = ((double)check->draft[j] - (double)check->p_mean[j]) / (double)check->p_deviation[j] / 42;
        double q = ((double)check->draft[j] - (double)check->q_mean[j]) / (double)check->q_deviation[j] / 42;
        ratio += 0.5 * (q * q - p * p) + log((double)check->q_deviation[j] / (double)check->p_deviation[j]);
    }
    if (sp_chain_log_uniform(draw, SP_DRAW_ACCEPT, 0) <= ratio) return true;
    bounded_residual(draw, dim, -wrong_log_sigma, check);
    return false;
}

/* The draft's last step adds no noise, and its deviation is used as if it did. */
WRONG_VERIFY(drafts_at_the_mode)
{
    for (size_t j = 0; j < dim; j++) check->draft[j] = check->q_mean[j];
    return sp_chain_cspd.verify(draw, settings, dim, check);
}

#endif
