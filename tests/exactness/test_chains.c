/* Rules of continuous tokens through the production loop, against sequences drawn token by token. */
#include "chain_trial.h"

extern const sp_chain_ops sp_chain_ar, sp_chain_mirror, sp_chain_cspd, sp_chain_cspd_released;

static void laws_of_sequences(void **state)
{
    (void)state;
    const trial trials[] = {
        {"ar", &sp_chain_ar, 1},
        {"mirror 4", &sp_chain_mirror, 4},
        {"mirror 12, above", &sp_chain_mirror, 12, .draft_init = "above"},
        {"mirror 12, uniform", &sp_chain_mirror, 12, .draft_init = "uniform"},
        {"mirror auto", &sp_chain_mirror, 0},
        {"mirror 4, path front", &sp_chain_mirror, 4, {.path_front = true}},
        {"mirror 12, path front", &sp_chain_mirror, 12, {.path_front = true}},
        {"cspd 4", &sp_chain_cspd, 1, {.gamma = 4, .align = true}},
        {"cspd 4, prefill 0.3", &sp_chain_cspd, 1, {.gamma = 4, .align = true, .prefill = 0.3f}},
        {"cspd 2, not aligned", &sp_chain_cspd, 1, {.gamma = 2}},
        {"cspd-released 4", &sp_chain_cspd_released, 1, {.gamma = 4, .align = true, .tolerance = 0.26f}},
    };
    size_t n = trial_runs(2000, 100000);
    toy m = toy_sequence(false), q = toy_sequence(false);
    q.offset = 0.03;
    sample direct = sample_directly(&m, n, 5);
    for (size_t i = 0; i < sizeof trials / sizeof *trials; i++) {
        trial_result r = trial_run(&trials[i], &m, &q, &direct, n, 1 + 1000000 * i, NULL);
        assert_true((r.ks < KS_LIMIT) == (trials[i].rule->exactness != SP_RELAXED));
    }
    sample_close(&direct);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(laws_of_sequences)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
