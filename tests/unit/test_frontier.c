/* Windows with branches at every size: rows in the right order with the right drafts, and never more than fit. */
#include "support.h"

#include "decode/frontier.h"

enum { MOST = SP_MAX_WINDOW };

typedef struct memory {
    int32_t drafts[MOST], ids[MOST], parents[MOST], depth[MOST];
} memory;

static sp_frontier grown(memory *m, size_t n, size_t n_guesses, size_t most)
{
    sp_frontier f = {.n_guesses = n_guesses, .ids = m->ids, .parents = m->parents, .depth = m->depth};
    for (size_t b = 0; b < n_guesses; b++) f.guess[b] = 1000 + (int32_t)b;
    for (size_t i = 0; i < MOST; i++) m->drafts[i] = (int32_t)i;
    sp_frontier_grow(&f, m->drafts, n, most);
    return f;
}

static void check_branches(const sp_frontier *f, size_t n)
{
    size_t row = n;
    for (size_t b = 0; b < f->n_branches; b++) {
        assert_int_equal(f->first[b], row);
        assert_in_range(f->length[b], 1, n - 1);
        assert_true(b == 0 || f->length[b] <= f->length[b - 1]);
        for (size_t i = 0; i < f->length[b]; i++, row++) {
            assert_int_equal(f->parents[row], i > 0 ? row - 1 : 0);
            assert_int_equal(f->depth[row], i + 1);
            assert_int_equal(f->ids[row], i > 0 ? i : 1000 + b);
        }
    }
    assert_int_equal(f->n, row);
}

static void every_window(void **state)
{
    (void)state;
    static memory m;
    for (size_t most = 1; most <= MOST; most += most < 24 ? 1 : 13)
        for (size_t n = 1; n <= most; n++)
            for (size_t guesses = 0; guesses <= SP_MAX_GUESSES; guesses++) {
                sp_frontier f = grown(&m, n, guesses, most);
                assert_in_range(f.n, n, most);
                for (size_t j = 1; j < n; j++) {
                    assert_int_equal(m.ids[j], j - 1);
                    assert_int_equal(m.parents[j], j - 1);
                    assert_int_equal(m.depth[j], j);
                }
                size_t room = most - n;
                assert_int_equal(f.n_branches, n == 1 ? 0 : guesses < room ? guesses : room);
                check_branches(&f, n);
            }
}

/* As docs/rules/pathwise.md has them; with less room all are shorter, and none is left out that fits. */
static void lengths(void **state)
{
    (void)state;
    static memory m;
    static const size_t full[SP_MAX_GUESSES] = {20, 10, 6, 5, 4, 3, 2, 2, 2, 2, 1, 1, 1, 1, 1};
    sp_frontier f = grown(&m, 64, SP_MAX_GUESSES, MOST);
    for (size_t b = 0; b < SP_MAX_GUESSES; b++) assert_int_equal(f.length[b], full[b]);
    assert_int_equal(f.n, 64 + 61);
    f = grown(&m, 100, SP_MAX_GUESSES, MOST);
    assert_int_equal(f.n_branches, SP_MAX_GUESSES);
    assert_int_equal(f.length[0], 8);
    assert_int_equal(f.n, 100 + 8 + 4 + 2 + 2 + 11);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(every_window), cmocka_unit_test(lengths)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
