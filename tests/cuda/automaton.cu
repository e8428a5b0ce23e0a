#include "kernels/cuda/loop.cuh"

extern "C" {
#include "base/arena.h"
#include "tests/cuda/automaton.h"
}

struct sp_automaton_memory {
    int32_t *next, *context_at;
    float *logits;
    size_t n_codes, n_positions, n_contexts;
    uint64_t taken; /* bit n: a pass of n pictures was queued */
    cudaStream_t stream;
    sp_cuda_loop *loop;
};

/* Logits of rows beyond the picture are NaN. */
__global__ static void automaton_kernel(sp_automaton_memory m, sp_cuda_window w)
{
    sp_wait_launch();
    uint32_t picture = blockIdx.x, first = static_cast<uint32_t>(w.first[picture]);
    int32_t *context_at = m.context_at + w.order[picture] * m.n_positions;
    for (uint32_t j = 0; threadIdx.x == 0 && j < w.n && first + j < m.n_positions; j++) {
        uint32_t at = first + j;
        context_at[at] = at ? m.next[static_cast<uint32_t>(context_at[at - 1]) * m.n_codes +
                                     static_cast<uint32_t>(w.ids[picture * w.n + j])] : 0;
    }
    __syncthreads();
    size_t streams = w.guided ? 2 : 1, each = w.n * m.n_codes;
    for (size_t i = threadIdx.x; i < streams * each; i += blockDim.x) {
        size_t stream = i / each, row = i % each / m.n_codes, code = i % m.n_codes;
        bool live = first + row < m.n_positions;
        size_t context = live ? static_cast<size_t>(context_at[first + row]) : 0;
        w.logits[(stream * w.n_pictures + picture) * each + i % each] =
            live ? m.logits[(stream * m.n_contexts + context) * m.n_codes + code] : NAN;
    }
}

static sp_status queue_pass(void *state, sp_cuda_window *window, sp_error *err)
{
    sp_automaton_memory *m = static_cast<sp_automaton_memory *>(state);
    m->taken |= static_cast<uint64_t>(1) << window->n_pictures;
    SP_CUDA(SP_LAUNCH(automaton_kernel, static_cast<unsigned>(window->n_pictures), SP_WARP, 0, m->stream, *m,
                      *window), err);
    return SP_OK;
}

static sp_status fill(sp_automaton_memory *m, const sp_automaton *a, size_t max_window, size_t max_pictures,
                      sp_error *err)
{
    size_t cells = a->n_contexts * a->n_codes;
    m->n_codes = a->n_codes;
    m->n_positions = a->n_positions;
    m->n_contexts = a->n_contexts;
    SP_CUDA(cudaStreamCreateWithFlags(&m->stream, cudaStreamNonBlocking), err);
    SP_CUDA(cudaMalloc(&m->next, cells * sizeof(int32_t)), err);
    SP_CUDA(cudaMalloc(&m->logits, 2 * cells * sizeof(float)), err);
    SP_CUDA(cudaMalloc(&m->context_at, max_pictures * a->n_positions * sizeof(int32_t)), err);
    SP_CUDA(cudaMemcpy(m->next, a->next, cells * sizeof(int32_t), cudaMemcpyHostToDevice), err);
    SP_CUDA(cudaMemcpy(m->logits, a->logits, 2 * cells * sizeof(float), cudaMemcpyHostToDevice), err);
    sp_cuda_model model = {m, queue_pass, m->stream, a->n_codes, a->n_positions, a->code_dim};
    return sp_cuda_loop_open(&m->loop, &model, max_window, max_pictures, err);
}

sp_status sp_automaton_open(sp_automaton_device *out, const sp_automaton *a, size_t max_window, size_t max_pictures,
                            sp_error *err)
{
    out->memory = static_cast<sp_automaton_memory *>(sp_alloc(1, sizeof *out->memory));
    if (!out->memory) return SP_FAIL(err, SP_ENOMEM, "automaton: no memory");
    SP_TRY(fill(out->memory, a, max_window, max_pictures, err));
    out->loop = sp_cuda_loop_of(out->memory->loop);
    return SP_OK;
}

uint64_t sp_automaton_taken(sp_automaton_device *device)
{
    uint64_t taken = device->memory->taken;
    device->memory->taken = 0;
    return taken;
}

void sp_automaton_close(sp_automaton_device *device)
{
    sp_automaton_memory *m = device->memory;
    if (!m) return;
    sp_cuda_loop_close(m->loop);
    cudaFree(m->next);
    cudaFree(m->logits);
    cudaFree(m->context_at);
    if (m->stream) cudaStreamDestroy(m->stream);
    sp_release(m);
}

#if defined(__CUDACC__)
void sp_automaton_lose(long) {}
size_t sp_automaton_allocations(void) { return 0; }
#else
void sp_automaton_lose(long calls)
{
    sp_emulate_lose(calls);
    cudaGetLastError();
}
size_t sp_automaton_allocations(void) { return sp_emulate_allocations(); }
#endif
