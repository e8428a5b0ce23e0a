/* The kernel half of the emulator: threads as fibers, barriers, shuffles, tensor-core products. */
#include "tests/cuda/emulate_kernel.h"

#include <setjmp.h>
#include <sys/mman.h>
#include <ucontext.h>

#include <vector>

/* A barrier of the threads that reach it. */
struct barrier {
    unsigned expected, arrived, generation;
    int sum[2];
};

struct warp {
    unsigned arrived, mask, generation;
    alignas(16) unsigned char value[2][32 * 64]; /* of this exchange and of the one before */
};

struct block_state {
    barrier all;
    std::vector<warp> warps;
    std::vector<unsigned char> shared;
};

struct pending_copy {
    void *to;
    const void *from;
    bool zero;
};

struct fiber {
    sp_emulated_place place;
    block_state *block;
    unsigned lane;
    bool done;
    std::vector<pending_copy> copies;
    std::vector<size_t> groups; /* copies before the end of each committed group */
    ucontext_t start;
    jmp_buf at;
    bool started;
    unsigned char *stack;
};

static const size_t stack_bytes = 256 << 10, shared_guard = 256;
static const unsigned char guard_byte = 0xA5;

static std::vector<fiber *> fibers; /* of the running launch come first */
static size_t n_fibers, n_live, current;
static unsigned long progress; /* grows when a thread passes or ends, so that a standstill is seen */
static unsigned long stuck_since, stuck_turns;
static jmp_buf scheduler;
static ucontext_t scheduler_context;
static const std::function<void()> *running;
static barrier grid;

sp_emulated_place *sp_emulated_now;

void sp_emulated_wrong(const char *what)
{
    if (sp_emulated_now)
        std::fprintf(stderr, "emulated device: block (%u, %u, %u), thread (%u, %u, %u): %s\n", sp_emulated_now->block.x,
                     sp_emulated_now->block.y, sp_emulated_now->block.z, sp_emulated_now->thread.x,
                     sp_emulated_now->thread.y, sp_emulated_now->thread.z, what);
    else
        std::fprintf(stderr, "emulated device: %s\n", what);
    std::abort();
}

static void resume(size_t index)
{
    current = index;
    fiber *f = fibers[index];
    sp_emulated_now = &f->place;
    if (f->started) _longjmp(f->at, 1);
    f->started = true;
    setcontext(&f->start);
}

static size_t next_living()
{
    size_t next = current;
    do next = next + 1 < n_fibers ? next + 1 : 0;
    while (fibers[next]->done);
    return next;
}

/* Gives the next living thread its turn; returns when this one's comes again. */
static void yield()
{
    if (progress != stuck_since) {
        stuck_since = progress;
        stuck_turns = 0;
    } else if (++stuck_turns > 2 * n_fibers + 64) {
        sp_emulated_wrong("waits for threads that never come");
    }
    if (next_living() == current) return;
    if (_setjmp(fibers[current]->at) == 0) resume(next_living());
}

/* A fiber outlives its kernel and takes the next one's thread. */
static void fiber_main()
{
    for (;;) {
        (*running)();
        sp_emulated_copy_wait(0);
        fibers[current]->copies.clear();
        fibers[current]->done = true;
        progress++;
        n_live--;
        if (_setjmp(fibers[current]->at) != 0) continue;
        if (n_live == 0) _longjmp(scheduler, 1);
        resume(next_living());
    }
}

static fiber *make_fiber()
{
    fiber *f = new fiber();
    f->stack = static_cast<unsigned char *>(
        mmap(nullptr, stack_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0));
    if (f->stack == MAP_FAILED) sp_emulated_wrong("no memory for a thread's stack");
    getcontext(&f->start);
    f->start.uc_stack.ss_sp = f->stack;
    f->start.uc_stack.ss_size = stack_bytes;
    f->start.uc_link = &scheduler_context;
    makecontext(&f->start, fiber_main, 0);
    return f;
}

static void place_block(block_state *state, size_t first, dim3 at, dim3 grid_size, dim3 block, size_t shared)
{
    unsigned threads = block.x * block.y * block.z;
    state->all = barrier();
    state->all.expected = threads;
    state->warps.assign((threads + 31) / 32, warp());
    state->shared.assign(shared + shared_guard, 0xFF);
    std::memset(state->shared.data() + shared, guard_byte, shared_guard);
    for (unsigned i = 0; i < threads; i++) {
        if (first + i >= fibers.size()) fibers.push_back(make_fiber());
        fiber *f = fibers[first + i];
        f->place.thread = {i % block.x, i / block.x % block.y, i / (block.x * block.y)};
        f->place.block = {at.x, at.y, at.z};
        f->place.threads = block;
        f->place.blocks = grid_size;
        f->block = state;
        f->lane = i % 32;
        f->done = false;
    }
}

static void run_fibers(size_t count)
{
    n_fibers = n_live = count;
    stuck_turns = 0;
    if (_setjmp(scheduler) == 0) resume(0);
    sp_emulated_now = nullptr;
}

static void check_shared(const block_state &state, size_t shared)
{
    for (size_t i = 0; i < shared_guard; i++)
        if (state.shared[shared + i] != guard_byte) sp_emulated_wrong("a block wrote beyond its shared memory");
}

void sp_emulated_run(const std::function<void()> &kernel, bool cooperative, dim3 size, dim3 block, size_t shared)
{
    size_t blocks = static_cast<size_t>(size.x) * size.y * size.z;
    size_t threads = static_cast<size_t>(block.x) * block.y * block.z;
    size_t together = cooperative ? blocks : 1;
    std::vector<block_state> states(together);
    running = &kernel;
    grid = barrier();
    grid.expected = static_cast<unsigned>(blocks * threads);
    for (size_t first = 0; first < blocks; first += together) {
        for (size_t i = 0; i < together; i++) {
            size_t b = first + i;
            dim3 at(static_cast<unsigned>(b % size.x), static_cast<unsigned>(b / size.x % size.y),
                    static_cast<unsigned>(b / (static_cast<size_t>(size.x) * size.y)));
            place_block(&states[i], i * threads, at, size, block, shared);
        }
        run_fibers(together * threads);
        for (const block_state &state : states) check_shared(state, shared);
    }
}

void *sp_emulated_shared() { return fibers[current]->block->shared.data(); }
unsigned sp_emulated_lane() { return fibers[current]->lane; }

/* Sum of what the threads of a barrier brought. */
static int wait_at(barrier *b, int value)
{
    unsigned generation = b->generation;
    if (b->arrived == 0) b->sum[generation % 2] = 0;
    b->sum[generation % 2] += value;
    if (++b->arrived == b->expected) {
        b->arrived = 0;
        b->generation++;
        progress++;
    }
    while (b->generation == generation) yield();
    return b->sum[generation % 2];
}

void __syncthreads() { wait_at(&fibers[current]->block->all, 0); }
int __syncthreads_count(int predicate) { return wait_at(&fibers[current]->block->all, predicate != 0); }
int __syncthreads_or(int predicate) { return __syncthreads_count(predicate) != 0; }
int __syncthreads_and(int predicate) { return __syncthreads_count(predicate == 0) == 0; }
void sp_grid_sync(unsigned *counter)
{
    (void)counter;
    wait_at(&grid, 0);
}

static warp *own_warp()
{
    const sp_emulated_place &p = fibers[current]->place;
    unsigned index = p.thread.x + p.threads.x * (p.thread.y + p.threads.y * p.thread.z);
    return &fibers[current]->block->warps[index / 32];
}

const unsigned char *sp_emulated_exchange(unsigned mask, const void *value, size_t bytes)
{
    warp *w = own_warp();
    unsigned lane = fibers[current]->lane, generation = w->generation, parity = generation % 2;
    if (!(mask >> lane & 1)) sp_emulated_wrong("a lane outside the mask takes part in a warp's exchange");
    if (w->arrived && w->mask != mask) sp_emulated_wrong("lanes of a warp exchange with different masks");
    if (w->arrived >> lane & 1) sp_emulated_wrong("a lane exchanges twice");
    w->mask = mask;
    w->arrived |= 1u << lane;
    std::memcpy(w->value[parity] + 64 * lane, value, bytes);
    if (w->arrived == mask) {
        w->arrived = 0;
        w->generation++;
        progress++;
    }
    while (w->generation == generation) yield();
    return w->value[parity];
}

/* ---- copies in the background ---- */

void sp_copy_async16(void *to, const void *from, bool zero)
{
    if (reinterpret_cast<uintptr_t>(to) % 16 || (!zero && reinterpret_cast<uintptr_t>(from) % 16))
        sp_emulated_wrong("a copy of 16 bytes is not aligned");
    if (!zero && !sp_emulated_inside(from, 16))
        sp_emulated_wrong("a copy of 16 bytes comes from outside the device's memory");
    fibers[current]->copies.push_back({to, from, zero});
    unsigned char nothing[16];
    std::memset(nothing, 0xFF, sizeof nothing);
    std::memcpy(to, nothing, sizeof nothing); /* until it has arrived, nobody may read it */
}

void sp_copy_commit() { fibers[current]->groups.push_back(fibers[current]->copies.size()); }

void sp_emulated_copy_wait(int groups)
{
    fiber *f = fibers[current];
    size_t keep = static_cast<size_t>(groups);
    if (f->groups.size() <= keep) return;
    size_t done = f->groups.size() - keep, n = f->groups[done - 1];
    for (size_t i = 0; i < n; i++) {
        const pending_copy &copy = f->copies[i];
        if (copy.zero) std::memset(copy.to, 0, 16);
        else std::memcpy(copy.to, copy.from, 16);
    }
    f->copies.erase(f->copies.begin(), f->copies.begin() + static_cast<ptrdiff_t>(n));
    f->groups.erase(f->groups.begin(), f->groups.begin() + static_cast<ptrdiff_t>(done));
    for (size_t &end : f->groups) end -= n;
}

/* ---- tensor cores ---- */

static float low_half(uint32_t pair) { return sp_bf16_to_f32(static_cast<uint16_t>(pair)); }
static float high_half(uint32_t pair) { return sp_bf16_to_f32(static_cast<uint16_t>(pair >> 16)); }

/* Products are exact in float; they are added one after another in the order of their column of a. A GPU adds them in
 * an order of its own. */
void sp_mma_bf16(float d[4], const uint32_t a[4], const uint32_t b[2])
{
    struct operands { uint32_t a[4], b[2]; } own;
    std::memcpy(own.a, a, sizeof own.a);
    std::memcpy(own.b, b, sizeof own.b);
    const unsigned char *lanes = sp_emulated_exchange(0xFFFFFFFFu, &own, sizeof own);
    unsigned lane = sp_emulated_lane(), g = lane / 4, q = lane % 4;
    for (unsigned half = 0; half < 2; half++) {
        for (unsigned pair = 0; pair < 4; pair++) {
            const operands *of_a = reinterpret_cast<const operands *>(lanes + 64 * (4 * g + pair));
            uint32_t words = of_a->a[2 * half], below = of_a->a[2 * half + 1];
            for (unsigned c = 0; c < 2; c++) {
                const operands *of_b = reinterpret_cast<const operands *>(lanes + 64 * (4 * (2 * q + c) + pair));
                uint32_t column = of_b->b[half];
                float *top = &d[c], *bottom = &d[2 + c];
                *top = *top + low_half(words) * low_half(column);
                *top = *top + high_half(words) * high_half(column);
                *bottom = *bottom + low_half(below) * low_half(column);
                *bottom = *bottom + high_half(below) * high_half(column);
            }
        }
    }
}
