#include "support.h"

#include <stdatomic.h>
#include <time.h>

#include "base/arena.h"
#include "base/pool.h"

enum { MAX_THREADS = 8, RUNS = 10000, N_ITEMS = 97 };

typedef struct tally {
    int n_threads;            /* as work was told */
    int calls[MAX_THREADS];   /* of each index; written by its own thread alone */
    atomic_int running;
    int items[N_ITEMS];       /* times an item was in somebody's share */
} tally;

static void count(void *arguments, int thread, int n_threads)
{
    tally *t = arguments;
    atomic_fetch_add(&t->running, 1);
    t->calls[thread]++;
    if (thread == 0) t->n_threads = n_threads;
    size_t first, last;
    sp_pool_share(N_ITEMS, 4, thread, n_threads, &first, &last);
    for (size_t i = first; i < last; i++) t->items[i]++;
    atomic_fetch_sub(&t->running, 1);
}

static void every_index_runs_once_a_run(void **state)
{
    (void)state;
    for (int n = 1; n <= MAX_THREADS; n++) {
        sp_pool *pool = NULL;
        SP_TEST_OK(sp_pool_open(&pool, n, err));
        assert_int_equal(sp_pool_threads(pool), n);
        tally t = {0};
        for (int run = 1; run <= RUNS; run++) {
            sp_pool_run(pool, count, &t);
            assert_int_equal(atomic_load(&t.running), 0);
            for (int i = 0; i < MAX_THREADS; i++) assert_int_equal(t.calls[i], i < n ? run : 0);
        }
        assert_int_equal(t.n_threads, n);
        for (int i = 0; i < N_ITEMS; i++) assert_int_equal(t.items[i], RUNS);
        sp_pool_close(pool);
    }
}

/* Pauses longer than the spin, so that workers sleep and are woken. */
static void sleeping_workers_wake(void **state)
{
    (void)state;
    sp_pool *pool = NULL;
    SP_TEST_OK(sp_pool_open(&pool, 2, err));
    tally t = {0};
    for (int run = 1; run <= 50; run++) {
        nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
        sp_pool_run(pool, count, &t);
        assert_int_equal(t.calls[0], run);
        assert_int_equal(t.calls[1], run);
    }
    sp_pool_close(pool);
}

static void no_pool_runs_in_the_caller(void **state)
{
    (void)state;
    tally t = {0};
    sp_pool_run(NULL, count, &t);
    assert_int_equal(sp_pool_threads(NULL), 1);
    assert_int_equal(t.n_threads, 1);
    assert_int_equal(t.calls[0], 1);
    sp_pool_close(NULL);
}

static void counts_out_of_range_are_refused(void **state)
{
    (void)state;
    const int bad[] = {0, -1, 1025};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        sp_error err = {0};
        sp_pool *pool = (sp_pool *)&err;
        assert_int_equal(sp_pool_open(&pool, bad[i], &err), SP_EARG);
        assert_null(pool);
        assert_non_null(strstr(err.message, "between 1 and 1024"));
    }
}

static int allowed;

static void *fails_after(size_t bytes) { return allowed-- > 0 ? aligned_alloc(64, bytes) : NULL; }

static void no_memory_is_reported(void **state)
{
    (void)state;
    int tries = 0;
    sp_status status;
    do {
        sp_pool *pool = NULL;
        sp_error err = {0};
        allowed = tries++;
        sp_alloc_hook(fails_after);
        status = sp_pool_open(&pool, 3, &err);
        sp_alloc_hook(NULL);
        if (status != SP_OK) assert_int_equal(status, SP_ENOMEM);
        assert_true((pool != NULL) == (status == SP_OK));
        sp_pool_close(pool);
    } while (status != SP_OK && tries < 100);
    assert_int_equal(status, SP_OK);
    assert_true(tries > 1);
}

static void shares_are_whole_grains_in_order(void **state)
{
    (void)state;
    const size_t sizes[] = {0, 1, 15, 16, 17, 1000}, grains[] = {1, 4, 16};
    for (size_t s = 0; s < sizeof sizes / sizeof sizes[0]; s++)
        for (size_t g = 0; g < sizeof grains / sizeof grains[0]; g++)
            for (int n = 1; n <= 9; n++) {
                size_t end = 0;
                for (int thread = 0; thread < n; thread++) {
                    size_t first, last;
                    sp_pool_share(sizes[s], grains[g], thread, n, &first, &last);
                    assert_true(first == end && last >= first);
                    assert_true(first % grains[g] == 0 || first == sizes[s]);
                    end = last;
                }
                assert_true(end == sizes[s]);
            }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_index_runs_once_a_run),     cmocka_unit_test(sleeping_workers_wake),
        cmocka_unit_test(no_pool_runs_in_the_caller),      cmocka_unit_test(counts_out_of_range_are_refused),
        cmocka_unit_test(no_memory_is_reported),           cmocka_unit_test(shares_are_whole_grains_in_order),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
