/* Rules of continuous tokens through the production loop: sequences of a causal toy of twelve tokens against those
 * drawn token by token, by Kolmogorov-Smirnov on five statistics and by energy distance; and wrong rules and wrong
 * windows, each of which must be caught. */
#include "wrong_chain.h"

/* Any window, by what is final alone. */
static bool windows_by_place(void *user, const sp_progress *progress)
{
    steering *s = user;
    static const size_t windows[] = {3, 1, 6, 2, 12, 5, 1, 4};
    s->plan->window = windows[(progress->tokens_done * 3 + progress->passes) % 8];
    return true;
}

/* Wrong: the window covers the next token's draft only when that is small. */
static bool windows_by_draft(void *user, const sp_progress *progress)
{
    steering *s = user;
    const sp_chain_decoder *d = s->decoder;
    size_t next = progress->tokens_done + 1;
    s->plan->window = 1;
    for (; next < d->n_positions && s->plan->window < 6; next++, s->plan->window++)
        if (d->latents[next * d->dim] > 0) break;
    return true;
}

static const sp_chain_settings aligned = {.gamma = 4, .align = true};

static void laws_of_sequences(void **state)
{
    (void)state;
    const trial trials[] = {
        {"ar", &sp_chain_ar, 1, .tokens_a_pass = 1},
        {"mirror 2", &sp_chain_mirror, 2, .tokens_a_pass = 1.31},
        {"mirror 4", &sp_chain_mirror, 4, .tokens_a_pass = 1.64},
        {"mirror 12", &sp_chain_mirror, 12, .tokens_a_pass = 2.05},
        {"mirror 12, above", &sp_chain_mirror, 12, .draft_init = "above", .tokens_a_pass = 2.05},
        {"mirror 12, uniform", &sp_chain_mirror, 12, .draft_init = "uniform", .tokens_a_pass = 2.05},
        {"mirror, many windows", &sp_chain_mirror, 4, .progress = windows_by_place, .tokens_a_pass = 1.63},
        {"mirror 4, path front", &sp_chain_mirror, 4, {.path_front = true}, .tokens_a_pass = 1.60},
        {"mirror 12, path front", &sp_chain_mirror, 12, {.path_front = true}, .tokens_a_pass = 1.95},
        {"cspd 4", &sp_chain_cspd, 1, {.gamma = 4, .align = true}, .tokens_a_pass = 2.38},
        {"cspd 4, prefill 0.3", &sp_chain_cspd, 1, {.gamma = 4, .align = true, .prefill = 0.3f}, .tokens_a_pass = 1.74},
        {"cspd 2, not aligned", &sp_chain_cspd, 1, {.gamma = 2}, .tokens_a_pass = 1.01},
        {"cspd-released 4", &sp_chain_cspd_released, 1, {.gamma = 4, .align = true, .tolerance = 0.26f},
         .tokens_a_pass = 4},
    };
    size_t n = trial_runs(2000, 100000);
    toy m = toy_sequence(false), q = toy_sequence(false);
    q.offset = 0.03;
    sample direct = sample_directly(&m, trial_runs(10000, 100000), 5);
    for (size_t i = 0; i < sizeof trials / sizeof *trials; i++) {
        sample runs;
        trial_result r = trial_run(&trials[i], &m, &q, &direct, n, 1 + 1000000 * i, &runs);
        size_t rank = energy_rank(&m, &direct, &runs);
        bool exact = trials[i].rule->exactness != SP_RELAXED;
        print_message("%34s energy: %zu of 199 beyond\n", "", rank);
        assert_true((r.ks < KS_LIMIT) == exact);
        assert_true((rank > 0) == exact);
        /* Its standard error is below 1 / 3 sqrt(n): passes of a sequence deviate by less than a third. */
        assert_true(fabs(r.tokens_a_pass / trials[i].tokens_a_pass - 1) < 0.005 + 4 / (3 * sqrt((double)n)));
        sample_close(&runs);
    }
    /* Its windows follow from the clock too, so every run is another one and the limit leaves no chance. */
    const trial paced = {"mirror auto", &sp_chain_mirror, 0};
    assert_true(trial_run(&paced, &m, NULL, &direct, n, 77, NULL).ks < 3.2);
    sample_close(&direct);
}

/* Other temperatures, deviations that follow from the condition, chains that remember. */
static void other_laws_of_sequences(void **state)
{
    (void)state;
    size_t n = trial_runs(2000, 100000);
    toy toys[] = {toy_sequence(true), toy_sequence(false), toy_walk()};
    toys[1].temperature = 0.8;
    const struct {
        size_t toy;
        trial t;
    } cases[] = {{0, {"learned, ar", &sp_chain_ar, 1}},
                 {0, {"learned, mirror 4", &sp_chain_mirror, 4}},
                 {0, {"learned, mirror 12", &sp_chain_mirror, 12}},
                 {0, {"learned, cspd 4", &sp_chain_cspd, 1, {.gamma = 4, .align = true}}},
                 {1, {"temperature 0.8, mirror 12", &sp_chain_mirror, 12, .temperature = 0.8f}},
                 {1, {"temperature 0.8, cspd 4", &sp_chain_cspd, 1, {.gamma = 4, .align = true}, .temperature = 0.8f}},
                 {2, {"walk, ar", &sp_chain_ar, 1}},
                 {2, {"walk, mirror 4", &sp_chain_mirror, 4}},
                 {2, {"walk, mirror 6, path front", &sp_chain_mirror, 6, {.path_front = true}}},
                 {2, {"walk, cspd 4", &sp_chain_cspd, 1, {.gamma = 4, .align = true}}}};
    sample direct[3];
    for (size_t i = 0; i < 3; i++) direct[i] = sample_directly(&toys[i], 2 * n, 6 + i);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        toy m = toys[cases[i].toy], q = m;
        q.offset = 0.02;
        q.tau *= 0.95;
        assert_true(trial_run(&cases[i].t, &m, &q, &direct[cases[i].toy], n, 3 + 1000000 * i, NULL).ks < KS_LIMIT);
    }
    for (size_t i = 0; i < 3; i++) sample_close(&direct[i]);
}

static size_t commits_one_more(const bool *kept, size_t n)
{
    size_t n_final = sp_commit_first_change(kept, n);
    return n_final < n ? n_final + 1 : n;
}

static size_t commits_only_kept(const bool *kept, size_t n)
{
    size_t n_final = sp_commit_first_change(kept, n);
    return n_final > 1 && !kept[n_final - 1] ? n_final - 1 : n_final;
}

static void wrong_variants_are_caught(void **state)
{
    (void)state;
    const struct {
        const char *name;
        const sp_chain_ops *of;
        coupling *couple;
        front_test *front;
        verifying *verify;
        size_t (*commit)(const bool *, size_t);
        sp_progress_call *progress;
        bool strong;
    } mutants[] = {
        {"moves by p", &sp_chain_mirror, .couple = moves_by_p},
        {"keeps high ratios", &sp_chain_mirror, .couple = keeps_high_ratios},
        {"keeps old noise", &sp_chain_mirror, .couple = keeps_old_noise},
        {"keeps old mean", &sp_chain_mirror, .couple = keeps_old_mean},
        {"shares noise unreflected", &sp_chain_mirror, .couple = shares_noise_unreflected},
        {"no stop at the first change", &sp_chain_mirror, .commit = sp_commit_all},
        {"commits one more", &sp_chain_mirror, .commit = commits_one_more},
        {"window by drafts", &sp_chain_mirror, .progress = windows_by_draft, .strong = true},
        {"front reuses noise", &sp_chain_mirror, .front = reuses_noise},
        {"front goes on by p", &sp_chain_mirror, .front = goes_on_by_p, .strong = true},
        {"front draws from p", &sp_chain_mirror, .front = draws_refused_paths_from_p},
        {"replaces by p", &sp_chain_cspd, .verify = replaces_by_p, .strong = true},
        {"keeps likely drafts", &sp_chain_cspd, .verify = keeps_likely_drafts, .strong = true},
        {"drafts at the mode", &sp_chain_cspd, .verify = drafts_at_the_mode, .strong = true},
        {"cspd without roll-back", &sp_chain_cspd, .commit = sp_commit_all, .strong = true},
    };
    size_t n = trial_runs(6000, 40000);
    toy plain = toy_sequence(false), strong = toy_strong();
    sample of_plain = sample_directly(&plain, 2 * n, 8), of_strong = sample_directly(&strong, 2 * n, 9);
    const trial right = {"the right one, strong", &sp_chain_mirror, 8};
    assert_true(trial_run(&right, &strong, NULL, &of_strong, n, 4, NULL).ks < KS_LIMIT);
    for (size_t i = 0; i < sizeof mutants / sizeof *mutants; i++) {
        sp_chain_ops rule = *mutants[i].of;
        if (mutants[i].couple) rule.couple = mutants[i].couple;
        if (mutants[i].front) rule.front = mutants[i].front;
        if (mutants[i].verify) rule.verify = mutants[i].verify;
        if (mutants[i].commit) rule.commit = mutants[i].commit;
        trial t = {mutants[i].name, &rule, 8, aligned, .progress = mutants[i].progress};
        t.settings.path_front = mutants[i].front != NULL;
        toy m = mutants[i].strong ? strong : plain, q = m;
        q.offset = 0.2;
        sample *direct = mutants[i].strong ? &of_strong : &of_plain;
        assert_true(trial_run(&t, &m, &q, direct, n, 5 + 1000000 * i, NULL).ks > KS_LIMIT);
    }
    sample_close(&of_plain);
    sample_close(&of_strong);
}

/* Of the right law, but a final token waits for the next pass. */
static void an_idle_variant_is_caught(void **state)
{
    (void)state;
    size_t n = trial_runs(1000, 10000);
    toy m = toy_sequence(false);
    sample direct = sample_directly(&m, n, 10);
    sp_chain_ops idle = sp_chain_mirror;
    idle.commit = commits_only_kept;
    const trial trials[] = {{"mirror 12", &sp_chain_mirror, 12}, {"commits only what was kept", &idle, 12}};
    double right = trial_run(&trials[0], &m, NULL, &direct, n, 1, NULL).tokens_a_pass;
    double wrong = trial_run(&trials[1], &m, NULL, &direct, n, 1, NULL).tokens_a_pass;
    /* Means of about six passes of deviation one. */
    assert_true(right > 1.8 && wrong < right * (1 - 4 / sqrt((double)n) / 6));
    sample_close(&direct);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(laws_of_sequences), cmocka_unit_test(other_laws_of_sequences),
                                       cmocka_unit_test(wrong_variants_are_caught),
                                       cmocka_unit_test(an_idle_variant_is_caught)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
