#include "kernels/cuda/chain.cuh"

extern "C" {
#include "base/arena.h"
#include "tests/cuda/mistaken_chains.h"
}

enum { ARRAYS = 6 }; /* of the paths, then the new laws */

struct sp_mistaken_chains {
    size_t max_numbers;
    float *memory;
};

/* One number of a chain as it was. */
struct before {
    float state, mean, noise;
};

/* Whether the state may stay by its ratio alone; of equal deviations. */
__device__ static bool ratio_is_high(const sp_cuda_head &a, const sp_chain_memory *shared)
{
    double sum = 0;
    for (int i = 0; i < a.dim; i++) sum -= shared->delta[i] * (shared->xi[i] + 0.5 * shared->delta[i]);
    return sum > -0.3;
}

/* The number with the mistake; shared is what the coupling has left. */
__device__ static void spoil(const sp_cuda_head &a, const sp_chain_draw &draw, int k, const sp_chain_memory *shared,
                             sp_wrong_coupling mistake, const before &was, sp_chain_number *x)
{
    bool met = shared->met != 0, high = mistake == SP_KEEPS_HIGH_RATIOS && ratio_is_high(a, shared);
    bool drawn = mistake == SP_KEEPS_HIGH_RATIOS ? !high : mistake == SP_MOVES_BY_P && !met;
    bool moved = drawn || (mistake == SP_SHARES_NOISE && !met);
    if (drawn) x->noise = sp_noise_at(draw, SP_DRAW_FRESH, sp_chain_fresh_draw(&draw, static_cast<size_t>(k)), x->i);
    else if (moved || (mistake == SP_KEEPS_OLD_NOISE && met)) x->noise = was.noise;
    if (moved) x->state = sp_chain_move(x->mean, x->deviation, x->noise);
    if (mistake == SP_KEEPS_OLD_MEAN) x->mean = was.mean;
    if (!high) return;
    x->noise = static_cast<float>(shared->xi[x->i] + shared->delta[x->i]);
    x->state = was.state;
}

__global__ static void couple_kernel(sp_cuda_head a, sp_chain_draw first, int k, const float *mean,
                                     const float *deviation, sp_wrong_coupling mistake)
{
    SP_SHARED(sp_chain_memory, shared);
    sp_wait_launch();
    sp_chain_draw draw = first, tossed;
    draw.position += blockIdx.x;
    tossed = draw;
    if (mistake == SP_TOSSES_ONE_COIN) tossed.pass = 0;
    sp_chain_number x = {static_cast<int>(threadIdx.x), 0.0f, 1.0f, 0.0f, 0.0f};
    bool mine = x.i < a.dim;
    size_t at = static_cast<size_t>(blockIdx.x) * static_cast<size_t>(a.dim) + threadIdx.x;
    before was = {};
    if (mine) {
        x.mean = mean[at];
        x.deviation = deviation[at];
        was = before{a.path[0][at], a.path[1][at], a.path[3][at]};
        if (mistake == SP_IGNORES_DEVIATION) a.path[2][at] = deviation[at];
    }
    sp_couple(a, tossed, k, at, shared, &x);
    if (!mine) return;
    spoil(a, draw, k, shared, mistake, was, &x);
    a.path[0][at] = x.state;
    a.path[1][at] = x.mean;
    a.path[2][at] = x.deviation;
    a.path[3][at] = x.noise;
}

sp_status sp_mistaken_chains_open(sp_mistaken_chains **out, size_t max_numbers, sp_error *err)
{
    *out = static_cast<sp_mistaken_chains *>(sp_alloc(1, sizeof **out));
    if (!*out) return SP_FAIL(err, SP_ENOMEM, "chains: no memory");
    (*out)->max_numbers = max_numbers;
    SP_CUDA(cudaMalloc(&(*out)->memory, ARRAYS * max_numbers * sizeof(float)), err);
    return SP_OK;
}

void sp_mistaken_chains_close(sp_mistaken_chains *device)
{
    if (!device) return;
    cudaFree(device->memory);
    sp_release(device);
}

sp_status sp_mistaken_couple(sp_mistaken_chains *device, const sp_mistaken_steps *s, sp_wrong_coupling mistake,
                             sp_error *err)
{
    size_t count = s->n * s->dim, bytes = count * sizeof(float);
    sp_cuda_head head = {};
    if (count > device->max_numbers) return SP_FAIL(err, SP_EBUG, "chains: %zu numbers", count);
    const float *from[ARRAYS] = {s->path[0], s->path[1], s->path[2], s->path[3], s->mean, s->deviation};
    float *at[ARRAYS];
    for (size_t i = 0; i < ARRAYS; i++) {
        at[i] = device->memory + i * device->max_numbers;
        SP_CUDA(cudaMemcpy(at[i], from[i], bytes, cudaMemcpyHostToDevice), err);
    }
    head.dim = static_cast<int>(s->dim);
    for (size_t i = 0; i < 4; i++) head.path[i] = at[i];
    sp_chain_draw draw = {s->seed, 0, s->first, s->pass};
    SP_CUDA(SP_LAUNCH(couple_kernel, static_cast<unsigned>(s->n), SP_WARP, sizeof(sp_chain_memory), NULL, head, draw,
                      static_cast<int>(s->k), at[4], at[5], mistake), err);
    for (size_t i = 0; i < 4; i++) SP_CUDA(cudaMemcpy(s->path[i], at[i], bytes, cudaMemcpyDeviceToHost), err);
    return SP_OK;
}
