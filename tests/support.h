#ifndef SP_SUPPORT_H
#define SP_SUPPORT_H
/* For tests: cmocka with its includes, guarded buffers, repeatable numbers. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/arena.h"
#include "base/error.h"
#include "base/philox.h"

/* A value in [-1, 1): the i-th of a stream. */
static inline float sp_test_value(uint32_t stream, size_t i)
{
    sp_philox_block block = sp_philox(stream, (uint32_t)i, (uint32_t)((uint64_t)i >> 32), 99, 7);
    return (float)((double)block.word[0] / 2147483648.0 - 1.0);
}

/* count floats between two guards of 64 sentinels each; filled with NaN until written. */
enum { SP_TEST_GUARD = 64 };
#define SP_TEST_SENTINEL 12345.678f

static inline float *sp_test_alloc(size_t count)
{
    float *memory = malloc((count + 2 * SP_TEST_GUARD) * sizeof(float));
    if (!memory) abort();
    for (size_t i = 0; i < count + 2 * SP_TEST_GUARD; i++)
        memory[i] = i < SP_TEST_GUARD || i >= count + SP_TEST_GUARD ? SP_TEST_SENTINEL : NAN;
    return memory + SP_TEST_GUARD;
}

static inline float *sp_test_random(size_t count, uint32_t stream)
{
    float *data = sp_test_alloc(count);
    for (size_t i = 0; i < count; i++) data[i] = sp_test_value(stream, i);
    return data;
}

/* Fails the test if something wrote outside the buffer, then frees it. */
static inline void sp_test_free(float *data, size_t count)
{
    for (size_t i = 0; i < SP_TEST_GUARD; i++) {
        assert_true(data[(ptrdiff_t)i - SP_TEST_GUARD] == SP_TEST_SENTINEL);
        assert_true(data[count + i] == SP_TEST_SENTINEL);
    }
    free(data - SP_TEST_GUARD);
}

/* Allocations of sp_alloc since the last call of the two below; numbers first to last, counted from 1, fail. */
typedef struct sp_test_allocations {
    size_t n, first, last;
} sp_test_allocations;

static inline sp_test_allocations *sp_test_counted(void)
{
    static sp_test_allocations counted;
    return &counted;
}

static inline void *sp_test_allocate(size_t bytes)
{
    sp_test_allocations *c = sp_test_counted();
    c->n++;
    return c->n >= c->first && c->n <= c->last ? NULL : aligned_alloc(64, bytes);
}

/* The next n allocations of sp_alloc succeed and no other, until sp_alloc_hook(NULL). */
static inline void sp_test_allow_allocations(size_t n)
{
    *sp_test_counted() = (sp_test_allocations){.first = n + 1, .last = SIZE_MAX};
    sp_alloc_hook(sp_test_allocate);
}

/* The n-th of the next allocations fails and no other, none if n is 0; until sp_alloc_hook(NULL). */
static inline void sp_test_fail_allocation(size_t n)
{
    *sp_test_counted() = (sp_test_allocations){.first = n, .last = n};
    sp_alloc_hook(sp_test_allocate);
}

/* An empty file for a group of tests; path is mkstemp's template. Not 0, as cmocka has it, when it cannot be made. */
static inline int sp_test_file_make(char *path)
{
    FILE *file = fdopen(mkstemp(path), "w");
    return file == NULL || fclose(file) != 0;
}

#define SP_TEST_OK(call)                                                                    \
    do {                                                                                    \
        sp_error test_err_ = {0}, *err = &test_err_;                                        \
        sp_status test_status_ = (call);                                                    \
        if (test_status_ != SP_OK) fail_msg("%s: %s", #call, test_err_.message);            \
    } while (0)

#endif
