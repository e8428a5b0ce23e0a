#ifndef SP_CUDA_CHAIN_CUH
#define SP_CUDA_CHAIN_CUH
/* What becomes of a chain in one step once the head has given its law: the draw, or the coupling with the last chain of
 * its position. A block of up to 32 warps has the chain, a thread one number of it. Inside chains.cu. */
#include "kernels/cuda/head.cuh"

#include "acceptance/chain_arithmetic.h"

/* Shared memory of a chain. */
struct sp_chain_memory {
    double xi[SP_MAX_LATENT], delta[SP_MAX_LATENT], factor;
    int met;
    float part[SP_WARP];          /* of a sum over the block */
    float y[SP_MAX_LATENT];
    float out[4 * SP_MAX_LATENT]; /* [streams, outputs] */
    float u[1];                   /* [streams, width] */
};

/* Number i of the noise that starts at this draw. */
__device__ static inline float sp_noise_at(const sp_chain_draw &draw, sp_draw_purpose purpose, uint32_t first, int i)
{
    float four[4];
    sp_normals(draw.seed, draw.image, draw.position, purpose, first + (uint32_t)i / 4, 4, four);
    return i % 4 == 0 ? four[0] : i % 4 == 1 ? four[1] : i % 4 == 2 ? four[2] : four[3];
}

/* One step of one chain; a thread has one number of it. */
struct sp_chain_number {
    int i; /* dim or more: none */
    float mean, deviation, noise, state;
};

/* As couple in acceptance/chain_mirror.c: at of the paths is this number of the chain. */
__device__ static inline void sp_couple(const sp_cuda_head &a, const sp_chain_draw &draw, int k, size_t at,
                                        sp_chain_memory *shared, sp_chain_number *x)
{
    bool mine = x->i < a.dim;
    float state = mine ? a.path[0][at] : 0.0f, mean = mine ? a.path[1][at] : 0.0f;
    float deviation = mine ? a.path[2][at] : 1.0f, noise = mine ? a.path[3][at] : 0.0f;
    bool differs = mine && __float_as_uint(deviation) != __float_as_uint(x->deviation);
    bool degenerate = __syncthreads_or(mine && (!(deviation > 0.0f) || !(x->deviation > 0.0f)));
    bool unequal = __syncthreads_or(differs);
    x->noise = noise;
    if (degenerate) {
        x->state = sp_chain_move(x->mean, x->deviation, noise);
        return;
    }
    float excess = 0.0f;
    if (mine && unequal) excess = sp_noise_at(draw, SP_DRAW_FRESH, sp_chain_fresh_draw(&draw, (size_t)k), x->i);
    sp_whitened w = sp_whiten(mean, deviation, noise, x->mean, x->deviation, excess);
    if (mine) {
        shared->xi[x->i] = w.xi;
        shared->delta[x->i] = w.delta;
    }
    __syncthreads();
    if (threadIdx.x == 0) {
        double log_u = sp_chain_log_uniform(&draw, SP_DRAW_COUPLE, draw.pass << 10 | (uint32_t)k);
        shared->met = sp_mirror_meets(log_u, (size_t)a.dim, shared->xi, shared->delta, &shared->factor);
    }
    __syncthreads();
    double z = w.xi + shared->factor * w.delta;
    x->noise = sp_whitened_noise(w, x->deviation, z);
    x->state = shared->met ? state : sp_whitened_state(w, x->mean, z);
}

/* The law of the step from what the last layer gave. */
__device__ static inline void sp_chain_law(const sp_cuda_head &a, int j, int k, const float *out, float y,
                                           sp_chain_number *x)
{
    const sp_device_head_step step = a.step[k];
    float guided = out[x->i], spread = a.temperature * step.spread;
    if (a.streams > 1) guided += (a.scale[a.row[j]] - 1.0f) * (guided - out[a.outputs + x->i]);
    x->mean = step.keep * y + step.weight * guided;
    if (a.outputs > a.dim) {
        float f = 0.5f * (out[a.dim + x->i] + 1.0f);
        spread *= expf(f * step.high + (1.0f - f) * step.low);
    }
    x->deviation = spread;
}

__device__ static inline sp_chain_draw sp_draw_of(const sp_cuda_head &a, int j)
{
    sp_chain_draw draw = {a.seed, a.image, a.position[j], a.pass};
    return draw;
}

__device__ static inline void sp_start_chain(const sp_cuda_head &a, int j)
{
    int i = (int)threadIdx.x;
    if (i < a.dim) a.state[j * a.dim + i] = sp_noise_at(sp_draw_of(a, j), a.purpose, sp_chain_noise_draw(0), i);
}

/* y_{k+1} of a chain whose law of step k is out. */
__device__ static inline void sp_move_chain(const sp_cuda_head &a, int j, int k, sp_chain_memory *shared)
{
    sp_chain_draw draw = sp_draw_of(a, j);
    sp_chain_number x = {(int)threadIdx.x, 0.0f, 1.0f, 0.0f, 0.0f};
    bool mine = x.i < a.dim;
    size_t to = (size_t)j * (size_t)a.dim + (size_t)x.i, slot = draw.position % (uint32_t)a.max_rows;
    size_t at = (slot * (size_t)a.steps + (size_t)k) * (size_t)a.dim + (size_t)x.i;
    if (mine) sp_chain_law(a, j, k, shared->out, a.state[to], &x);
    if (j < a.n_coupled) {
        sp_couple(a, draw, k, at, shared, &x);
    } else if (mine) {
        x.noise = sp_noise_at(draw, a.purpose, sp_chain_noise_draw((size_t)k + 1), x.i);
        x.state = sp_chain_move(x.mean, x.deviation, x.noise);
    }
    if (!mine) return;
    a.state[to] = x.state;
    a.mean[to] = x.mean;
    a.deviation[to] = x.deviation;
    if (!a.remember) return;
    a.path[0][at] = x.state;
    a.path[1][at] = x.mean;
    a.path[2][at] = x.deviation;
    a.path[3][at] = x.noise;
}

#endif
