#include "base/pool.h"

#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <unistd.h>

#include "base/arena.h"

/* About 20 microseconds: longer than the gap between two kernels of a pass, shorter than anyone would notice. */
enum { SPINS = 4000 };

/* A run hands out n_threads shares. Whoever is awake takes the next one, so that a thread the system has put aside
 * holds nobody up; which share is whose is of no consequence to the result. */
struct sp_pool {
    int n_threads;
    int spins;
    sp_pool_work *work;
    void *arguments;
    _Atomic uint64_t ticket; /* generation of the run << 32 | next share */
    _Atomic int unfinished;  /* shares */
    _Atomic int sleepers;
    _Atomic bool stop;
    pthread_mutex_t lock;
    pthread_cond_t wake;
    pthread_t *workers; /* [n_threads - 1] */
};

static inline void relax(void)
{
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#endif
}

static uint32_t generation_of(uint64_t ticket) { return (uint32_t)(ticket >> 32); }

/* Takes shares of a generation until none is left. A share that is taken keeps its run from ending, so work and
 * arguments are those of its generation. */
static void take_shares(sp_pool *pool, uint32_t generation)
{
    uint64_t ticket = atomic_load_explicit(&pool->ticket, memory_order_acquire);
    while (generation_of(ticket) == generation && (int)(uint32_t)ticket < pool->n_threads) {
        if (!atomic_compare_exchange_weak_explicit(&pool->ticket, &ticket, ticket + 1, memory_order_acq_rel,
                                                   memory_order_acquire))
            continue;
        pool->work(pool->arguments, (int)(uint32_t)ticket, pool->n_threads);
        atomic_fetch_sub_explicit(&pool->unfinished, 1, memory_order_release);
        ticket = atomic_load_explicit(&pool->ticket, memory_order_acquire);
    }
}

static uint32_t wait_for_run(sp_pool *pool, uint32_t seen)
{
    uint32_t now;
    for (int i = 0; i < pool->spins; i++) {
        now = generation_of(atomic_load_explicit(&pool->ticket, memory_order_acquire));
        if (now != seen) return now;
        relax();
    }
    pthread_mutex_lock(&pool->lock);
    atomic_fetch_add(&pool->sleepers, 1);
    while ((now = generation_of(atomic_load(&pool->ticket))) == seen) pthread_cond_wait(&pool->wake, &pool->lock);
    atomic_fetch_sub(&pool->sleepers, 1);
    pthread_mutex_unlock(&pool->lock);
    return now;
}

static void *worker_main(void *argument)
{
    sp_pool *pool = argument;
    for (uint32_t seen = 0;;) {
        seen = wait_for_run(pool, seen);
        if (pool->stop) return NULL;
        take_shares(pool, seen);
    }
}

static void start_generation(sp_pool *pool, uint32_t generation)
{
    atomic_store(&pool->ticket, (uint64_t)generation << 32);
    if (atomic_load(&pool->sleepers) == 0) return;
    pthread_mutex_lock(&pool->lock);
    pthread_cond_broadcast(&pool->wake);
    pthread_mutex_unlock(&pool->lock);
}

void sp_pool_run(sp_pool *pool, sp_pool_work *work, void *arguments)
{
    if (pool == NULL || pool->n_threads == 1) {
        work(arguments, 0, 1);
        return;
    }
    uint32_t generation = generation_of(atomic_load(&pool->ticket)) + 1;
    pool->work = work;
    pool->arguments = arguments;
    atomic_store_explicit(&pool->unfinished, pool->n_threads, memory_order_relaxed);
    start_generation(pool, generation);
    take_shares(pool, generation);
    for (int i = 1; atomic_load_explicit(&pool->unfinished, memory_order_acquire) > 0; i++) {
        relax();
        if (i % 64 == 0) sched_yield();
    }
}

int sp_pool_threads(const sp_pool *pool) { return pool ? pool->n_threads : 1; }

sp_status sp_pool_open(sp_pool **out, int n_threads, sp_error *err)
{
    *out = NULL;
    if (n_threads < 1 || n_threads > 1024)
        return SP_FAIL(err, SP_EARG, "threads: %d is not between 1 and 1024", n_threads);
    sp_pool *pool = sp_alloc(1, sizeof *pool);
    if (!pool) return SP_FAIL(err, SP_ENOMEM, "thread pool: no memory");
    pool->workers = sp_alloc((size_t)n_threads, sizeof *pool->workers);
    if (!pool->workers) {
        sp_release(pool);
        return SP_FAIL(err, SP_ENOMEM, "thread pool: no memory");
    }
    long processors = sysconf(_SC_NPROCESSORS_ONLN);
    pool->spins = n_threads > processors ? 0 : SPINS;
    pthread_mutex_init(&pool->lock, NULL);
    pthread_cond_init(&pool->wake, NULL);
    pool->n_threads = 1;
    for (int i = 1; i < n_threads; i++) {
        int failure = pthread_create(&pool->workers[i - 1], NULL, worker_main, pool);
        if (failure) {
            sp_pool_close(pool);
            return SP_FAIL_ERRNO(err, SP_ENOMEM, failure,
                                 "thread pool: cannot start thread %d of %d; use fewer with -t",
                                 i + 1, n_threads);
        }
        pool->n_threads++;
    }
    *out = pool;
    return SP_OK;
}

void sp_pool_close(sp_pool *pool)
{
    if (!pool) return;
    pool->stop = true;
    pthread_mutex_lock(&pool->lock);
    atomic_fetch_add(&pool->ticket, (uint64_t)1 << 32);
    pthread_cond_broadcast(&pool->wake);
    pthread_mutex_unlock(&pool->lock);
    for (int i = 1; i < pool->n_threads; i++) pthread_join(pool->workers[i - 1], NULL);
    pthread_cond_destroy(&pool->wake);
    pthread_mutex_destroy(&pool->lock);
    sp_release(pool->workers);
    sp_release(pool);
}
