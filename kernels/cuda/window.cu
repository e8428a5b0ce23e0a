/* The windows of pictures: what enters them before a pass, and what leaves them after one. A block a picture, 3 us
 * expected on an H100: neither has much to do but wait for memory. */
#include "kernels/cuda/block.cuh"
#include "kernels/cuda/picture.cuh"

/* Drafts for the positions that enter. Each may copy the one before. */
__device__ static void start_drafts(const sp_cuda_picture *p, uint32_t live)
{
    sp_cuda_state *s = p->state;
    for (; s->known + 1 < s->first + live; s->known++) {
        int32_t start = p->starts[s->known];
        p->tokens[s->known] = start < 0 ? -1 - start : p->tokens[start];
        p->kinds[s->known % p->ring] = start < 0 ? SP_LAW_UNIFORM : SP_LAW_POINT;
    }
}

__global__ static void place_kernel(sp_cuda_picture pictures, uint32_t n)
{
    sp_wait_launch();
    sp_cuda_picture p = sp_own_picture(pictures, n);
    sp_cuda_state *s = p.state;
    uint32_t live = sp_live_rows(&p, n);
    if (threadIdx.x == 0) {
        s->begun = sp_clock_ns();
        *p.fed = static_cast<int32_t>(s->first);
        if (live) start_drafts(&p, live);
    }
    __syncthreads();
    for (uint32_t row = threadIdx.x; row < n; row += blockDim.x)
        p.ids[row] = row < live && s->first + row > 0 ? p.tokens[s->first + row - 1] : 0;
}

/* The smallest of the rows for which a value was given, as its distance from the end; 0: there is none. */
__device__ static uint32_t lowest(uint32_t from_end, uint32_t end, uint32_t *part)
{
    return end - sp_block_fold(from_end, part, sp_larger());
}

/* Sums in the order of rows, as on the host. */
__device__ static double add_deviation(const sp_cuda_picture *p, uint32_t tested)
{
    double sum = p->state->deviation;
    for (uint32_t row = 0; row < tested; row++) sum += p->rows[row].deviation;
    return sum;
}

__global__ static void commit_kernel(sp_cuda_picture pictures, uint32_t n)
{
    sp_wait_launch();
    SP_SHARED(uint32_t, part);
    sp_cuda_picture p = sp_own_picture(pictures, n);
    sp_cuda_state *s = p.state;
    uint32_t live = sp_live_rows(&p, n), first = s->first, refusals = 0, breaks = 0;
    if (live == 0) return;
    uint32_t drafts = sp_live_drafts(&p, live);
    for (uint32_t row = threadIdx.x; row < live; row += blockDim.x) {
        if (row < drafts && !p.rows[row].passed) refusals = sp_larger()(refusals, live - row);
        if (p.rows[row].broken) breaks = sp_larger()(breaks, live - row);
        p.tokens[first + row] = p.rows[row].token;
    }
    uint32_t refused = lowest(refusals, live, part), broken = lowest(breaks, live, part);
    uint32_t n_final = refused < live ? refused + 1 : live;
    for (uint32_t row = threadIdx.x; row < n_final; row += blockDim.x) p.drawn[first + row] = p.rows[row].token;
    __threadfence_system();
    __syncthreads();
    if (threadIdx.x > 0) return;
    s->deviation = add_deviation(&p, refused < drafts ? refused + 1 : drafts);
    sp_device_record *record = &p.records[s->pass];
    record->first = static_cast<int32_t>(first);
    record->n_rows = static_cast<int32_t>(live);
    record->n_final = static_cast<int32_t>(n_final);
    record->broken = broken < live ? static_cast<int32_t>(first + broken) + 1 : 0;
    record->deviation = s->deviation;
    record->model_ns = s->modelled - s->begun;
    __threadfence_system();
    *static_cast<volatile uint32_t *>(&record->done) = ++s->pass;
    if (s->known < first + live) s->known = first + live;
    s->first = broken < live ? p.n_positions : first + n_final;
}

static unsigned threads_of(size_t n) { return sp_blocks(n, SP_WARP) * SP_WARP; }

cudaError_t sp_cuda_place(cudaStream_t stream, const sp_cuda_picture *p, size_t n)
{
    return SP_LAUNCH(place_kernel, dim3(1, 1, p->n_pictures), threads_of(n), 0, stream, *p, static_cast<uint32_t>(n));
}

cudaError_t sp_cuda_commit(cudaStream_t stream, const sp_cuda_picture *p, size_t n)
{
    return SP_LAUNCH(commit_kernel, dim3(1, 1, p->n_pictures), threads_of(n), SP_MAX_WARPS * sizeof(uint32_t), stream,
                     *p, static_cast<uint32_t>(n));
}
