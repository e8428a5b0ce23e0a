/* Rule cspd and what it is often mistaken for, on a token of one number: a mixture of two Gaussians in a hundred steps
 * of DDPM, drafted by a model with another mixture and other deviations. */
#include "wrong_chain.h"

/* Pairs of target and drafter: from nearly alike to far apart. fraction: of the deviations of their steps. */
typedef struct pair {
    const char *name;
    double p_tau, p_fraction, q_offset, q_tau, q_weight, q_fraction;
} pair;

static const pair pairs[] = {
    {"other mixture, wider steps", 0.25, 0.35, 0.06, 0.30, 0.45, 0.55},
    {"other mixture, narrower steps", 0.25, 0.55, 0.06, 0.30, 0.45, 0.35},
    {"other mixture, equal steps", 0.25, 1, 0.06, 0.30, 0.45, 1},
    {"wider steps alone", 0.25, 0.35, 0, 0.25, 0.5, 0.40},
    {"narrower steps alone", 0.25, 0.40, 0, 0.25, 0.5, 0.35},
    {"nearly the same", 0.25, 1, 0.005, 0.25, 0.5, 1},
};

/* The drafted token comes first; the second is the target's own. */
static toy mixture(double tau, double fraction, double offset, double weight)
{
    toy m = {.dim = 1, .n_positions = 2, .spread = 1, .tau = tau, .weight = weight, .offset = offset,
             .fraction = fraction, .temperature = 1};
    toy_ddpm(&m, 100);
    return m;
}

/* log of the product of the drafter's deviations over the target's, last step left out. */
static double log_sigma(const toy *p, const toy *q)
{
    double sum = 0;
    for (size_t k = 0; k + 1 < p->n_steps; k++)
        sum += (q->fraction - p->fraction) * (p->step[k].high - p->step[k].low);
    return sum;
}

typedef struct pair_result {
    double ks, accepted;
} pair_result;

/* KS of the first token against n direct draws, sorted. */
static pair_result pair_run(const sp_chain_ops *rule, const sp_chain_settings *settings, const pair *c, double *direct,
                            size_t n_direct, size_t n)
{
    toy p = mixture(c->p_tau, c->p_fraction, 0, 0.5), q = mixture(c->q_tau, c->q_fraction, c->q_offset, c->q_weight);
    sp_latent_model model = toy_model(&p), drafter = toy_model(&q);
    sp_chain_decoder *decoder = NULL;
    double *x = malloc(n * sizeof *x), accepted = 0;
    wrong_log_sigma = log_sigma(&p, &q);
    SP_TEST_OK(sp_chain_decoder_open(&decoder, &model, &drafter, NULL, 4, err));
    for (size_t run = 0; run < n; run++) {
        trial t = {"", rule, 1, *settings};
        sp_chain_plan plan = trial_plan(&t, &drafter, 1000 + run);
        SP_TEST_OK(sp_chain_decode(decoder, &model, &plan, err));
        x[run] = (double)decoder->latents[0];
        accepted += (double)decoder->accepted / (double)n;
    }
    pair_result out = {ks_two(direct, n_direct, x, n), accepted};
    free(x);
    sp_chain_decoder_close(decoder);
    return out;
}

static double *draw_pair(const pair *c, size_t n)
{
    toy p = mixture(c->p_tau, c->p_fraction, 0, 0.5);
    double *x = malloc(n * sizeof *x);
    for (size_t run = 0; run < n; run++) {
        float tokens[2];
        p.n_positions = 1;
        toy_draw(&p, 55, (uint32_t)run, tokens);
        x[run] = (double)tokens[0];
    }
    return x;
}

static void laws_of_one_token(void **state)
{
    (void)state;
    size_t n = trial_runs(4000, 100000), n_direct = trial_runs(8000, 100000);
    sp_chain_ops paper = sp_chain_cspd, published = sp_chain_cspd;
    paper.verify = weighs_by_sigma;
    published.verify = weighs_by_inverse_sigma;
    /* In pairs 0, 1, ..: whether the law comes out. The published formula goes astray where Sigma is below 1. */
    const struct {
        const char *name;
        const sp_chain_ops *rule;
        const char *right;
    } rules[] = {{"cspd", &sp_chain_cspd, "yyyyyy"},
                 {"weighed by Sigma", &paper, "....n."},
                 {"weighed by 1 / Sigma, 42", &published, "nnnn.."},
                 {"cspd-released", &sp_chain_cspd_released, "nnn..."}};
    const sp_chain_settings settings = {.gamma = 1, .align = true, .tolerance = 0.26f};
    for (size_t i = 0; i < sizeof pairs / sizeof *pairs; i++) {
        double *direct = draw_pair(&pairs[i], n_direct);
        for (size_t r = 0; r < sizeof rules / sizeof *rules; r++) {
            if (rules[r].right[i] == '.') continue;
            pair_result out = pair_run(rules[r].rule, &settings, &pairs[i], direct, n_direct, n);
            print_message("%-30s %-26s KS %.4f (%.2f of %.2f), accepted of two %.3f\n", pairs[i].name, rules[r].name,
                          out.ks * sqrt(1 / (double)n + 1 / (double)n_direct), out.ks, KS_LIMIT, out.accepted);
            assert_true((out.ks < KS_LIMIT) == (rules[r].right[i] == 'y'));
        }
        free(direct);
    }
}

/* ---- the decision by itself */

typedef struct laws {
    size_t dim;
    double distance, q_deviation, p_deviation;
} laws;

static const laws decisions[] = {{1, 0.5, 1, 1}, {1, 0.4, 0.7, 1}, {1, 0.4, 1, 0.7}, {2, 0.6, 0.5, 0.5},
                                 {16, 0.2, 0.4, 0.4}, {16, 0.05, 0.4, 0.42}, {1, 0.02, 0.5, 0.5}};

typedef struct decision_result {
    double ks, accepted;
} decision_result;

static void one_check(const laws *l, uint32_t run, float memory[6][TOY_DIM], sp_chain_check *check)
{
    for (uint32_t j = 0; j < l->dim; j++) {
        memory[1][j] = 0.25f;
        memory[2][j] = (float)l->q_deviation;
        memory[3][j] = (float)(0.25 + l->distance);
        memory[4][j] = (float)l->p_deviation;
        memory[0][j] = (float)(0.25 + l->q_deviation * toy_normal(61, run, j));
        memory[5][j] = (float)(0.25 + l->distance + l->p_deviation * toy_normal(62, run, j));
    }
    *check = (sp_chain_check){memory[0], memory[1], memory[2], memory[3], memory[4], memory[5]};
}

/* KS of the worst number of the outcome against p. */
static decision_result decide(verifying *verify, const laws *l, size_t n)
{
    decision_result out = {0};
    float memory[6][TOY_DIM];
    double *x[TOY_DIM];
    for (size_t j = 0; j < l->dim; j++) x[j] = malloc(n * sizeof(double));
    for (uint32_t run = 0; run < n; run++) {
        sp_chain_check check;
        one_check(l, run, memory, &check);
        float before = memory[0][0];
        bool kept = verify(&(sp_chain_draw){7, 0, run, 1}, &(sp_chain_settings){0}, l->dim, &check);
        assert_true(!kept || memory[0][0] == before || verify == drafts_at_the_mode);
        out.accepted += (double)kept / (double)n;
        for (size_t j = 0; j < l->dim; j++) x[j][run] = (double)memory[0][j];
    }
    for (size_t j = 0; j < l->dim; j++) {
        out.ks = fmax(out.ks, ks_normal(x[j], n, 0.25 + l->distance, l->p_deviation));
        free(x[j]);
    }
    return out;
}

/* 1 - TV of two Gaussians: in closed form when the deviations are equal, by quadrature for one number. */
static double overlap(const laws *l)
{
    if (l->q_deviation == l->p_deviation)
        return erfc(sqrt((double)l->dim) * l->distance / l->p_deviation / 2 * M_SQRT1_2);
    double sum = 0, step = 1e-4;
    for (double x = -8; x < 8; x += step) {
        double p = (x - l->distance) / l->p_deviation, q = x / l->q_deviation;
        sum += step * fmin(exp(-0.5 * p * p) / l->p_deviation, exp(-0.5 * q * q) / l->q_deviation) / sqrt(2 * M_PI);
    }
    return sum;
}

static void decisions_have_their_law(void **state)
{
    (void)state;
    size_t n = trial_runs(20000, 100000);
    for (size_t i = 0; i < sizeof decisions / sizeof *decisions; i++) {
        const laws *l = &decisions[i];
        decision_result r = decide(sp_chain_cspd.verify, l, n);
        double share = overlap(l);
        print_message("%2zu numbers, distance %.2f, deviations %.2f %.2f: KS %.2f, accepted %.4f (%.4f)\n", l->dim,
                      l->distance, l->q_deviation, l->p_deviation, r.ks, r.accepted, share);
        assert_true(r.ks < 2.3);
        if (l->dim == 1 || l->q_deviation == l->p_deviation)
            assert_true(fabs(r.accepted - share) < 3.5 * sqrt(share * (1 - share) / (double)n));
    }
}

/* 1 / (1 - A) tries given a refused draft; one a draft over all, whatever A is. */
static void tries_of_the_residual(void **state)
{
    (void)state;
    size_t n = trial_runs(20000, 200000);
    const laws l = {1, 0.5, 1, 1};
    double refused = 0, tries = 0, share = overlap(&l);
    for (uint32_t run = 0; run < n; run++) {
        float memory[6][TOY_DIM];
        sp_chain_check check;
        sp_chain_draw draw = {7, 0, run, 1};
        one_check(&l, run, memory, &check);
        if (sp_chain_cspd.verify(&draw, &(sp_chain_settings){0}, 1, &check)) continue;
        refused++;
        tries += (double)sp_chain_residual(&draw, 1, &check);
    }
    print_message("tries: %.3f given a refused draft (%.3f), %.3f a draft (1)\n", tries / refused, 1 / (1 - share),
                  tries / (double)n);
    assert_true(fabs(tries / refused * (1 - share) - 1) < 0.05);
    assert_true(fabs(tries / (double)n - 1) < 0.06);
}

static void equal_laws_always_pass(void **state)
{
    (void)state;
    const laws same = {16, 0, 0.3, 0.3}, near = {16, 1e-7, 0.3, 0.3};
    assert_true(decide(sp_chain_cspd.verify, &same, 20000).accepted > 1 - 1e-6);
    assert_true(decide(sp_chain_cspd.verify, &near, 2000).accepted > 1 - 1e-6);
}

static void wrong_decisions_are_caught(void **state)
{
    (void)state;
    const struct {
        const char *name;
        verifying *verify;
        double log_sigma;
    } mutants[] = {{"replaces by p", replaces_by_p, 0},
                   {"keeps likely drafts", keeps_likely_drafts, 0},
                   {"weighed by Sigma below 1", weighs_by_sigma, -0.4},
                   {"weighed by 1 / Sigma, 42", weighs_by_inverse_sigma, -0.4},
                   {"distances over 42", weighs_by_inverse_sigma, 0},
                   {"drafts at the mode", drafts_at_the_mode, 0}};
    size_t n = trial_runs(20000, 100000);
    for (size_t i = 0; i < sizeof mutants / sizeof *mutants; i++) {
        wrong_log_sigma = mutants[i].log_sigma;
        decision_result r = decide(mutants[i].verify, &decisions[0], n);
        print_message("%-26s KS %.2f, accepted %.3f\n", mutants[i].name, r.ks, r.accepted);
        assert_true(r.ks > 2.3);
    }
}

/* exp(-d^2 / (2 rho^2)); what fails becomes the target's own token. */
static void released_tolerance(void **state)
{
    (void)state;
    size_t n = trial_runs(20000, 100000), stayed = 0;
    const double d = 0.2, rho = 0.26;
    sp_chain_settings settings = {.tolerance = (float)rho};
    for (uint32_t run = 0; run < n; run++) {
        float draft[4] = {1, 2, 3, 4}, own[4] = {1, 2, 3 + (float)d, 4}, none[4] = {0};
        sp_chain_check check = {draft, none, none, none, none, own};
        bool kept = sp_chain_cspd_released.verify(&(sp_chain_draw){3, 0, run, 0}, &settings, 4, &check);
        stayed += kept;
        assert_true(draft[2] == (kept ? 3 : own[2]));
    }
    double share = exp(-d * d / (2 * rho * rho));
    print_message("released: %.4f stayed (%.4f)\n", (double)stayed / (double)n, share);
    assert_true(fabs((double)stayed / (double)n - share) < 3.5 * sqrt(share * (1 - share) / (double)n));
    float draft[1] = {1}, own[1] = {1}, none[1] = {0};
    settings.tolerance = 0;
    sp_chain_check check = {draft, none, none, none, none, own};
    assert_true(sp_chain_cspd_released.verify(&(sp_chain_draw){3, 0, 0, 0}, &settings, 1, &check));
    own[0] = nextafterf(1, 2);
    assert_false(sp_chain_cspd_released.verify(&(sp_chain_draw){3, 0, 0, 0}, &settings, 1, &check));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(laws_of_one_token), cmocka_unit_test(decisions_have_their_law),
        cmocka_unit_test(tries_of_the_residual), cmocka_unit_test(equal_laws_always_pass),
        cmocka_unit_test(wrong_decisions_are_caught), cmocka_unit_test(released_tolerance)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
