/* Microseconds of a rule's own work in a pass on a device: drafts, laws, tests, what is final, the record; everything
 * but the model, whose place is taken by logits that stay where they are. A Markdown table.
 *
 * The logits are copied into place in every pass, because a pass writes scores over them; a copy takes as long as one
 * more sweep over the rows, so what is printed is a little more than a rule takes. */
#include "tests/cuda/measure.cuh"

#include "kernels/cuda/loop.cuh"

enum { CODE_DIM = 8, WARM_UP = 20 };

struct stand_in {
    size_t codes, max_rows, passes;
    float *logits; /* [2, max_rows, codes] */
    cudaStream_t stream;
};

static sp_status copy_logits(void *state, sp_cuda_window *w, sp_error *err)
{
    const stand_in *model = static_cast<const stand_in *>(state);
    size_t bytes = (w->guided ? 2 : 1) * w->n * model->codes * sizeof(float);
    SP_CUDA(cudaMemcpyAsync(w->logits, model->logits, bytes, cudaMemcpyDeviceToDevice, model->stream), err);
    return SP_OK;
}

static sp_status open_model(stand_in *model, sp_error *err)
{
    std::vector<float> logits = sp_quick_floats(2 * model->max_rows * model->codes, 6);
    size_t bytes = logits.size() * sizeof(float);
    SP_CUDA(cudaStreamCreateWithFlags(&model->stream, cudaStreamNonBlocking), err);
    SP_CUDA(cudaMalloc(&model->logits, bytes), err);
    SP_CUDA(cudaMemcpy(model->logits, logits.data(), bytes, cudaMemcpyHostToDevice), err);
    return SP_OK;
}

/* Passes commit a token or more, so a picture of max_rows positions for each lasts. */
static sp_status measure(sp_device_loop loop, const stand_in *model, const sp_device_picture *picture, size_t rows,
                         float *us, sp_error *err)
{
    cudaEvent_t start, end;
    SP_CUDA(cudaEventCreateWithFlags(&start, cudaEventDefault), err);
    SP_CUDA(cudaEventCreateWithFlags(&end, cudaEventDefault), err);
    SP_TRY(loop.ops->gather(loop.state, 1, err));
    SP_TRY(loop.ops->begin(loop.state, 0, picture, err));
    for (size_t i = 0; i < WARM_UP; i++) SP_TRY(loop.ops->pass(loop.state, rows, err));
    SP_CUDA(cudaEventRecord(start, model->stream), err);
    for (size_t i = 0; i < model->passes; i++) SP_TRY(loop.ops->pass(loop.state, rows, err));
    SP_CUDA(cudaEventRecord(end, model->stream), err);
    SP_TRY(loop.ops->finish(loop.state, 0, NULL, err));
    SP_CUDA(cudaEventElapsedTime(us, start, end), err);
    *us *= 1000.0f / static_cast<float>(model->passes);
    SP_CUDA(cudaEventDestroy(start), err);
    SP_CUDA(cudaEventDestroy(end), err);
    return SP_OK;
}

static sp_status measure_all(const sp_measure &m, sp_error *err)
{
    static const char *const rules[] = {"ar", "pathwise", "sjd", "coupled", "gsd"};
    static const size_t windows[] = {1, 8, 16, 32, 64, 128};
    stand_in state = {16384, 128, 500, NULL, NULL};
    if (m.toy) state = {64, 8, 2, NULL, NULL};
    SP_TRY(open_model(&state, err));
    size_t positions = state.max_rows * (WARM_UP + state.passes);
    sp_cuda_model model = {&state, copy_logits, state.stream, state.codes, positions, CODE_DIM};
    sp_cuda_loop *opened;
    SP_TRY(sp_cuda_loop_open(&opened, &model, state.max_rows, 1, err));
    sp_device_loop loop = sp_cuda_loop_of(opened);
    std::vector<int32_t> starts(positions, -1);
    std::vector<float> codes = sp_quick_floats(state.codes * CODE_DIM, 1);
    printf("| rule | rows | codes | top-k | us a pass |\n|---|---|---|---|---|\n");
    for (const char *rule : rules)
        for (size_t rows : windows)
            for (size_t top_k : {static_cast<size_t>(0), state.codes / 16}) {
                if (rows > state.max_rows || (strcmp(rule, "ar") == 0 && rows > 1)) continue;
                sp_device_picture picture = {rule, 1, 0, 4.0f, 1.0f, top_k, 1.0f, starts.data(), codes.data(),
                                             CODE_DIM, 10, 0.15f, 0.5f, NULL};
                float us = 0;
                SP_TRY(measure(loop, &state, &picture, rows, &us, err));
                printf("| %s | %zu | %zu | %zu | %.2f |\n", rule, rows, state.codes, top_k, static_cast<double>(us));
            }
    sp_cuda_loop_close(opened);
    CHECK(cudaFree(state.logits));
    CHECK(cudaStreamDestroy(state.stream));
    return SP_OK;
}

int main(int argc, char **argv)
{
    sp_error err = {};
    sp_measure m = sp_measure_open("measure_rules", argc, argv);
    if (measure_all(m, &err) == SP_OK) return 0;
    fprintf(stderr, "measure_rules: %s\n", err.message);
    return 1;
}
