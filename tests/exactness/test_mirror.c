/* Rule mirror step by step and chain by chain: the laws that its couplings leave, how often chains meet, and wrong
 * couplings, each of which must be caught. */
#include "mirror_trial.h"
#include "wrong_chain.h"

/* One after another by the rule's own code, or another in its place. */
static void couple_here(void *user, const coupled_steps *s)
{
    coupling *const *couple = user;
    for (uint32_t c = 0; c < s->n; c++) {
        size_t at = c * s->dim;
        sp_chain_path path = {s->path.state + at, s->path.mean + at, s->path.deviation + at, s->path.noise + at};
        (*couple)(&(sp_chain_draw){s->seed, 0, s->first + c, s->pass}, s->k, s->dim, s->mean + at, s->deviation + at,
                  &path);
    }
}

static one_result step_by(coupling *couple, const one_step *s, size_t n)
{
    return couple_once((coupler){couple_here, &couple}, s, n);
}

static chain_result chains_by(coupling *couple, const chain_case *c, size_t n)
{
    return mirror_chains((coupler){couple_here, &couple}, c, n);
}

static size_t step_runs(void) { return trial_runs(20000, 200000); }

static void steps_have_their_laws(void **state)
{
    (void)state;
    coupling *couple = sp_chain_mirror.couple;
    check_steps((coupler){couple_here, &couple}, step_runs());
}

/* Without noise in a step the chains share what there is: equal means meet, others do not. */
static void steps_without_noise(void **state)
{
    (void)state;
    float y[2] = {1, 2}, m[2] = {1, 2}, d[2] = {0, 0}, e[2] = {0.5f, -1}, mean[2] = {1, 2}, none[2] = {0, 0};
    sp_chain_path path = {y, m, d, e};
    sp_chain_draw draw = {1, 2, 3, 4};
    sp_chain_mirror.couple(&draw, 0, 2, mean, none, &path);
    assert_true(y[0] == 1 && y[1] == 2 && e[0] == 0.5f && e[1] == -1);
    mean[1] = 3;
    sp_chain_mirror.couple(&draw, 0, 2, mean, none, &path);
    assert_true(y[0] == 1 && y[1] == 3);
    float some[2] = {0.5f, 0.25f};
    sp_chain_mirror.couple(&draw, 0, 2, mean, some, &path);
    assert_true(y[0] == 1.25f && y[1] == 2.75f);
}

/* ---- fronts */

typedef struct front_result {
    double stays, expected; /* share of whole paths that stay, and the mean of H after all steps */
    double ks;
} front_result;

static front_result front_chains(front_test *front, const chain_case *c, size_t n)
{
    static gaussian g;
    static path_memory p;
    static float means[TOY_STEPS][TOY_DIM];
    size_t n_steps = c->n_steps;
    gaussian_make(&g, c);
    front_result out = {0};
    double *x = malloc(n * sizeof(double));
    for (uint32_t run = 0; run < n; run++) {
        double log_h = 0;
        first_chain(&g, run, &p);
        for (size_t k = 0; k < n_steps; k++) {
            float deviation[TOY_DIM];
            law_of(&g, 1, k, k ? p.state[k - 1] : p.start, means[k], deviation);
            for (size_t j = 0; j < TOY_DIM; j++) {
                double a = ((double)p.state[k][j] - (double)means[k][j]) / (double)deviation[j];
                double b = ((double)p.state[k][j] - (double)p.mean[k][j]) / (double)deviation[j];
                log_h += 0.5 * (b * b - a * a);
            }
            log_h = fmin(log_h, 0);
        }
        out.expected += exp(log_h) / (double)n;
        sp_chain_path path = step_path(&p, 0);
        size_t stays = front(&(sp_chain_draw){13, 0, run, 2}, n_steps, TOY_DIM, means[0], &path);
        out.stays += (double)(stays == n_steps) / (double)n;
        for (size_t k = stays + 1; k < n_steps; k++) {
            float mean[TOY_DIM], deviation[TOY_DIM];
            law_of(&g, 1, k, p.state[k - 1], mean, deviation);
            for (size_t j = 0; j < TOY_DIM; j++)
                p.state[k][j] = (float)((double)mean[j] + (double)deviation[j] * (double)p.noise[k][j]);
        }
        x[run] = on_line(&g, p.state[n_steps - 1]);
    }
    out.ks = ks_normal(x, n, g.mean[1], g.deviation);
    free(x);
    return out;
}

/* Shorter chains leave time for more of them. */
static size_t chain_runs(const chain_case *c)
{
    return trial_runs(600, 20000) * (c->n_steps < 10 ? 20 : 1);
}

static void chains_have_their_laws(void **state)
{
    (void)state;
    coupling *couple = sp_chain_mirror.couple;
    check_chains((coupler){couple_here, &couple}, 0, chain_runs);
}

static void fronts_have_their_laws(void **state)
{
    (void)state;
    static const double share[] = {0.80, 0.64, 0.47, -1, 0, 0, 0, -1, -1, -1};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        size_t n = chain_runs(&cases[i]);
        front_result r = front_chains(sp_chain_mirror.front, &cases[i], n);
        print_message("shift %.1f, error %.2f: KS %.2f, whole paths %.3f, mean of H %.3f (%.2f)\n", cases[i].shift,
                      cases[i].error, r.ks, r.stays, r.expected, share[i]);
        assert_true(r.ks < 2.2);
        assert_true(fabs(r.stays - r.expected) <= 4 * sqrt(r.expected * (1 - r.expected) / (double)n) + 1e-9);
        /* A small error's share depends on which way it points in the first step. */
        if (share[i] >= 0) assert_true(fabs(r.stays - share[i]) < 0.02 + 3 * sqrt(0.25 / (double)n));
    }
}

/* Two steps of one number far apart, so that paths often stay for one of them with H well below 1: both states have
 * their laws and do not depend on each other more than they should. */
static void two_steps_of_a_front(void **state)
{
    (void)state;
    enum { N = 200000 };
    static double first[N], second[N], together[N];
    double stayed[3] = {0};
    for (uint32_t run = 0; run < N; run++) {
        float y[2], m[2] = {0, 0}, d[2] = {1, 0.5f}, e[2], means[2] = {1.5f, 0};
        for (uint32_t k = 0; k < 2; k++) e[k] = (float)toy_normal(91, run, k);
        y[0] = e[0];
        m[1] = 0.3f * y[0];
        y[1] = m[1] + 0.5f * e[1];
        means[1] = 0.3f * y[0] + 1;
        sp_chain_path path = {y, m, d, e};
        size_t stays = sp_chain_mirror.front(&(sp_chain_draw){17, 0, run, 1}, 2, 1, means, &path);
        stayed[stays] += 1.0 / N;
        if (stays == 0) y[1] = 0.3f * y[0] + 1 + 0.5f * e[1];
        first[run] = (double)y[0] - 1.5;
        second[run] = ((double)y[1] - 0.3 * (double)y[0] - 1) / 0.5;
        together[run] = (first[run] + second[run]) * M_SQRT1_2;
    }
    double a = ks_normal(first, N, 0, 1), b = ks_normal(second, N, 0, 1), c = ks_normal(together, N, 0, 1);
    print_message("two steps: KS %.2f %.2f %.2f, stayed for %.3f %.3f %.3f\n", a, b, c, stayed[0], stayed[1],
                  stayed[2]);
    assert_true(a < KS_LIMIT && b < KS_LIMIT && c < KS_LIMIT);
    assert_true(stayed[1] > 0.1);
}

/* (H p - q)+ on the line against its definition by quadrature. */
static void block_residuals(void **state)
{
    (void)state;
    const double cases_of[][2] = {{1, 0.5}, {0.7, 1}, {0.2, 2}, {0.5, 0.3}, {0.9, 4}, {1, 1e-3}};
    for (size_t i = 0; i < sizeof cases_of / sizeof *cases_of; i++) {
        double h = cases_of[i][0], gap = cases_of[i][1], mass = 0, step = 1e-3, most = 0;
        double edge = sp_block_edge(log(h), gap), whole = sp_block_mass(log(h), gap, edge);
        for (double u = -8; u < 20; u += step) {
            double p = h * exp(-0.5 * (u - gap) * (u - gap)), q = exp(-0.5 * u * u);
            double here = fmax(p - q, 0) / sqrt(2 * M_PI) * step;
            /* The draw of this share is where the quadrature stands. */
            if (whole > 0 && mass > 0.02 * whole && mass < 0.98 * whole) {
                double drawn = sp_block_draw(log(h), gap, 1 - (mass + 0.5 * here) / whole);
                most = fmax(most, fabs(drawn - u));
            }
            mass += here;
        }
        print_message("H %.1f, gap %g: mass %.6f (%.6f), draws within %.1e\n", h, gap, whole, mass, most);
        assert_true(fabs(whole - mass) < 1e-4 * mass + 1e-7);
        assert_true(most < 2e-3);
    }
}

/* Unequal deviations taken for equal ones, as in a step of its own: neither the law nor the record is right. */
static void a_wrong_step_is_caught(void **state)
{
    (void)state;
    const one_step s = {2, 0.3, 0.5, 0.8};
    one_result r = step_by(ignores_old_deviation, &s, step_runs());
    print_message("ignores the old deviation: KS %.2f, residue %.2g\n", r.state, r.residue);
    assert_true(r.state > 2.3 && r.residue > 1e-3);
}

static void wrong_couplings_are_caught(void **state)
{
    (void)state;
    const struct {
        const char *name;
        coupling *couple;
        bool wrong; /* or slow */
    } mutants[] = {{"moves by p", moves_by_p, true},
                   {"keeps high ratios", keeps_high_ratios, true},
                   {"keeps old noise", keeps_old_noise, true},
                   {"keeps old mean", keeps_old_mean, true},
                   {"shares noise unreflected", shares_noise_unreflected, true},
                   {"tosses one coin", tosses_one_coin, true},
                   {"redraws across", redraws_across, false}};
    const chain_case c = {1, 0, 24};
    size_t n = trial_runs(5000, 20000);
    chain_result right = chains_by(sp_chain_mirror.couple, &c, n);
    print_message("%-26s KS %.2f, met %.3f\n", "the right one", right.ks, right.met);
    assert_true(right.ks < 2.2);
    for (size_t i = 0; i < sizeof mutants / sizeof *mutants; i++) {
        chain_result r = chains_by(mutants[i].couple, &c, n);
        print_message("%-26s KS %.2f, met %.3f\n", mutants[i].name, r.ks, r.met);
        assert_true((r.ks > 2.2) == mutants[i].wrong);
        if (!mutants[i].wrong) assert_true(r.met < right.met / 2);
    }
}

static void wrong_fronts_are_caught(void **state)
{
    (void)state;
    const struct {
        const char *name;
        front_test *front;
    } mutants[] = {{"reuses noise", reuses_noise}, {"goes on by p", goes_on_by_p},
                   {"draws refused paths from p", draws_refused_paths_from_p},
                   {"stops at the first refusal", stops_at_first_refusal}};
    const chain_case c = {1.5, 0, 24};
    size_t n = trial_runs(5000, 20000);
    front_result right = front_chains(sp_chain_mirror.front, &c, n);
    print_message("%-26s KS %.2f, whole paths %.3f\n", "the right one", right.ks, right.stays);
    assert_true(right.ks < 2.2);
    for (size_t i = 0; i < sizeof mutants / sizeof *mutants; i++) {
        front_result r = front_chains(mutants[i].front, &c, n);
        print_message("%-26s KS %.2f, whole paths %.3f\n", mutants[i].name, r.ks, r.stays);
        assert_true(r.ks > 2.2);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(steps_have_their_laws), cmocka_unit_test(steps_without_noise),
                                       cmocka_unit_test(chains_have_their_laws),
                                       cmocka_unit_test(fronts_have_their_laws),
                                       cmocka_unit_test(two_steps_of_a_front),
                                       cmocka_unit_test(block_residuals),
                                       cmocka_unit_test(a_wrong_step_is_caught),
                                       cmocka_unit_test(wrong_couplings_are_caught),
                                       cmocka_unit_test(wrong_fronts_are_caught)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
