#ifndef SP_EMULATE_KERNEL_H
#define SP_EMULATE_KERNEL_H
/* Between the two halves of the emulator: runs every thread of a launch to its end. The caller holds the lock. */
#include "tests/cuda/emulate.h"

void sp_emulated_run(const std::function<void()> &kernel, bool cooperative, dim3 grid, dim3 block, size_t shared);

/* bytes of NaN bits that end, rounded up to 16, where memory ends that may be read or written; NULL: there are none. */
unsigned char *sp_emulated_guarded(size_t bytes);

/* Whether bytes from here lie in one allocation of the device. */
bool sp_emulated_inside(const void *at, size_t bytes);

#endif
