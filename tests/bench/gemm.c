/* The row-invariant gemm against OpenBLAS and oneDNN.
 *
 *     OPENBLAS_CORETYPE=SkylakeX bench_gemm THREADS [emoji | b | xl | all [KERNELS]]
 *
 * Cold: every call takes another copy of the weights, COLD_BYTES in all, so that they come from beyond the second
 * level of cache, as in a model; warm: one copy. Methods take turns, ROUNDS times; between turns the program sleeps, so
 * that threads of the last one stop spinning. A time is the median over rounds of the mean of one turn. Ours rounds the
 * activations inside the call, oneDNN's bf16 gets them rounded. A ratio is the time of the fastest library
 * over ours. */
#include <cblas.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/arena.h"
#include "base/clock.h"
#include "base/philox.h"
#include "bench.h"

enum { ROUNDS = 11, COLD_BYTES = 32 << 20, TURN_US = 3000, PAUSE_MS = 5 };

typedef struct shape {
    const char *group;
    size_t k, n;
} shape;

static const shape shapes[] = {
    {"emoji", 256, 768},  {"emoji", 256, 256},  {"emoji", 256, 1408}, {"emoji", 704, 256},  {"emoji", 256, 1024},
    {"b", 768, 2304},     {"b", 768, 768},      {"b", 768, 4096},     {"b", 2048, 768},     {"b", 768, 16384},
    {"xl", 1280, 3840},   {"xl", 1280, 1280},   {"xl", 1280, 7168},   {"xl", 3584, 1280},   {"xl", 1280, 16384},
};
static const size_t row_counts[] = {1, 2, 4, 8, 16, 32, 64, 128};

void bench_fail(const char *what)
{
    fprintf(stderr, "bench_gemm: %s\n", what);
    exit(1);
}

static double now_us(void)
{
    return sp_clock_ms() * 1e3;
}

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* A wrong product is no measurement: distance from double sums, at most k roundings of the sum of magnitudes. */
static void verify(const bench_method *method, const bench_problem *p)
{
    double unit = method->rounds ? 1.0 / 256 : (double)p->k / (1 << 24);
    for (size_t column = 0; column < p->n; column += p->n / 7) {
        size_t row = column % p->rows;
        double sum = 0, magnitude = 0;
        for (size_t i = 0; i < p->k; i++) {
            double term = (double)p->x[row * p->k + i] * (double)p->weights[column * p->k + i];
            sum += term;
            magnitude += fabs(term);
        }
        if (!(fabs(sum - (double)p->y[row * p->n + column]) <= unit * magnitude)) {
            fprintf(stderr, "bench_gemm: %s: wrong product at %zu, %zu\n", method->name, row, column);
            exit(1);
        }
    }
}

/* Values in [-1, 1); 64-byte aligned; sp_release. */
static float *random_values(size_t count, uint32_t stream)
{
    float *values = sp_alloc(count, sizeof *values);
    if (!values) bench_fail("out of memory");
    for (size_t i = 0; i < count; i++) {
        sp_philox_block block = sp_philox(stream, (uint32_t)i, 0, 0, 0);
        values[i] = (float)((double)block.word[0] / 2147483648.0 - 1.0);
    }
    return values;
}

static double turn_us(const bench_method *method, void *state, const bench_problem *p, size_t calls)
{
    nanosleep(&(struct timespec){0, PAUSE_MS * 1000000L}, NULL);
    for (size_t c = 0; c < 2; c++) method->run(state, p, c % p->n_copies);
    double start = now_us();
    for (size_t c = 0; c < calls; c++) method->run(state, p, c % p->n_copies);
    return (now_us() - start) / (double)calls;
}

/* Median microseconds of a call, a method. */
static void measure(const bench_problem *p, double median[BENCH_METHODS])
{
    void *states[BENCH_METHODS];
    size_t calls[BENCH_METHODS];
    double times[BENCH_METHODS][ROUNDS];
    for (size_t m = 0; m < BENCH_METHODS; m++) {
        states[m] = bench_methods[m].open(p);
        memset(p->y, 0xFF, p->rows * p->n * sizeof *p->y);
        bench_methods[m].run(states[m], p, p->n_copies - 1);
        verify(&bench_methods[m], p);
        double once = turn_us(&bench_methods[m], states[m], p, p->n_copies);
        calls[m] = (size_t)fmin(1e6, fmax((double)p->n_copies, ceil(TURN_US / once)));
    }
    for (size_t round = 0; round < ROUNDS; round++)
        for (size_t m = 0; m < BENCH_METHODS; m++) times[m][round] = turn_us(&bench_methods[m], states[m], p, calls[m]);
    for (size_t m = 0; m < BENCH_METHODS; m++) {
        qsort(times[m], ROUNDS, sizeof times[m][0], by_value);
        median[m] = times[m][ROUNDS / 2];
        bench_methods[m].close(states[m], p);
    }
}

static double fastest(const double median[BENCH_METHODS], sp_dtype dtype)
{
    double best = INFINITY;
    for (size_t m = 0; m < BENCH_METHODS; m++)
        if (!bench_methods[m].ours && bench_methods[m].dtype == dtype) best = fmin(best, median[m]);
    return best;
}

static void print_row(const bench_problem *p, const double median[BENCH_METHODS])
{
    printf("%5zu %6zu %5zu %s", p->k, p->n, p->rows, p->n_copies > 1 ? "cold" : "warm");
    for (size_t m = 0; m < BENCH_METHODS; m++) {
        printf(" %10.1f", median[m]);
        if (!bench_methods[m].ours) continue;
        size_t bytes = p->k * p->n * (bench_methods[m].dtype == SP_F32 ? 4 : 2);
        printf(" %6.1f %5.2f", (double)bytes / median[m] / 1e3, fastest(median, bench_methods[m].dtype) / median[m]);
    }
    printf("\n");
    fflush(stdout);
}

static void compare(bench_problem *p, const shape *s)
{
    size_t bytes = s->k * s->n * 2, n_cold = (COLD_BYTES + bytes - 1) / bytes;
    p->k = s->k;
    p->n = s->n;
    float *weights = random_values(s->n * s->k, 1);
    uint16_t *half = sp_alloc(s->n * s->k, sizeof *half);
    if (!half) bench_fail("out of memory");
    for (size_t i = 0; i < s->n * s->k; i++) {
        half[i] = sp_f32_to_bf16(weights[i]);
        weights[i] = sp_bf16_to_f32(half[i]);
    }
    p->weights = weights;
    p->half = half;
    for (size_t r = 0; r < sizeof row_counts / sizeof *row_counts; r++) {
        p->rows = row_counts[r];
        float *x = random_values(p->rows * s->k, 2);
        p->x = x;
        p->y = random_values(p->rows * s->n, 3);
        for (int warm = 0; warm < 2; warm++) {
            double median[BENCH_METHODS];
            p->n_copies = warm ? 1 : n_cold < 2 ? 2 : n_cold;
            measure(p, median);
            print_row(p, median);
        }
        sp_release(x);
        sp_release(p->y);
    }
    sp_release(half);
    sp_release(weights);
}

int main(int argc, char **argv)
{
    long threads = argc > 1 ? strtol(argv[1], NULL, 10) : 0;
    const char *group = argc > 2 ? argv[2] : "all";
    bench_problem p = {.threads = (int)threads, .ops = sp_ops_find(argc > 3 ? argv[3] : "auto")};
    if (threads < 1 || threads > 64 || !p.ops) bench_fail("usage: bench_gemm THREADS [emoji | b | xl | all [KERNELS]]");
    sp_error err = {0};
    if (sp_pool_open(&p.pool, p.threads, &err) != SP_OK) bench_fail(err.message);
    printf("threads %d, ours %s, OpenBLAS core %s, %d rounds; us a call, then GB/s of weights and ratio for ours\n",
           p.threads, p.ops->name, openblas_get_corename(), ROUNDS);
    printf("    k      n  rows cache");
    for (size_t m = 0; m < BENCH_METHODS; m++)
        printf(bench_methods[m].ours ? " %10s   GB/s ratio" : " %10s", bench_methods[m].name);
    printf("\n");
    for (size_t s = 0; s < sizeof shapes / sizeof *shapes; s++)
        if (strcmp(group, "all") == 0 || strcmp(group, shapes[s].group) == 0) compare(&p, &shapes[s]);
    sp_pool_close(p.pool);
    return 0;
}
