#ifndef SP_CLOCK_H
#define SP_CLOCK_H
/* Time that only goes forward, for durations. */
#include <time.h>

static inline double sp_clock_ms(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec * 1e3 + (double)t.tv_nsec * 1e-6;
}

#endif
