/* Mirror-coupled Jacobi decoding (docs/rules/mirror.md): the chain of a drafted position runs again under the new
 * condition, coupled with the last one by reflection, and its draft stands when the two end in the same bits. */
#include "acceptance/chain.h"

extern const sp_chain_ops sp_chain_mirror;

/* Without a density there is nothing to compare: the noise is shared. */
static bool degenerate(size_t dim, const float *a, const float *b)
{
    for (size_t j = 0; j < dim; j++)
        if (!(a[j] > 0) || !(b[j] > 0)) return true;
    return false;
}

static void couple(const sp_chain_draw *draw, size_t k, size_t dim, const float *mean, const float *deviation,
                   const sp_chain_path *path)
{
    sp_whitened w[SP_MAX_LATENT];
    double xi[SP_MAX_LATENT], delta[SP_MAX_LATENT], factor = 0;
    float excess[SP_MAX_LATENT];
    bool shared = degenerate(dim, path->deviation, deviation), met = false;
    if (!shared) {
        bool equal = memcmp(path->deviation, deviation, dim * sizeof *deviation) == 0;
        if (!equal) sp_chain_fresh(draw, SP_DRAW_FRESH, k, dim, excess);
        for (size_t j = 0; j < dim; j++) {
            w[j] = sp_whiten(path->mean[j], path->deviation[j], path->noise[j], mean[j], deviation[j],
                             equal ? 0.0f : excess[j]);
            xi[j] = w[j].xi;
            delta[j] = w[j].delta;
        }
        double log_u = sp_chain_log_uniform(draw, SP_DRAW_COUPLE, draw->pass << 10 | (uint32_t)k);
        met = sp_mirror_meets(log_u, dim, xi, delta, &factor);
    }
    for (size_t j = 0; j < dim; j++) {
        double z = shared ? 0 : xi[j] + factor * delta[j];
        if (!shared) path->noise[j] = sp_whitened_noise(w[j], deviation[j], z);
        if (shared) path->state[j] = sp_chain_move(mean[j], deviation[j], path->noise[j]);
        else if (!met) path->state[j] = sp_whitened_state(w[j], mean[j], z);
        path->mean[j] = mean[j];
        path->deviation[j] = deviation[j];
    }
}

/* Distance of two means in deviations; infinite when a number of them has none and they differ. */
static double gap_between(size_t dim, const float *a, const float *b, const float *deviation)
{
    double square = 0;
    for (size_t j = 0; j < dim; j++) {
        double d = (double)a[j] - (double)b[j];
        if (d != 0) square += d * d / ((double)deviation[j] * (double)deviation[j]);
    }
    return sqrt(square);
}

/* A state from (H p - q)+, normalised: along the line through the two means its one-dimensional law, fresh noise across
 * it. noise is that of the pass. */
static void residual(const sp_chain_draw *draw, double log_h, double gap, size_t dim, const float *p_mean,
                     const sp_chain_path *step, const float *noise)
{
    double along = 0, u = 0;
    bool apart = !(gap > 0 && gap < INFINITY);
    for (size_t j = 0; j < dim && !apart; j++)
        along += ((double)p_mean[j] - (double)step->mean[j]) / (double)step->deviation[j] / gap * (double)noise[j];
    if (!apart) {
        double share = sp_uniform(draw->seed, draw->image, SP_DRAW_RESIDUAL, draw->position, draw->pass);
        u = sp_block_draw(log_h, gap, share + 0x1p-54);
    }
    for (size_t j = 0; j < dim; j++) {
        double s = (double)step->deviation[j], d = (double)p_mean[j] - (double)step->mean[j];
        if (apart) step->state[j] = sp_chain_move(p_mean[j], step->deviation[j], noise[j]);
        else step->state[j] = (float)((double)step->mean[j] + s * (double)noise[j] + (u - along) * d / gap);
    }
}

static sp_chain_path step_of(const sp_chain_path *path, size_t k, size_t dim)
{
    return (sp_chain_path){path->state + k * dim, path->mean + k * dim, path->deviation + k * dim,
                           path->noise + k * dim};
}

static size_t front(const sp_chain_draw *draw, size_t n_steps, size_t dim, const float *means,
                    const sp_chain_path *path)
{
    size_t stays = 0;
    double log_h = 0, log_h_there = 0, gap_there = 0;
    for (size_t k = 0; k <= n_steps; k++) {
        const float *p_mean = means + k * dim;
        sp_chain_path step = step_of(path, k, dim);
        double gap = k < n_steps ? gap_between(dim, p_mean, step.mean, step.deviation) : 0;
        double allowed = k < n_steps ? sp_block_allows(log_h, gap) : exp(log_h);
        /* Staying for no step is always allowed. */
        uint32_t at = draw->pass << 10 | (uint32_t)(k > 0 ? k - 1 : 0);
        if (k == 0 || sp_chain_log_uniform(draw, SP_DRAW_COUPLE, at) <= log(allowed)) {
            stays = k;
            log_h_there = log_h;
            gap_there = gap;
        }
        if (k == n_steps) break;
        double ratio = gap > 0 ? sp_log_ratio(dim, step.state, p_mean, step.deviation, step.mean, step.deviation) : 0;
        log_h = sp_block_extend(log_h, ratio);
    }
    if (stays == n_steps) return stays;
    for (size_t k = stays; k < n_steps; k++) sp_chain_fresh(draw, SP_DRAW_FRESH, k, dim, path->noise + k * dim);
    sp_chain_path step = step_of(path, stays, dim);
    residual(draw, log_h_there, gap_there, dim, means + stays * dim, &step, step.noise);
    return stays;
}

const sp_chain_ops sp_chain_mirror = {
    .name = "mirror",
    .summary = "drafts by itself; a chain run again and coupled with its last one ends where that ended, or differs",
    .settings = "front",
    .exactness = SP_EXACT,
    .drafts = true,
    .compares = true,
    .reflects = true,
    .couple = couple,
    .front = front,
    .commit = sp_commit_first_change,
};
