#ifndef SP_TEST_FAULTS_H
#define SP_TEST_FAULTS_H
/* The faults of the emulated device (emulate.h), for tests in C. Over a GPU, where faults_none.c stands in, none is
 * possible. */
#include <stdbool.h>
#include <stddef.h>

#ifdef __cplusplus
extern "C" {
#endif
bool sp_fault_possible(void);
void sp_fault_memory(size_t bytes); /* the device has this much memory; 0: enough */
void sp_fault_lose(long calls);     /* it is lost after this many calls; < 0: never */
size_t sp_fault_allocations(void);  /* of device memory that are not freed */
#ifdef __cplusplus
}
#endif

#endif
