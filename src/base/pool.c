#include "base/pool.h"

#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdint.h>
#include <unistd.h>

#include "base/arena.h"

/* About 20 microseconds: longer than the gap between two kernels of a pass, shorter than anyone would notice. */
enum { SPINS = 4000 };

/* After this many looks a share that nobody has begun is taken to belong to a thread that is put aside. */
enum { PATIENCE = 16 };

/* Of a share: the run it is offered in << 2 | how far it is. STOP ends its thread. */
enum { OFFERED = 1, TAKEN = 2, DONE = 3 };
#define STOP UINT64_MAX

/* A line of cache each: a thread that looks at its own share disturbs nobody, and an offer is one line that moves. */
typedef struct slot {
    _Alignas(64) _Atomic uint64_t state;
    sp_pool_work *work;
    void *arguments;
    sp_pool *pool;
    int share;
    pthread_t thread;
} slot;

/* A run offers every thread its own share, so that what a thread works on stays in its core's cache from run to run.
 * The caller takes the first, and then those whose threads the system has put aside: they hold nobody up. Which thread
 * does a share is of no consequence to the result. */
struct sp_pool {
    int n_threads;
    int spins;
    slot *slots; /* [n_threads]; that of the caller is not used */
    _Alignas(64) uint64_t run; /* away from what the threads read */
    _Atomic int sleepers;
    pthread_mutex_t lock;
    pthread_cond_t wake;
};

static inline void relax(void)
{
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#endif
}

static uint64_t state_of(uint64_t run, unsigned how) { return run << 2 | how; }

/* Does the share unless somebody else has begun it. A share that is begun keeps its run from ending, so work and
 * arguments are those of its run. */
static void do_share(slot *own, uint64_t offered)
{
    if (!atomic_compare_exchange_strong_explicit(&own->state, &offered, offered - OFFERED + TAKEN,
                                                 memory_order_acq_rel, memory_order_relaxed))
        return;
    own->work(own->arguments, own->share, own->pool->n_threads);
    atomic_store_explicit(&own->state, offered - OFFERED + DONE, memory_order_release);
}

/* Of the slot, another one than the last seen. */
static uint64_t wait_for_offer(slot *own, uint64_t seen)
{
    sp_pool *pool = own->pool;
    uint64_t now;
    for (int i = 0; i < pool->spins; i++) {
        now = atomic_load_explicit(&own->state, memory_order_acquire);
        if (now == STOP || ((now & 3) == OFFERED && now != seen)) return now;
        relax();
        /* Taking the share will write to the line: it had better come to stay. */
        __builtin_prefetch(own, 1);
    }
    pthread_mutex_lock(&pool->lock);
    atomic_fetch_add(&pool->sleepers, 1);
    while ((now = atomic_load(&own->state)) != STOP && ((now & 3) != OFFERED || now == seen))
        pthread_cond_wait(&pool->wake, &pool->lock);
    atomic_fetch_sub(&pool->sleepers, 1);
    pthread_mutex_unlock(&pool->lock);
    return now;
}

static void *worker_main(void *argument)
{
    slot *own = argument;
    for (uint64_t seen = 0; (seen = wait_for_offer(own, seen)) != STOP;) do_share(own, seen);
    return NULL;
}

static void finish(slot *other, uint64_t run)
{
    for (int i = 1; atomic_load_explicit(&other->state, memory_order_acquire) != state_of(run, DONE); i++) {
        if (i >= PATIENCE) do_share(other, state_of(run, OFFERED));
        relax();
        if (i % 64 == 0) sched_yield();
    }
}

static void wake(sp_pool *pool)
{
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
    uint64_t run = ++pool->run;
    for (int i = 1; i < pool->n_threads; i++) {
        slot *other = &pool->slots[i];
        other->work = work;
        other->arguments = arguments;
        atomic_store_explicit(&other->state, state_of(run, OFFERED), memory_order_release);
    }
    /* A thread that goes to sleep just now may be missed: then its share is done here, and the next run wakes it. */
    if (atomic_load_explicit(&pool->sleepers, memory_order_relaxed) > 0) wake(pool);
    work(arguments, 0, pool->n_threads);
    for (int i = 1; i < pool->n_threads; i++) finish(&pool->slots[i], run);
}

int sp_pool_threads(const sp_pool *pool) { return pool ? pool->n_threads : 1; }

sp_status sp_pool_open(sp_pool **out, int n_threads, sp_error *err)
{
    *out = NULL;
    if (n_threads < 1 || n_threads > 1024)
        return SP_FAIL(err, SP_EARG, "threads: %d is not between 1 and 1024", n_threads);
    sp_pool *pool = sp_alloc(1, sizeof *pool);
    if (!pool) return SP_FAIL(err, SP_ENOMEM, "thread pool: no memory");
    pool->slots = sp_alloc((size_t)n_threads, sizeof *pool->slots);
    if (!pool->slots) {
        sp_release(pool);
        return SP_FAIL(err, SP_ENOMEM, "thread pool: no memory");
    }
    long processors = sysconf(_SC_NPROCESSORS_ONLN);
    pool->spins = n_threads > processors ? 0 : SPINS;
    pthread_mutex_init(&pool->lock, NULL);
    pthread_cond_init(&pool->wake, NULL);
    pool->n_threads = 1;
    for (int i = 1; i < n_threads; i++) {
        slot *own = &pool->slots[i];
        own->pool = pool;
        own->share = i;
        int failure = pthread_create(&own->thread, NULL, worker_main, own);
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
    for (int i = 1; i < pool->n_threads; i++) atomic_store(&pool->slots[i].state, STOP);
    wake(pool);
    for (int i = 1; i < pool->n_threads; i++) pthread_join(pool->slots[i].thread, NULL);
    pthread_cond_destroy(&pool->wake);
    pthread_mutex_destroy(&pool->lock);
    sp_release(pool->slots);
    sp_release(pool);
}
