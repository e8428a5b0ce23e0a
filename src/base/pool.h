#ifndef SP_POOL_H
#define SP_POOL_H
/* A fixed set of threads that run one function at a time. n_threads - 1 threads are made; the caller is the last.
 *
 *     sp_pool_run(pool, work, &arguments);  // work(&arguments, share, n_threads) for share = 0 .. n_threads - 1
 *
 * Returns when every share is done. Work is split by share alone and memory is the share's, so a result never depends
 * on timing or on which thread took which. Threads spin for a while, then sleep. */
#include "base/error.h"

typedef struct sp_pool sp_pool;
typedef void sp_pool_work(void *arguments, int thread, int n_threads);

SP_CHECK sp_status sp_pool_open(sp_pool **out, int n_threads, sp_error *err);
void sp_pool_run(sp_pool *pool, sp_pool_work *work, void *arguments);
int sp_pool_threads(const sp_pool *pool); /* 1 for NULL, which runs in the caller */
void sp_pool_close(sp_pool *pool);

/* The part [*first, *last) of n items in units of grain that belongs to a thread. */
static inline void sp_pool_share(size_t n, size_t grain, int thread, int n_threads, size_t *first, size_t *last)
{
    size_t units = (n + grain - 1) / grain, t = (size_t)thread, count = (size_t)n_threads;
    size_t begin = units * t / count * grain, end = units * (t + 1) / count * grain;
    *first = begin < n ? begin : n;
    *last = end < n ? end : n;
}

#endif
