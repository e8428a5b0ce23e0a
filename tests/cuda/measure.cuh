#ifndef SP_MEASURE_CUH
#define SP_MEASURE_CUH
/* For programs that measure on a GPU: arguments, times, random weights, rows of a table. tools/gpu-check runs them.
 *
 *     int main(int argc, char **argv)
 *     {
 *         sp_measure m = sp_measure_open("measure_rates", argc, argv);
 *         double us = sp_median_us(m, [&] { CHECK(cudaStreamSynchronize(stream)); });
 *         sp_row(m, "what it is", {"<= 5 ms", 5, false}, us / 1000, "ms", "note");
 *         return sp_measure_close(m);
 *     }
 *
 * With --toy a program runs at the size of a test, for the emulator, and its rows say that they mean nothing. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <algorithm>
#include <chrono>
#include <string>
#include <vector>

#include "base/dtype.h"
#include "kernels/cuda/cuda.cuh"

struct sp_measure {
    const char *program;
    bool toy;
    int repeats;
    std::vector<const char *> arguments;
};

static inline sp_measure sp_measure_open(const char *program, int argc, char **argv)
{
    sp_measure m = {program, false, 30, {}};
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--toy") == 0) m.toy = true;
        else m.arguments.push_back(argv[i]);
    }
    if (m.toy) m.repeats = 2;
    return m;
}

static inline void sp_measure_check(cudaError_t error, const char *what)
{
    if (error == cudaSuccess) return;
    fprintf(stderr, "%s: %s\n", what, cudaGetErrorString(error));
    exit(5);
}
#define CHECK(call) sp_measure_check((call), #call)

/* A rate that was measured before, in the i-th argument; in a toy 1. */
static inline double sp_rate_argument(const sp_measure &m, size_t i, const char *what)
{
    double rate = m.toy ? 1 : i < m.arguments.size() ? atof(m.arguments[i]) : 0;
    if (rate > 0) return rate;
    fprintf(stderr, "%s: expected %s as argument %zu\n", m.program, what, i + 1);
    exit(2);
}

/* ---- times ---- */

static inline double sp_now_us()
{
    return std::chrono::duration<double, std::micro>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

static inline double sp_median(std::vector<double> values)
{
    if (values.empty()) return NAN;
    std::sort(values.begin(), values.end());
    return values[values.size() / 2];
}

/* Of a call that waits for what it starts. */
template <typename CALL> static inline double sp_median_us(const sp_measure &m, CALL call)
{
    std::vector<double> us;
    for (int i = 0; i < m.repeats + 3; i++) {
        double start = sp_now_us();
        call();
        if (i >= 3) us.push_back(sp_now_us() - start);
    }
    return sp_median(us);
}

/* Of what a call queues on a stream, by the device's clock. call(i): the i-th time. */
template <typename CALL> static inline double sp_median_queued_us(const sp_measure &m, cudaStream_t stream, CALL call)
{
    cudaEvent_t start, end;
    std::vector<double> us;
    CHECK(cudaEventCreateWithFlags(&start, cudaEventDefault));
    CHECK(cudaEventCreateWithFlags(&end, cudaEventDefault));
    for (int i = 0; i < m.repeats + 5; i++) {
        float ms;
        CHECK(cudaEventRecord(start, stream));
        call(i);
        CHECK(cudaEventRecord(end, stream));
        CHECK(cudaEventSynchronize(end));
        CHECK(cudaEventElapsedTime(&ms, start, end));
        if (i >= 5) us.push_back(1000 * static_cast<double>(ms));
    }
    CHECK(cudaEventDestroy(start));
    CHECK(cudaEventDestroy(end));
    return sp_median(us);
}

/* The same of count calls one after another, as a pass has them: captured as one graph, so that the host's launches and
 * the events are not measured. A call's share. */
template <typename CALL>
static inline double sp_median_captured_us(const sp_measure &m, cudaStream_t stream, int count, CALL call)
{
    cudaGraph_t graph;
    cudaGraphExec_t captured;
    CHECK(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal));
    for (int i = 0; i < count; i++) call(i);
    CHECK(cudaStreamEndCapture(stream, &graph));
    CHECK(cudaGraphInstantiate(&captured, graph, 0));
    double us = sp_median_queued_us(m, stream, [&](int) { CHECK(cudaGraphLaunch(captured, stream)); });
    CHECK(cudaGraphExecDestroy(captured));
    CHECK(cudaGraphDestroy(graph));
    return us / count;
}

/* ---- random numbers, of any quality but quick: zeros would take less power and so less time ---- */

static inline float sp_quick_value(uint64_t *state)
{
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    return static_cast<float>(static_cast<int32_t>(*state >> 32)) * 0x1p-31f;
}

/* Even between -spread and spread. */
static inline std::vector<float> sp_quick_floats(size_t count, float spread)
{
    std::vector<float> out(count);
    uint64_t state = 0x9E3779B97F4A7C15u;
    for (float &value : out) value = spread * sp_quick_value(&state);
    return out;
}

static inline std::vector<uint16_t> sp_quick_bf16(size_t count, float spread)
{
    std::vector<uint16_t> out(count);
    uint64_t state = 0xD1B54A32D192ED03u;
    for (uint16_t &value : out) value = sp_f32_to_bf16(spread * sp_quick_value(&state));
    return out;
}

/* ---- rows: what it is, the goal, what was measured, whether it is reached ---- */

struct sp_goal {
    const char *text; /* NULL: there is none */
    double bound;
    bool at_least;
};
static const sp_goal sp_no_goal = {NULL, 0, false};

static inline void sp_row(const sp_measure &m, const std::string &what, sp_goal goal, double value, const char *unit,
                          const std::string &note = "")
{
    bool reached = goal.at_least ? value >= goal.bound : value <= goal.bound;
    const char *verdict = m.toy ? "a toy" : !goal.text ? "" : reached ? "reached" : "not reached";
    printf("| %s | %s | %.4g %s%s%s | %s |\n", what.c_str(), goal.text ? goal.text : "", value, unit,
           note.empty() ? "" : ": ", note.c_str(), verdict);
    fflush(stdout);
}

/* What could not be measured, in the place of a row. */
static inline void sp_row_without(const char *what, const char *why)
{
    printf("| %s | | %s | not measured |\n", what, why);
    fflush(stdout);
}

#endif
