#ifndef SP_CHAIN_TRIAL_H
#define SP_CHAIN_TRIAL_H
/* Many runs of a chain rule over a toy through the production loop, compared with sequences drawn token by token. */
#include "chain_toys.h"

enum { STATISTICS = 5 };

/* Numbers of a sample, several of each run. */
typedef struct sample {
    size_t n;
    double *of[STATISTICS];
    float *tokens; /* [n, n_positions * dim] */
} sample;

static inline size_t trial_runs(size_t few, size_t many) { return getenv("SP_TEST_ALL") ? many : few; }

static inline sample sample_open(const toy *m, size_t n)
{
    sample s = {.n = n, .tokens = malloc(n * m->n_positions * m->dim * sizeof(float))};
    for (int i = 0; i < STATISTICS; i++) s.of[i] = malloc(n * sizeof(double));
    return s;
}

static inline void sample_close(sample *s)
{
    for (int i = 0; i < STATISTICS; i++) free(s->of[i]);
    free(s->tokens);
}

/* The last token, neighbours together, sums: marginals alone would miss mistakes of order. */
static inline void sample_put(const toy *m, sample *s, size_t run, const float *tokens)
{
    size_t n = m->n_positions, d = m->dim;
    const float *last = tokens + (n - 1) * d, *before = last - d, *middle = tokens + n / 2 * d;
    memcpy(s->tokens + run * n * d, tokens, n * d * sizeof(float));
    s->of[0][run] = (double)last[0];
    s->of[1][run] = (double)last[0] * (double)before[0];
    s->of[2][run] = (double)middle[d - 1] - (double)(middle - d)[0];
    s->of[3][run] = 0;
    for (size_t i = 0; i < n; i++)
        s->of[3][run] += (double)tokens[i * d] + 0.3 * (double)tokens[i * d + d - 1] * (double)tokens[i * d + d - 1];
    s->of[4][run] = (double)tokens[0] * (double)tokens[d + d - 1] + (double)middle[0];
}

static inline int compare_numbers(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* Two-sample Kolmogorov-Smirnov: sqrt(nm / (n + m)) D. Sorts both. P(> 1.95) = 0.001. */
static inline double ks_two(double *a, size_t n, double *b, size_t m)
{
    double most = 0;
    size_t i = 0, j = 0;
    qsort(a, n, sizeof *a, compare_numbers);
    qsort(b, m, sizeof *b, compare_numbers);
    while (i < n && j < m) {
        double x = fmin(a[i], b[j]);
        while (i < n && a[i] <= x) i++;
        while (j < m && b[j] <= x) j++;
        most = fmax(most, fabs((double)i / (double)n - (double)j / (double)m));
    }
    return most * sqrt((double)n * (double)m / (double)(n + m));
}

#define KS_LIMIT 1.95

typedef struct trial {
    const char *name;
    const sp_chain_ops *rule;
    size_t window; /* 0: the pacer */
    sp_chain_settings settings;
    const char *draft_init;
    float temperature; /* 0 is 1 */
} trial;

typedef struct trial_result {
    double ks;             /* the worst of the statistics */
    double tokens_a_pass;
    double acceptance;
} trial_result;

static inline sp_chain_plan trial_plan(const trial *t, const sp_latent_model *drafter, uint64_t seed)
{
    return (sp_chain_plan){.rule = t->rule, .window = t->window, .settings = t->settings,
                           .guidance = {1, t->temperature > 0 ? t->temperature : 1},
                           .draft_init = t->draft_init ? t->draft_init : "left", .seed = seed, .drafter = drafter};
}

static inline sample sample_directly(const toy *m, size_t n, uint64_t seed)
{
    sample s = sample_open(m, n);
    float tokens[TOY_POSITIONS * TOY_DIM];
    for (size_t run = 0; run < n; run++) {
        toy_draw(m, seed, (uint32_t)run, tokens);
        sample_put(m, &s, run, tokens);
    }
    return s;
}

/* n runs; direct's numbers are sorted, not its tokens. into: NULL, or where the runs are kept. */
static inline trial_result trial_run(const trial *t, toy *m, toy *draft, sample *direct, size_t n, uint64_t seed,
                                     sample *into)
{
    sp_latent_model model = toy_model(m), drafter = draft ? toy_model(draft) : (sp_latent_model){0};
    sp_chain_decoder *decoder = NULL;
    trial_result out = {0};
    sample s = sample_open(m, n);
    double passes = 0, drafted = 0, accepted = 0;
    SP_TEST_OK(sp_chain_decoder_open(&decoder, &model, draft ? &drafter : NULL, NULL, TOY_WINDOW, err));
    for (size_t run = 0; run < n; run++) {
        sp_chain_plan plan = trial_plan(t, draft ? &drafter : NULL, seed + run);
        SP_TEST_OK(sp_chain_decode(decoder, &model, &plan, err));
        sample_put(m, &s, run, decoder->latents);
        passes += (double)decoder->passes;
        drafted += (double)decoder->drafted;
        accepted += (double)decoder->accepted;
    }
    for (int i = 0; i < STATISTICS; i++) out.ks = fmax(out.ks, ks_two(direct->of[i], direct->n, s.of[i], n));
    out.tokens_a_pass = (double)(n * m->n_positions) / passes;
    out.acceptance = drafted > 0 ? accepted / drafted : 1;
    print_message("%-34s KS %.4f (%.2f of %.2f), %.2f tokens a pass, acceptance %.3f\n", t->name,
                  out.ks * sqrt(1 / (double)direct->n + 1 / (double)n), out.ks, KS_LIMIT, out.tokens_a_pass,
                  out.acceptance);
    sp_chain_decoder_close(decoder);
    if (into) *into = s;
    else sample_close(&s);
    return out;
}

#endif
