#ifndef SP_AUTOMATON_H
#define SP_AUTOMATON_H
/* A model that is two tables, on the host and on a device: the tokens so far put it in a context, and the context has
 * its logits. For tests of the decode loop.
 *
 *     sp_automaton a = {n_codes, n_positions, columns, n_contexts, code_dim, next, logits, .context_at = memory};
 *     sp_model model = sp_automaton_model(&a);
 *     SP_TEST_OK(sp_automaton_open(&device, &a, max_window, 1, err));  // then plan.loop = &device->loop */
#include "kernels/device_loop.h"
#include "model/model.h"

typedef struct sp_automaton {
    size_t n_codes, n_positions, columns, n_contexts, code_dim;
    const int32_t *next;   /* [n_contexts, n_codes] the context after a token; it begins in context 0 */
    const float *logits;   /* [2, n_contexts, n_codes] with and without the prompt */
    int32_t *context_at;   /* [n_positions] of the host's model: the context at a position */
    bool guided;
} sp_automaton;

sp_model sp_automaton_model(sp_automaton *automaton);

typedef struct sp_automaton_device {
    sp_device_loop loop;
    struct sp_automaton_memory *memory;
} sp_automaton_device;

#ifdef __cplusplus
extern "C" {
#endif
sp_status sp_automaton_open(sp_automaton_device *out, const sp_automaton *automaton, size_t max_window,
                            size_t max_pictures, sp_error *err);
void sp_automaton_close(sp_automaton_device *device); /* also of one that could not be opened */

/* Bit n: a pass of n pictures was captured since the last call. */
uint64_t sp_automaton_taken(sp_automaton_device *device);

/* As sp_emulate_lose and sp_emulate_allocations of the emulator; on a GPU nothing, and 0. */
void sp_automaton_lose(long calls);
size_t sp_automaton_allocations(void);
#ifdef __cplusplus
}
#endif

#endif
