#include "tests/cuda/faults.h"

/* On a GPU. */
bool sp_fault_possible(void) { return false; }
void sp_fault_memory(size_t bytes) { (void)bytes; }
void sp_fault_lose(long calls) { (void)calls; }
size_t sp_fault_allocations(void) { return 0; }
