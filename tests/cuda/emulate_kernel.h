#ifndef SP_EMULATE_KERNEL_H
#define SP_EMULATE_KERNEL_H
/* Between the two halves of the emulator. */
#include "tests/cuda/emulate.h"

struct sp_emulated_work {
    std::function<void()> kernel;
    bool cooperative;
    dim3 grid, block;
    size_t shared;
};

/* Runs every thread of a launch to its end. before: the launch queued ahead of it, which runs when the threads of a
 * block of this one have come to sp_wait_launch; NULL: it has run. The caller holds the lock. */
void sp_emulated_run(const sp_emulated_work &work, const sp_emulated_work *before);

/* Another number each time, by SP_EMULATE_SEED. */
unsigned sp_emulated_bits();

/* bytes of NaN bits that end, rounded up to 16, where memory ends that may be read or written; NULL: there are none. */
unsigned char *sp_emulated_guarded(size_t bytes);

/* Whether bytes from here lie in one allocation of the device. */
bool sp_emulated_inside(const void *at, size_t bytes);

#endif
