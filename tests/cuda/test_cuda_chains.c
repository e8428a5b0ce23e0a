/* The exactness suite of rule mirror over the device's coupling: the laws of steps and of whole chains, and wrong
 * couplings, each of which must be seen. With SP_TEST_ALL as the host's, else what some thousands of steps show.
 * test_cuda_head has the same couplings bit for bit, inside whole heads. */
#include "cuda/mistaken_chains.h"
#include "exactness/mirror_trial.h"

static bool all(void) { return getenv("SP_TEST_ALL") != NULL; }

typedef struct bench {
    sp_mistaken_chains *chains;
    sp_wrong_coupling mistake;
} bench;

static void couple_there(void *user, const coupled_steps *s)
{
    const bench *b = user;
    const sp_chain_path *p = &s->path;
    sp_mistaken_steps call = {s->n, s->dim, s->k, s->seed, s->first, s->pass, s->mean, s->deviation,
                              {p->state, p->mean, p->deviation, p->noise}};
    SP_TEST_OK(sp_mistaken_couple(b->chains, &call, b->mistake, err));
}

static coupler by(void *state, sp_wrong_coupling mistake)
{
    bench *b = state;
    b->mistake = mistake;
    return (coupler){couple_there, b};
}

static void steps_have_their_laws(void **state)
{
    check_steps(by(*state, SP_COUPLES_RIGHTLY), trial_runs(5000, 20000));
}

static size_t chain_runs(const chain_case *c) { return trial_runs(400, 600) * (c->n_steps < 10 ? 5 : 1); }

/* The short ones are the last. */
static void chains_have_their_laws(void **state)
{
    check_chains(by(*state, SP_COUPLES_RIGHTLY), all() ? 0 : sizeof cases / sizeof *cases - 2, chain_runs);
}

static void wrong_couplings_are_seen(void **state)
{
    static const chain_case c = {1, 0, 24}, quick = {2, 0, 4};
    static const struct { const char *name; sp_wrong_coupling mistake; bool plain; } wrong[] = {
        {"moves by p", SP_MOVES_BY_P, true}, {"keeps high ratios", SP_KEEPS_HIGH_RATIOS, true},
        {"keeps old noise", SP_KEEPS_OLD_NOISE, true}, {"keeps old mean", SP_KEEPS_OLD_MEAN, true},
        {"shares noise unreflected", SP_SHARES_NOISE, true}, {"tosses one coin", SP_TOSSES_ONE_COIN, false}};
    size_t n = trial_runs(2000, 5000);
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        if (!wrong[i].plain && !all()) continue;
        chain_result r = mirror_chains(by(*state, wrong[i].mistake), all() ? &c : &quick, n);
        print_message("%-26s KS %.2f, met %.3f\n", wrong[i].name, r.ks, r.met);
        assert_true(r.ks > 2.2);
    }
    const one_step unequal = {2, 0.3, 0.5, 0.8};
    one_result r = couple_once(by(*state, SP_IGNORES_DEVIATION), &unequal, trial_runs(2000, 20000));
    print_message("%-26s KS %.2f, residue %.2g\n", "ignores the old deviation", r.state, r.residue);
    assert_true(r.state > 2.3 && r.residue > 1e-3);
}

static int open_chains(void **state)
{
    static bench b;
    SP_TEST_OK(sp_mistaken_chains_open(&b.chains, TOGETHER * TOY_DIM, err));
    *state = &b;
    return 0;
}

static int close_chains(void **state)
{
    bench *b = *state;
    sp_mistaken_chains_close(b->chains);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(steps_have_their_laws),
                                       cmocka_unit_test(chains_have_their_laws),
                                       cmocka_unit_test(wrong_couplings_are_seen)};
    return cmocka_run_group_tests(tests, open_chains, close_chains);
}
