#include "tests/cuda/faults.h"

#include "tests/cuda/emulate.h"

bool sp_fault_possible() { return true; }
void sp_fault_memory(size_t bytes) { sp_emulate_memory(bytes); }
void sp_fault_lose(long calls)
{
    sp_emulate_lose(calls);
    if (calls < 0) cudaGetLastError(); /* a new device */
}
size_t sp_fault_allocations() { return sp_emulate_allocations(); }
