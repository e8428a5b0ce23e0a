#ifndef SP_CHAIN_TRIAL_H
#define SP_CHAIN_TRIAL_H
/* Many runs of a chain rule over a toy through the production loop, compared with sequences drawn token by token. */
#include "chain_toys.h"
#include "kolmogorov_smirnov.h"

enum { STATISTICS = 5, DIRECTIONS = 8, PERMUTATIONS = 199 };

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

typedef struct placed {
    double at;
    uint32_t index;
} placed;

static inline int compare_placed(const void *a, const void *b)
{
    return compare_numbers(&((const placed *)a)->at, &((const placed *)b)->at);
}

/* Two-sample energy distance of whole sequences on random lines, the sum of integrals of (F - G)^2, by permutations:
 * how many of 199 relabelled pairs of samples are as far apart. 0 has probability 0.005 when the laws are equal. */
static inline size_t energy_rank(const toy *m, const sample *a, const sample *b)
{
    size_t width = m->n_positions * m->dim, n = a->n + b->n, beyond = 0;
    placed *line[DIRECTIONS];
    uint32_t *label = malloc(n * sizeof *label);
    double observed = 0;
    for (uint32_t d = 0; d < DIRECTIONS; d++) {
        line[d] = malloc(n * sizeof *line[d]);
        for (size_t i = 0; i < n; i++) {
            const float *tokens = i < a->n ? a->tokens + i * width : b->tokens + (i - a->n) * width;
            line[d][i] = (placed){0, (uint32_t)i};
            for (uint32_t j = 0; j < width; j++) line[d][i].at += toy_normal(83, d, j) * (double)tokens[j];
        }
        qsort(line[d], n, sizeof *line[d], compare_placed);
    }
    for (size_t i = 0; i < n; i++) label[i] = i < a->n;
    for (uint32_t round = 0; round <= PERMUTATIONS; round++) {
        double energy = 0;
        for (size_t d = 0; d < DIRECTIONS; d++) {
            double f = 0, g = 0;
            for (size_t i = 0; i + 1 < n; i++) {
                if (label[line[d][i].index]) f += 1 / (double)a->n;
                else g += 1 / (double)b->n;
                energy += (f - g) * (f - g) * (line[d][i + 1].at - line[d][i].at);
            }
        }
        if (round == 0) observed = energy;
        else beyond += energy >= observed;
        for (size_t i = n - 1; i > 0; i--) {
            size_t other = (size_t)((uint64_t)sp_philox(89, (uint32_t)i, round, 202, 0).word[0] * (i + 1) >> 32);
            uint32_t kept = label[i];
            label[i] = label[other];
            label[other] = kept;
        }
    }
    for (size_t d = 0; d < DIRECTIONS; d++) free(line[d]);
    free(label);
    return beyond;
}

typedef struct trial {
    const char *name;
    const sp_chain_ops *rule;
    size_t window; /* 0: the pacer */
    sp_chain_settings settings;
    const char *draft_init;
    float temperature; /* 0 is 1 */
    sp_progress_call *progress; /* NULL, or one with user a steering */
    double tokens_a_pass;       /* as measured over 100000 sequences */
} trial;

/* For progress calls that choose the next window. */
typedef struct steering {
    sp_chain_decoder *decoder;
    sp_chain_plan *plan;
} steering;

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
        steering steered = {decoder, &plan};
        plan.progress = t->progress;
        plan.user = &steered;
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
