#ifndef SP_ARENA_H
#define SP_ARENA_H
/* One allocation, many objects, freed together. Objects are 64-byte aligned and zeroed.
 *
 *     sp_arena arena = {0};
 *     for (int pass = 0; pass < 2; pass++) {          // first measures, then hands out
 *         state->kv = sp_arena_take(&arena, n, sizeof(float));
 *         if (pass == 0) SP_TRY(sp_arena_commit(&arena, "session", err));
 *     }
 *     ... sp_arena_free(&arena);
 *
 * Before commit, take returns NULL and only adds up; the same calls in the same order must follow it.
 * A size that overflows makes commit fail. Under AddressSanitizer every object is followed by a poisoned gap. */
#include <stdbool.h>

#include "base/error.h"

typedef struct sp_arena {
    unsigned char *memory;
    size_t bytes;
    size_t used;
    bool overflow;
} sp_arena;

void *sp_arena_take(sp_arena *arena, size_t count, size_t size);
SP_CHECK sp_status sp_arena_commit(sp_arena *arena, const char *what, sp_error *err);
void sp_arena_free(sp_arena *arena);

/* Replaces the allocator of arenas and of sp_alloc, for fault tests; NULL restores malloc. Not thread-safe. */
void sp_alloc_hook(void *(*allocate)(size_t bytes));

/* Zeroed, 64-byte aligned memory, or NULL. count * size is checked. Free with sp_release. */
void *sp_alloc(size_t count, size_t size);
void sp_release(void *memory);

#endif
