/* Microseconds of a rule's own work in a pass on a device: drafts, laws, tests, what is final, the record; everything
 * but the model, whose place is taken by logits that stay where they are. One line of JSON a measurement:
 *
 *     measure_rules [PASSES]          passes of a measurement, default 1000
 *
 * The logits are copied into place in every pass, because a pass writes scores over them; a copy takes as long as one
 * more sweep over the rows, so what is printed is a little more than a rule takes. */
#include <stdio.h>
#include <stdlib.h>

#include <vector>

#include "base/philox.h"
#include "kernels/cuda/loop.cuh"

enum { CODES = 16384, CODE_DIM = 8, MAX_ROWS = 128, WARM_UP = 20 };

struct stand_in {
    float *logits; /* [2, MAX_ROWS, CODES] */
    cudaStream_t stream;
};

static sp_status copy_logits(void *state, sp_cuda_window *w, sp_error *err)
{
    const stand_in *model = static_cast<const stand_in *>(state);
    size_t bytes = (w->guided ? 2 : 1) * w->n * CODES * sizeof(float);
    SP_CUDA(cudaMemcpyAsync(w->logits, model->logits, bytes, cudaMemcpyDeviceToDevice, model->stream), err);
    return SP_OK;
}

static std::vector<float> noise(size_t count, uint32_t stream, float scale)
{
    std::vector<float> out(count);
    for (size_t i = 0; i < count; i++) {
        uint32_t word = sp_philox(stream, static_cast<uint32_t>(i), 0, 99, 7).word[0];
        out[i] = scale * static_cast<float>(static_cast<double>(word) / 2147483648.0 - 1.0);
    }
    return out;
}

static sp_status open_model(stand_in *model, sp_error *err)
{
    std::vector<float> logits = noise(static_cast<size_t>(2) * MAX_ROWS * CODES, 1, 6);
    size_t bytes = logits.size() * sizeof(float);
    SP_CUDA(cudaStreamCreateWithFlags(&model->stream, cudaStreamNonBlocking), err);
    SP_CUDA(cudaMalloc(&model->logits, bytes), err);
    SP_CUDA(cudaMemcpy(model->logits, logits.data(), bytes, cudaMemcpyHostToDevice), err);
    return SP_OK;
}

/* Passes commit a token or more, so a picture of this many positions lasts. */
static sp_status measure(sp_device_loop loop, const stand_in *model, const sp_device_picture *picture, size_t rows,
                         size_t passes, float *us, sp_error *err)
{
    cudaEvent_t start, end;
    SP_CUDA(cudaEventCreateWithFlags(&start, cudaEventDefault), err);
    SP_CUDA(cudaEventCreateWithFlags(&end, cudaEventDefault), err);
    SP_TRY(loop.ops->gather(loop.state, 1, err));
    SP_TRY(loop.ops->begin(loop.state, 0, picture, err));
    for (size_t i = 0; i < WARM_UP; i++) SP_TRY(loop.ops->pass(loop.state, rows, err));
    SP_CUDA(cudaEventRecord(start, model->stream), err);
    for (size_t i = 0; i < passes; i++) SP_TRY(loop.ops->pass(loop.state, rows, err));
    SP_CUDA(cudaEventRecord(end, model->stream), err);
    SP_TRY(loop.ops->finish(loop.state, 0, NULL, err));
    SP_CUDA(cudaEventElapsedTime(us, start, end), err);
    *us *= 1000.0f / static_cast<float>(passes);
    SP_CUDA(cudaEventDestroy(start), err);
    SP_CUDA(cudaEventDestroy(end), err);
    return SP_OK;
}

static sp_status measure_all(size_t passes, sp_error *err)
{
    static const char *const rules[] = {"ar", "pathwise", "sjd", "coupled", "gsd"};
    static const size_t windows[] = {1, 8, 16, 32, 64, 128};
    stand_in state = {};
    SP_TRY(open_model(&state, err));
    size_t positions = MAX_ROWS * (WARM_UP + passes);
    sp_cuda_model model = {&state, copy_logits, state.stream, CODES, positions, CODE_DIM};
    sp_cuda_loop *opened;
    SP_TRY(sp_cuda_loop_open(&opened, &model, MAX_ROWS, 1, err));
    sp_device_loop loop = sp_cuda_loop_of(opened);
    std::vector<int32_t> starts(positions, -1);
    std::vector<float> codes = noise(static_cast<size_t>(CODES) * CODE_DIM, 2, 1);
    for (const char *rule : rules)
        for (size_t rows : windows)
            for (size_t top_k : {0, 1000}) {
                if (strcmp(rule, "ar") == 0 && rows > 1) continue;
                sp_device_picture picture = {rule, 1, 0, 4.0f, 1.0f, top_k, 1.0f, starts.data(), codes.data(),
                                             CODE_DIM, 10, 0.15f, 0.5f, NULL};
                float us = 0;
                SP_TRY(measure(loop, &state, &picture, rows, passes, &us, err));
                printf("{\"rule\": \"%s\", \"rows\": %zu, \"codes\": %d, \"top_k\": %zu, \"us\": %.2f}\n", rule, rows,
                       CODES, top_k, static_cast<double>(us));
            }
    sp_cuda_loop_close(opened);
    cudaFree(state.logits);
    return SP_OK;
}

int main(int argc, char **argv)
{
    sp_error err = {};
    size_t passes = argc > 1 ? strtoul(argv[1], NULL, 10) : 1000;
    if (measure_all(passes ? passes : 1, &err) == SP_OK) return 0;
    fprintf(stderr, "measure_rules: %s\n", err.message);
    return 1;
}
