/* The exactness suites through the decode loop of a device: the law of every sequence of the enumerable model, with the
 * settings of the host's suites, and what rule gsd keeps. With SP_TEST_ALL all settings, else some of them. What can be
 * got wrong is in test_cuda_exact. */
#include "cuda/automaton_tree.h"
#include "exactness/group_trials.h"
#include "exactness/settings.h"

static bool all(void) { return getenv("SP_TEST_ALL") != NULL; }

enum { MOST_ROWS = 8, ONE_IN = 5 };

static sp_automaton_device device;

static void law_of(const setting *s)
{
    size_t n = all() ? 100000 : 1000;
    outcome o = measure_on(&device.loop, s, NULL, n);
    print_message("%-22s z %+.2f over %zu runs\n", s->name, o.z, n);
    assert_true(fabs(o.z) < 4);
    assert_int_equal(o.outside, 0);
    if (strcmp(s->rule, "ar") == 0 || strcmp(s->rule, "pathwise") == 0) assert_int_equal(o.other_tokens, 0);
}

/* Guesses at the first draft are branches, which a device leaves to the host's loop. */
static void law_of_every_sequence(void **state)
{
    (void)state;
    for (size_t i = 0; i < RACE_SETTINGS + RECORDED_SETTINGS; i++) {
        const setting *s = i < RACE_SETTINGS ? &race_settings[i] : &recorded_settings[i - RACE_SETTINGS];
        if (s->branches > 1 || (!all() && i % ONE_IN != 3)) continue;
        law_of(s);
    }
}

static void group_of_one_is_sjd(void **state)
{
    (void)state;
    try_groups_of_one(&device.loop, all() ? 3000 : 100);
}

static void sets_are_kept(void **state)
{
    (void)state;
    try_sets(&device.loop, all() ? 5000 : 100);
}

static int open_device(void **state)
{
    (void)state;
    static sp_automaton automaton;
    automaton = sp_automaton_tree();
    SP_TEST_OK(sp_automaton_open(&device, &automaton, MOST_ROWS, 1, err));
    return 0;
}

static int close_device(void **state)
{
    (void)state;
    sp_automaton_close(&device);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(law_of_every_sequence), cmocka_unit_test(group_of_one_is_sjd),
                                       cmocka_unit_test(sets_are_kept)};
    return cmocka_run_group_tests(tests, open_device, close_device);
}
