#include "base/pool.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <unistd.h>

#include "base/arena.h"

/* About 20 microseconds: longer than the gap between two kernels of a pass, shorter than anyone would notice. */
enum { SPINS = 4000 };

typedef struct worker {
    sp_pool *pool;
    pthread_t thread;
    int index;
} worker;

struct sp_pool {
    int n_threads;
    int spins;
    sp_pool_work *work;
    void *arguments;
    _Atomic unsigned generation; /* rises by one for each run */
    _Atomic int unfinished;
    _Atomic int sleepers;
    bool stop;
    pthread_mutex_t lock;
    pthread_cond_t wake;
    worker *workers; /* [n_threads - 1] */
};

static inline void relax(void)
{
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#endif
}

static void wait_for_generation(sp_pool *pool, unsigned seen)
{
    for (int i = 0; i < pool->spins; i++) {
        if (atomic_load_explicit(&pool->generation, memory_order_acquire) != seen) return;
        relax();
    }
    pthread_mutex_lock(&pool->lock);
    atomic_fetch_add(&pool->sleepers, 1);
    while (atomic_load(&pool->generation) == seen) pthread_cond_wait(&pool->wake, &pool->lock);
    atomic_fetch_sub(&pool->sleepers, 1);
    pthread_mutex_unlock(&pool->lock);
}

static void *worker_main(void *argument)
{
    worker *self = argument;
    sp_pool *pool = self->pool;
    unsigned seen = 0;
    for (;;) {
        wait_for_generation(pool, seen++);
        if (pool->stop) return NULL;
        pool->work(pool->arguments, self->index, pool->n_threads);
        atomic_fetch_sub_explicit(&pool->unfinished, 1, memory_order_release);
    }
}

static void next_generation(sp_pool *pool)
{
    atomic_fetch_add(&pool->generation, 1);
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
    pool->work = work;
    pool->arguments = arguments;
    atomic_store_explicit(&pool->unfinished, pool->n_threads - 1, memory_order_relaxed);
    next_generation(pool);
    work(arguments, 0, pool->n_threads);
    /* Yield once in a while: with more threads than processors the others need ours to finish. */
    for (int i = 1; atomic_load_explicit(&pool->unfinished, memory_order_acquire) > 0; i++) {
        relax();
        if (i % 1024 == 0) usleep(0);
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
        worker *w = &pool->workers[i - 1];
        *w = (worker){.pool = pool, .index = i};
        int failure = pthread_create(&w->thread, NULL, worker_main, w);
        if (failure) {
            sp_pool_close(pool);
            return SP_FAIL_ERRNO(err, SP_ENOMEM, failure, "thread pool: cannot start thread %d of %d; use fewer with -t",
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
    atomic_fetch_add(&pool->generation, 1);
    pthread_cond_broadcast(&pool->wake);
    pthread_mutex_unlock(&pool->lock);
    for (int i = 1; i < pool->n_threads; i++) pthread_join(pool->workers[i - 1].thread, NULL);
    pthread_cond_destroy(&pool->wake);
    pthread_mutex_destroy(&pool->lock);
    sp_release(pool->workers);
    sp_release(pool);
}
