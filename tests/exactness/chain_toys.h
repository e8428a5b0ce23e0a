#ifndef SP_CHAIN_TOYS_H
#define SP_CHAIN_TOYS_H
/* Causal models of continuous tokens with known denoisers: a token is a mixture of two Gaussians around a centre that
 * follows from the two tokens before it. The chains are run here once more, apart from the code under test, with the
 * library's exp and log. */
#include <stdatomic.h>

#include "decode/chain.h"
#include "support.h"

enum { TOY_DIM = 16, TOY_STEPS = 100, TOY_POSITIONS = 12, TOY_WINDOW = 24 };

/* What a condition comes to. */
typedef struct toy_condition {
    double centre[TOY_DIM];
    double fraction;       /* of the way from the lowest log deviation to the highest */
    double (*error)[TOY_DIM]; /* of the head in each step, in units of noise; NULL: none */
} toy_condition;

/* Step k: x is the denoised token of y = alpha x + sigma e; mean = of_token x + of_state y. */
typedef struct toy_step {
    double alpha, sigma, of_token, of_state, low, high;
} toy_step;

typedef struct toy {
    size_t dim, n_steps, n_positions;
    double spread, tau, weight; /* half the distance of the components, their deviation, the share of the first */
    double pull;                /* how strongly a token follows those before it */
    double offset;              /* added to centres: drafters differ */
    double fraction;            /* of every condition; 0 is 1 */
    bool learned;               /* deviations follow from the condition */
    double temperature;
    toy_step step[TOY_STEPS];
    toy_condition row[TOY_WINDOW];
    float history[TOY_POSITIONS][TOY_DIM];
    size_t poison; /* position + 1 whose means are NaN */
    size_t most;   /* rows of a condition call */
    int threads[8]; /* steps by thread */
    _Atomic long lose; /* step call from now that fails; 0: none */
} toy;

/* The sampler of the project's own models: times k stop / (n - 1), then one step to the token with terminal noise. */
static inline void toy_velocity(toy *m, size_t n_steps, double stop, double terminal)
{
    m->n_steps = n_steps;
    for (size_t k = 0; k < n_steps; k++) {
        double dt = stop / (double)(n_steps - 1), t = (double)k * dt, noise = sqrt(2 * (1 - t) * dt);
        double of_token = dt * (1 + t) / (1 - t);
        m->step[k] = (toy_step){t, 1 - t, of_token, 1 - of_token - dt, log(noise), log(noise)};
        if (k == n_steps - 1) m->step[k] = (toy_step){t, 1 - t, 1, 0, log(terminal), log(terminal)};
        if (m->learned) m->step[k].low -= 0.5;
    }
}

/* Respaced DDPM on a cosine of 1000 steps; deviations lie between those of the posterior and of the forward step. */
static inline void toy_ddpm(toy *m, size_t n_steps)
{
    double kept[1000], all = 1, before = 1, low = 0;
    for (int i = 0; i < 1000; i++) {
        double a = cos((i / 1000.0 + 0.008) / 1.008 * M_PI_2), b = cos(((i + 1) / 1000.0 + 0.008) / 1.008 * M_PI_2);
        all *= 1 - fmin(1 - b * b / (a * a), 0.999);
        kept[i] = all;
    }
    m->n_steps = n_steps;
    for (size_t i = 0; i < n_steps; i++) {
        double a = kept[lrint((double)i * 999 / (double)(n_steps - 1))], beta = 1 - a / before;
        double posterior = beta * (1 - before) / (1 - a);
        toy_step s = {sqrt(a), sqrt(1 - a), beta * sqrt(before) / (1 - a), (1 - before) * sqrt(1 - beta) / (1 - a),
                      0.5 * log(posterior), 0.5 * log(beta)};
        if (i == 1) low = s.low;
        m->step[n_steps - 1 - i] = s;
        before = a;
    }
    m->step[n_steps - 1].low = low;
}

static inline toy_condition toy_condition_of(const toy *m, size_t position, float (*tokens)[TOY_DIM])
{
    toy_condition c = {.fraction = m->fraction > 0 ? m->fraction : 1};
    for (size_t j = 0; j < m->dim; j++) {
        double one = position > 0 ? (double)tokens[position - 1][j] : 0;
        double beside = position > 0 ? (double)tokens[position - 1][(j + 1) % m->dim] : 0;
        double two = position > 1 ? (double)tokens[position - 2][(j + 1) % m->dim] : 0;
        c.centre[j] = m->pull * (tanh(1.1 * one - 0.5 * beside) + 0.4 * two) + m->offset +
                      0.1 * sin((double)(position + j));
    }
    if (m->learned) c.fraction = 0.5 + 0.4 * sin(2 * c.centre[0] + c.centre[m->dim - 1]);
    return c;
}

static inline void toy_law(const toy *m, const toy_condition *c, size_t k, const float *y, double *mean,
                           double *deviation)
{
    const toy_step *s = &m->step[k];
    double variance = s->alpha * s->alpha * m->tau * m->tau + s->sigma * s->sigma;
    double gain = s->alpha * m->tau * m->tau / variance, log_odds = log(m->weight / (1 - m->weight));
    double token[2][TOY_DIM];
    for (int side = 0; side < 2; side++) {
        double square = 0;
        for (size_t j = 0; j < m->dim; j++) {
            double centre = c->centre[j] + (side ? 1 : -1) * m->spread * (j % 2 ? 0.5 : 1);
            double d = (double)y[j] - s->alpha * centre;
            square += d * d;
            token[side][j] = centre + gain * d;
        }
        log_odds += (side ? 1 : -1) * square / (2 * variance);
    }
    double first = 1 / (1 + exp(-log_odds));
    for (size_t j = 0; j < m->dim; j++) {
        double denoised = first * token[0][j] + (1 - first) * token[1][j];
        if (c->error) denoised -= s->sigma / s->alpha * c->error[k][j];
        mean[j] = s->of_token * denoised + s->of_state * (double)y[j];
    }
    *deviation = m->temperature * exp(c->fraction * s->high + (1 - c->fraction) * s->low);
}

static inline sp_status toy_begin(void *state, const sp_model_prompt *prompt, const sp_latent_guidance *guidance,
                                  sp_error *err)
{
    toy *m = state;
    (void)prompt, (void)err;
    m->temperature = (double)guidance->temperature;
    for (size_t i = 0; i < TOY_POSITIONS; i++)
        for (size_t j = 0; j < TOY_DIM; j++) m->history[i][j] = NAN;
    m->most = 0;
    return SP_OK;
}

/* What is stored after the last token fed is gone. */
static inline sp_status toy_feed(void *state, size_t first, size_t n, const float *latents, sp_error *err)
{
    toy *m = state;
    (void)err;
    for (size_t j = first == 0; j < n; j++)
        for (size_t c = 0; c < m->dim; c++) m->history[first + j - 1][c] = latents[j * m->dim + c];
    for (size_t i = first + n - 1; i < m->n_positions; i++)
        for (size_t c = 0; c < m->dim; c++) m->history[i][c] = NAN;
    for (size_t j = 0; j < n; j++) {
        m->row[j] = toy_condition_of(m, first + j, m->history);
        if (m->poison == first + j + 1) m->row[j].centre[0] = NAN;
    }
    if (n > m->most) m->most = n;
    return SP_OK;
}

static inline sp_status toy_run_step(void *state, const sp_chain_rows *rows, sp_error *err)
{
    toy *m = state;
    if (m->lose && atomic_fetch_sub(&m->lose, 1) == 1)
        return SP_FAIL(err, SP_EDEVICE, "toy: step %zu is lost", rows->k);
    for (size_t i = 0; i < rows->n; i++) {
        double mean[TOY_DIM], deviation;
        toy_law(m, &m->row[rows->row[i]], rows->k, rows->state + i * m->dim, mean, &deviation);
        for (size_t j = 0; j < m->dim; j++) {
            rows->mean[i * m->dim + j] = (float)mean[j];
            rows->deviation[i * m->dim + j] = (float)deviation;
        }
    }
    m->threads[rows->thread]++;
    return SP_OK;
}

/* Not the identity, so that a state in a token's place is seen. */
static inline void toy_project(void *state, size_t n, const float *states, float *tokens)
{
    toy *m = state;
    for (size_t i = 0; i < n * m->dim; i++) tokens[i] = 1.25f * states[i];
}

static inline sp_latent_model toy_model(toy *m)
{
    static const sp_latent_model_ops ops = {toy_begin, toy_feed, toy_run_step, toy_project};
    return (sp_latent_model){.ops = &ops, .state = m, .dim = m->dim, .n_steps = m->n_steps, .rows = 1,
                             .columns = m->n_positions, .fixed_deviation = !m->learned};
}

/* Gaussians of the tests' own. */
static inline double toy_normal(uint64_t seed, uint32_t run, uint32_t draw)
{
    sp_philox_block b = sp_philox(seed, draw, run, 201, 3);
    double u = ((double)b.word[0] + 0.5) / 4294967296.0, v = ((double)b.word[1] + 0.5) / 4294967296.0;
    return sqrt(-2 * log(u)) * cos(2 * M_PI * v);
}

/* One sequence drawn token by token into tokens [n_positions, dim], by none of the code under test. */
static inline void toy_draw(const toy *m, uint64_t seed, uint32_t run, float *tokens)
{
    float history[TOY_POSITIONS][TOY_DIM];
    uint32_t draw = 0;
    for (size_t i = 0; i < m->n_positions; i++) {
        toy_condition c = toy_condition_of(m, i, history);
        float y[TOY_DIM];
        for (size_t j = 0; j < m->dim; j++) y[j] = (float)toy_normal(seed, run, draw++);
        for (size_t k = 0; k < m->n_steps; k++) {
            double mean[TOY_DIM], deviation;
            toy_law(m, &c, k, y, mean, &deviation);
            for (size_t j = 0; j < m->dim; j++) y[j] = (float)(mean[j] + deviation * toy_normal(seed, run, draw++));
        }
        for (size_t j = 0; j < m->dim; j++) history[i][j] = tokens[i * m->dim + j] = 1.25f * y[j];
    }
}

/* Twelve tokens of two numbers. */
static inline toy toy_sequence(bool learned)
{
    toy m = {.dim = 2, .n_positions = 12, .spread = 0.5, .tau = 0.35, .weight = 0.4, .pull = 0.45, .learned = learned,
             .temperature = 1};
    toy_velocity(&m, 12, 0.96, 0.05);
    return m;
}

/* The same with steps that remember where the chain was. */
static inline toy toy_walk(void)
{
    toy m = {.dim = 2, .n_positions = 12, .spread = 0.5, .tau = 0.35, .weight = 0.4, .pull = 0.45, .temperature = 1};
    m.n_steps = 4;
    for (size_t k = 0; k < m.n_steps; k++) m.step[k] = (toy_step){0.6, 0.8, 0.2, 0.8, log(0.4), log(0.4)};
    return m;
}

/* The same with tokens that follow strongly from those before and a last step that adds much noise, where wrong rules
 * go further astray. */
static inline toy toy_strong(void)
{
    toy m = {.dim = 2, .n_positions = 12, .spread = 0.2, .tau = 0.4, .weight = 0.4, .pull = 1.2, .temperature = 1};
    toy_velocity(&m, 8, 0.9, 0.3);
    return m;
}

#endif
