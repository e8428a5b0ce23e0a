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
    barrier all, launch; /* launch: of the threads that wait for the launch before */
    std::vector<warp> warps;
    unsigned char *memory, *shared; /* all that a block may have, and what this one asked for, which is its end */
};

struct pending_copy {
    void *to; /* NULL: it has arrived */
    const void *from;
    bool zero;
};

struct fiber {
    sp_emulated_place place;
    block_state *block;
    unsigned lane;
    bool done, waited; /* waited: for the launch before */
    std::vector<pending_copy> copies;
    std::vector<size_t> groups; /* copies before the end of each committed group */
    ucontext_t start;
    jmp_buf at;
    bool started;
    unsigned char *stack;
};

static const size_t stack_bytes = 256 << 10, most_shared = 227 << 10;

/* A launch that runs, and the one before it, which may run inside one of its threads. */
struct launch {
    std::vector<fiber *> fibers; /* of the running launch come first */
    std::vector<block_state> states;
    size_t n_fibers, n_live, current, next_turn;
    unsigned long progress; /* grows when a thread passes or ends, so that a standstill is seen */
    unsigned long stuck_since, stuck_turns;
    jmp_buf scheduler;
    ucontext_t scheduler_context;
    const sp_emulated_work *work, *before;
    barrier grid;
};

static launch launches[2], *running = &launches[0];

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
    running->current = index;
    fiber *f = running->fibers[index];
    sp_emulated_now = &f->place;
    if (f->started) _longjmp(f->at, 1);
    f->started = true;
    setcontext(&f->start);
}

/* The next living thread among those from first on. */
static size_t next_living(size_t first, size_t count)
{
    size_t next = running->current;
    do next = next + 1 < first + count ? next + 1 : first;
    while (running->fibers[next]->done);
    return next;
}

/* Gives the next living thread its turn, of this one's warp or of all; returns when this one's comes again. So a warp
 * runs ahead of the others until it has to wait for them. */
static void yield(bool own_warp)
{
    if (running->progress != running->stuck_since) {
        running->stuck_since = running->progress;
        running->stuck_turns = 0;
    } else if (++running->stuck_turns > 2 * running->n_fibers + 64) {
        sp_emulated_wrong("waits for threads that never come");
    }
    running->next_turn = own_warp ? next_living(running->current / 32 * 32, 32) : next_living(0, running->n_fibers);
    if (running->next_turn == running->current) return;
    if (_setjmp(running->fibers[running->current]->at) == 0) resume(running->next_turn);
}

/* A fiber outlives its kernel and takes the next one's thread. */
static void fiber_main()
{
    for (;;) {
        running->work->kernel();
        fiber *f = running->fibers[running->current];
        if (!running->work->cooperative && !f->waited) sp_emulated_wrong("ends without sp_wait_launch");
        sp_emulated_copy_wait(0);
        f->copies.clear();
        f->done = true;
        running->progress++;
        running->n_live--;
        if (_setjmp(f->at) != 0) continue;
        if (running->n_live == 0) _longjmp(running->scheduler, 1);
        resume(next_living(0, running->n_fibers));
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
    f->start.uc_link = &running->scheduler_context;
    makecontext(&f->start, fiber_main, 0);
    return f;
}

/* Which thread of a block takes its turn as number i: warps from any one on, forwards or backwards, and lanes in any of
 * 32 orders, by bits that differ from block to block. */
static unsigned thread_of_turn(unsigned i, unsigned warps, unsigned bits)
{
    unsigned start = (bits >> 6) % warps, w = bits & 32 ? start + warps - i / 32 : start + i / 32;
    return w % warps * 32 + (i % 32 ^ (bits & 31));
}

unsigned sp_emulated_bits()
{
    static const char *seed = std::getenv("SP_EMULATE_SEED");
    static uint64_t state = seed ? std::strtoull(seed, nullptr, 10) : 0;
    state = state * 6364136223846793005u + 1442695040888963407u;
    return static_cast<unsigned>(state >> 40);
}

static void place_block(block_state *state, size_t first, dim3 at, dim3 grid_size, dim3 block, size_t shared)
{
    unsigned threads = block.x * block.y * block.z, bits = sp_emulated_bits();
    state->all = state->launch = barrier();
    state->all.expected = state->launch.expected = threads;
    state->warps.assign((threads + 31) / 32, warp());
    if (!state->memory) state->memory = sp_emulated_guarded(most_shared);
    if (!state->memory) sp_emulated_wrong("no memory for a block");
    shared = (shared + 15) / 16 * 16;
    state->shared = state->memory + most_shared - shared;
    std::memset(state->shared, 0xFF, shared);
    for (unsigned turn = 0; turn < threads; turn++) {
        unsigned i = thread_of_turn(turn, threads / 32, bits);
        if (first + turn >= running->fibers.size()) running->fibers.push_back(make_fiber());
        fiber *f = running->fibers[first + turn];
        f->place.thread = {i % block.x, i / block.x % block.y, i / (block.x * block.y)};
        f->place.block = {at.x, at.y, at.z};
        f->place.threads = block;
        f->place.blocks = grid_size;
        f->block = state;
        f->lane = i % 32;
        f->done = f->waited = false;
    }
}

static void run_fibers(size_t count)
{
    running->n_fibers = running->n_live = count;
    running->stuck_turns = 0;
    if (_setjmp(running->scheduler) == 0) resume(0);
    sp_emulated_now = nullptr;
}

/* Into the launch that runs. */
static void run_blocks()
{
    const sp_emulated_work &w = *running->work;
    size_t blocks = static_cast<size_t>(w.grid.x) * w.grid.y * w.grid.z;
    size_t threads = static_cast<size_t>(w.block.x) * w.block.y * w.block.z;
    size_t together = w.cooperative ? blocks : 1;
    bool backwards = sp_emulated_bits() & 1;
    if (running->states.size() < together) running->states.resize(together);
    running->grid = barrier();
    running->grid.expected = static_cast<unsigned>(blocks * threads);
    for (size_t first = 0; first < blocks; first += together) {
        for (size_t i = 0; i < together; i++) {
            size_t b = backwards ? blocks - 1 - first - i : first + i;
            dim3 at(static_cast<unsigned>(b % w.grid.x), static_cast<unsigned>(b / w.grid.x % w.grid.y),
                    static_cast<unsigned>(b / (static_cast<size_t>(w.grid.x) * w.grid.y)));
            place_block(&running->states[i], i * threads, at, w.grid, w.block, w.shared);
        }
        run_fibers(together * threads);
    }
}

void sp_emulated_run(const sp_emulated_work &work, const sp_emulated_work *before)
{
    running->work = &work;
    running->before = before;
    run_blocks();
}

/* Runs the launch before, from inside a thread of this one. */
static void run_before()
{
    sp_emulated_place *place = sp_emulated_now;
    const sp_emulated_work *work = running->before;
    running->before = nullptr;
    running = &launches[1];
    sp_emulated_run(*work, nullptr);
    running = &launches[0];
    running->progress++;
    sp_emulated_now = place;
}

void *sp_emulated_shared() { return running->fibers[running->current]->block->shared; }
unsigned sp_emulated_lane() { return running->fibers[running->current]->lane; }

static void deliver(pending_copy *copy)
{
    if (!copy->to) return;
    if (copy->zero) std::memset(copy->to, 0, 16);
    else std::memcpy(copy->to, copy->from, 16);
    copy->to = nullptr;
}

/* Sum of what the threads of a barrier brought. */
static int wait_at(barrier *b, int value)
{
    unsigned generation = b->generation;
    if (b->arrived == 0) b->sum[generation % 2] = 0;
    b->sum[generation % 2] += value;
    if (++b->arrived == b->expected) {
        b->arrived = 0;
        b->generation++;
        running->progress++;
    }
    while (b->generation == generation) yield(false);
    return b->sum[generation % 2];
}

/* The first block waits here for all of its threads, so that what they do before the launch ahead of them is done
 * before it; copies that they began may have read by then. */
void sp_wait_launch()
{
    fiber *f = running->fibers[running->current];
    f->waited = true;
    if (!running->before) return;
    for (pending_copy &copy : f->copies) deliver(&copy);
    wait_at(&f->block->launch, 0);
    if (running->before) run_before();
}

void __syncthreads() { wait_at(&running->fibers[running->current]->block->all, 0); }
int __syncthreads_count(int predicate)
{
    return wait_at(&running->fibers[running->current]->block->all, predicate != 0);
}
int __syncthreads_or(int predicate) { return __syncthreads_count(predicate) != 0; }
int __syncthreads_and(int predicate) { return __syncthreads_count(predicate == 0) == 0; }
void sp_grid_sync(unsigned *counter)
{
    (void)counter;
    wait_at(&running->grid, 0);
}

static warp *own_warp()
{
    const sp_emulated_place &p = running->fibers[running->current]->place;
    unsigned index = p.thread.x + p.threads.x * (p.thread.y + p.threads.y * p.thread.z);
    return &running->fibers[running->current]->block->warps[index / 32];
}

const unsigned char *sp_emulated_exchange(unsigned mask, const void *value, size_t bytes)
{
    warp *w = own_warp();
    unsigned lane = running->fibers[running->current]->lane, generation = w->generation, parity = generation % 2;
    if (!(mask >> lane & 1)) sp_emulated_wrong("a lane outside the mask takes part in a warp's exchange");
    if (w->arrived && w->mask != mask) sp_emulated_wrong("lanes of a warp exchange with different masks");
    if (w->arrived >> lane & 1) sp_emulated_wrong("a lane exchanges twice");
    w->mask = mask;
    w->arrived |= 1u << lane;
    std::memcpy(w->value[parity] + 64 * lane, value, bytes);
    if (w->arrived == mask) {
        w->arrived = 0;
        w->generation++;
        running->progress++;
    }
    while (w->generation == generation) yield(true);
    return w->value[parity];
}

/* ---- copies in the background ---- */

void sp_copy_async16(void *to, const void *from, bool zero)
{
    if (reinterpret_cast<uintptr_t>(to) % 16 || (!zero && reinterpret_cast<uintptr_t>(from) % 16))
        sp_emulated_wrong("a copy of 16 bytes is not aligned");
    if (!zero && !sp_emulated_inside(from, 16))
        sp_emulated_wrong("a copy of 16 bytes comes from outside the device's memory");
    running->fibers[running->current]->copies.push_back({to, from, zero});
    unsigned char nothing[16];
    std::memset(nothing, 0xFF, sizeof nothing);
    std::memcpy(to, nothing, sizeof nothing); /* until it has arrived, nobody may read it */
}

void sp_copy_commit()
{
    fiber *f = running->fibers[running->current];
    f->groups.push_back(f->copies.size());
}

void sp_emulated_copy_wait(int groups)
{
    fiber *f = running->fibers[running->current];
    size_t keep = static_cast<size_t>(groups);
    if (f->groups.size() <= keep) return;
    size_t done = f->groups.size() - keep, n = f->groups[done - 1];
    for (size_t i = 0; i < n; i++) deliver(&f->copies[i]);
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
