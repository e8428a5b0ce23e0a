#include "support.h"

#include "base/arena.h"

#if defined(__SANITIZE_ADDRESS__)
#define SP_ASAN 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define SP_ASAN 1
#endif
#endif
#ifdef SP_ASAN
#include <sanitizer/asan_interface.h>
#endif

enum { N_OBJECTS = 6 };
static const size_t COUNTS[N_OBJECTS] = {1, 64, 0, 65, 1000, 3};

static size_t requested;

static void *refuses(size_t bytes)
{
    requested = bytes;
    return NULL;
}

/* Memory as an allocator may hand it out: not zero. */
static void *dirty(size_t bytes)
{
    void *memory = aligned_alloc(64, bytes);
    if (memory) memset(memory, 0xA5, bytes);
    return memory;
}

static void fill(sp_arena *arena, unsigned char **objects)
{
    for (size_t i = 0; i < N_OBJECTS; i++) objects[i] = sp_arena_take(arena, COUNTS[i], 1);
}

static void objects_are_aligned_zeroed_and_apart(void **state)
{
    (void)state;
    sp_arena arena = {0};
    unsigned char *objects[N_OBJECTS];
    fill(&arena, objects);
    for (size_t i = 0; i < N_OBJECTS; i++) assert_null(objects[i]);
    sp_alloc_hook(dirty);
    SP_TEST_OK(sp_arena_commit(&arena, "test", err));
    sp_alloc_hook(NULL);
    fill(&arena, objects);
    for (size_t i = 0; i < N_OBJECTS; i++) {
        assert_non_null(objects[i]);
        assert_true((uintptr_t)objects[i] % 64 == 0);
        for (size_t b = 0; b < COUNTS[i]; b++) assert_int_equal(objects[i][b], 0);
        memset(objects[i], (int)i + 1, COUNTS[i]);
    }
    for (size_t i = 0; i < N_OBJECTS; i++)
        for (size_t b = 0; b < COUNTS[i]; b++) assert_int_equal(objects[i][b], i + 1);
    assert_true(arena.used == arena.bytes);
    assert_null(sp_arena_take(&arena, 1, 1));
    sp_arena_free(&arena);
    assert_null(arena.memory);
    sp_arena_free(&arena);
}

static void a_gap_is_poisoned(void **state)
{
    (void)state;
#ifdef SP_ASAN
    sp_arena arena = {0};
    unsigned char *objects[N_OBJECTS];
    fill(&arena, objects);
    SP_TEST_OK(sp_arena_commit(&arena, "test", err));
    fill(&arena, objects);
    for (size_t i = 0; i < N_OBJECTS; i++) {
        for (size_t b = 0; b < COUNTS[i]; b++) assert_false(__asan_address_is_poisoned(objects[i] + b));
        for (size_t b = 0; b < 128; b++) assert_true(__asan_address_is_poisoned(objects[i] + COUNTS[i] + b));
    }
    sp_arena_free(&arena);
#else
    skip();
#endif
}

static void overflow_makes_commit_fail(void **state)
{
    (void)state;
    const size_t cases[][2] = {{SIZE_MAX, 2}, {SIZE_MAX / 2, 1}, {(size_t)1 << 33, (size_t)1 << 33}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        sp_arena arena = {0};
        sp_error err = {0};
        assert_null(sp_arena_take(&arena, cases[i][0], cases[i][1]));
        assert_null(sp_arena_take(&arena, 16, 1));
        assert_int_equal(sp_arena_commit(&arena, "session", &err), SP_ENOMEM);
        assert_string_equal(err.message, "session: its size overflows the address space");
        assert_null(arena.memory);
    }
    sp_arena arena = {0};
    for (int i = 0; i < 8; i++) sp_arena_take(&arena, SIZE_MAX / 5, 1);
    assert_int_equal(sp_arena_commit(&arena, "sum", NULL), SP_ENOMEM);
}

static void commit_reports_what_it_needed(void **state)
{
    (void)state;
    sp_arena arena = {0};
    sp_error err = {0};
    sp_arena_take(&arena, 1000, 8);
    sp_alloc_hook(refuses);
    sp_status status = sp_arena_commit(&arena, "session", &err);
    sp_alloc_hook(NULL);
    assert_int_equal(status, SP_ENOMEM);
    assert_true(requested >= 8000);
    char number[32];
    snprintf(number, sizeof number, "%zu bytes", arena.bytes);
    assert_non_null(strstr(err.message, "session"));
    assert_non_null(strstr(err.message, number));
    sp_arena_free(&arena);
}

static void single_allocations(void **state)
{
    (void)state;
    sp_alloc_hook(dirty);
    unsigned char *memory = sp_alloc(7, 3);
    sp_alloc_hook(NULL);
    assert_non_null(memory);
    assert_true((uintptr_t)memory % 64 == 0);
    for (size_t i = 0; i < 21; i++) assert_int_equal(memory[i], 0);
    sp_release(memory);
    memory = sp_alloc(0, 8);
    assert_non_null(memory);
    sp_release(memory);
    sp_release(NULL);
    requested = 77;
    sp_alloc_hook(refuses);
    assert_null(sp_alloc(SIZE_MAX / 4, 8));
    assert_null(sp_alloc(SIZE_MAX - 10, 1));
    assert_int_equal(requested, 77);
    assert_null(sp_alloc(100, 1));
    assert_int_equal(requested, 128);
    sp_alloc_hook(NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(objects_are_aligned_zeroed_and_apart), cmocka_unit_test(a_gap_is_poisoned),
        cmocka_unit_test(overflow_makes_commit_fail),           cmocka_unit_test(commit_reports_what_it_needed),
        cmocka_unit_test(single_allocations),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
