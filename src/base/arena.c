#include "base/arena.h"

#include <stdlib.h>
#include <string.h>

#include "base/size.h"

#if defined(__SANITIZE_ADDRESS__)
#define SP_ASAN 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define SP_ASAN 1
#endif
#endif
#ifdef SP_ASAN
#include <sanitizer/asan_interface.h>
enum { GAP = 128 };
#else
enum { GAP = 0 };
#endif

static void *plain_allocate(size_t bytes) { return aligned_alloc(64, bytes); }
static void *(*allocate)(size_t bytes) = plain_allocate;

void sp_alloc_hook(void *(*replacement)(size_t bytes)) { allocate = replacement ? replacement : plain_allocate; }

void *sp_alloc(size_t count, size_t size)
{
    size_t bytes;
    if (!sp_size_mul(count, size, &bytes) || bytes > SIZE_MAX - 64) return NULL;
    bytes = sp_round_up(bytes ? bytes : 1, 64);
    void *memory = allocate(bytes);
    if (memory) memset(memory, 0, bytes);
    return memory;
}

void sp_release(void *memory) { free(memory); }

void *sp_arena_take(sp_arena *arena, size_t count, size_t size)
{
    size_t bytes, end;
    if (!sp_size_mul(count, size, &bytes) || bytes > SIZE_MAX / 4 ||
        !sp_size_add(arena->used, sp_round_up(bytes, 64) + GAP, &end)) {
        arena->overflow = true;
        return NULL;
    }
    void *object = NULL;
    if (arena->memory) {
        if (end > arena->bytes) return NULL;
        object = arena->memory + arena->used;
#ifdef SP_ASAN
        ASAN_POISON_MEMORY_REGION((unsigned char *)object + bytes, end - arena->used - bytes);
#endif
    }
    arena->used = end;
    return object;
}

sp_status sp_arena_commit(sp_arena *arena, const char *what, sp_error *err)
{
    if (arena->overflow) return SP_FAIL(err, SP_ENOMEM, "%s: its size overflows the address space", what);
    arena->bytes = arena->used;
    arena->memory = sp_alloc(arena->bytes, 1);
    if (!arena->memory)
        return SP_FAIL(err, SP_ENOMEM, "%s: needs %zu bytes of memory and there is not so much; close other programs",
                       what, arena->bytes);
    arena->used = 0;
    return SP_OK;
}

void sp_arena_free(sp_arena *arena)
{
#ifdef SP_ASAN
    if (arena->memory) ASAN_UNPOISON_MEMORY_REGION(arena->memory, arena->bytes);
#endif
    sp_release(arena->memory);
    *arena = (sp_arena){0};
}
