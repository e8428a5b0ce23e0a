/* Launches that overlap: what a kernel reads and writes after sp_wait_launch is as if each had run alone, directly and
 * in a graph; and the emulator shows what one reads ahead of it. */
#include "tests/cuda/device_test.cuh"

#include "tests/cuda/faults.h"

enum { BLOCKS = 40, THREADS = 64, COUNT = BLOCKS * THREADS, LINKS = 60 };

/* to[i] = from[i + 1] + from[i] + weights[i], round the end; weights may be read at any time. early: as is wrong. */
__global__ void link_kernel(const unsigned *weights, const unsigned *from, unsigned *to, bool early)
{
    unsigned i = blockIdx.x * THREADS + threadIdx.x, weight = weights[i];
    unsigned ahead = early ? from[(i + 1) % COUNT] : 0;
    sp_wait_launch();
    to[i] = (early ? ahead : from[(i + 1) % COUNT]) + from[i] + weight;
}

static std::vector<unsigned> expected(const std::vector<unsigned> &weights)
{
    std::vector<unsigned> x(COUNT, 1), y(COUNT);
    for (int link = 0; link < LINKS; link++) {
        for (unsigned i = 0; i < COUNT; i++) y[i] = x[(i + 1) % COUNT] + x[i] + weights[i];
        x = y;
    }
    return x;
}

static void queue(cudaStream_t stream, const unsigned *weights, unsigned *const x[2], bool early)
{
    for (int link = 0; link < LINKS; link++)
        SP_TEST_CUDA(SP_LAUNCH(link_kernel, BLOCKS, THREADS, 0, stream, weights, x[link % 2], x[1 - link % 2], early));
}

/* How many of 8 runs end in other numbers than they should. */
static int wrong_runs(bool early, bool graph)
{
    std::vector<unsigned> weights(COUNT), ones(COUNT, 1);
    for (unsigned i = 0; i < COUNT; i++) weights[i] = i * 2654435761u;
    sp_buffer<unsigned> w(weights), a(COUNT), b(COUNT);
    unsigned *const x[2] = {a.at(), b.at()};
    cudaStream_t stream;
    cudaGraph_t recorded;
    cudaGraphExec_t ready = nullptr;
    SP_TEST_CUDA(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking));
    if (graph) {
        SP_TEST_CUDA(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal));
        queue(stream, w.at(), x, early);
        SP_TEST_CUDA(cudaStreamEndCapture(stream, &recorded));
        SP_TEST_CUDA(cudaGraphInstantiate(&ready, recorded, 0));
        SP_TEST_CUDA(cudaGraphDestroy(recorded));
    }
    int wrong = 0;
    for (int run = 0; run < 8; run++) {
        a.fill(ones);
        if (graph) SP_TEST_CUDA(cudaGraphLaunch(ready, stream));
        else queue(stream, w.at(), x, early);
        SP_TEST_CUDA(cudaStreamSynchronize(stream));
        wrong += (LINKS % 2 ? b : a).read() != expected(weights);
    }
    if (graph) SP_TEST_CUDA(cudaGraphExecDestroy(ready));
    SP_TEST_CUDA(cudaStreamDestroy(stream));
    return wrong;
}

static void as_if_alone(void **)
{
    assert_int_equal(wrong_runs(false, false), 0);
    assert_int_equal(wrong_runs(false, true), 0);
}

/* Each run has 60 chances. */
static void early_reads_show(void **)
{
    if (!sp_fault_possible()) skip();
    assert_int_equal(wrong_runs(true, false), 8);
    assert_int_equal(wrong_runs(true, true), 8);
}

int main()
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(as_if_alone), cmocka_unit_test(early_reads_show)};
    return cmocka_run_group_tests(tests, nullptr, nullptr);
}
