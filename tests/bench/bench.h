#ifndef SP_BENCH_H
#define SP_BENCH_H
/* y [rows, n] = x [rows, k] W^T by one of several methods, W in n_copies places so that a run can leave the caches
 * cold. open packs W as a method likes best; run is what is timed. */
#include "kernels/kernels.h"

typedef struct bench_problem {
    size_t rows, k, n, n_copies;
    int threads;
    sp_pool *pool;        /* of that many threads */
    const sp_ops *ops;    /* the back end of ours */
    const float *x;       /* [rows, k] */
    const float *weights; /* [n, k], bf16 numbers */
    const uint16_t *half; /* the same as bf16 */
    float *y;             /* [rows, n] out */
} bench_problem;

typedef struct bench_method {
    const char *name;
    sp_dtype dtype; /* of the weights in memory */
    bool rounds;    /* activations are rounded to bf16 */
    bool ours;
    void *(*open)(const bench_problem *problem);
    void (*run)(void *state, const bench_problem *problem, size_t copy);
    void (*close)(void *state, const bench_problem *problem);
} bench_method;

enum { BENCH_METHODS = 7 };
extern const bench_method bench_methods[BENCH_METHODS];

void bench_fail(const char *what); /* prints and ends the program */

#endif
