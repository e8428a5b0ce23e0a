/* The counter API of cuRAND, on the host: its own header compiled for it. */
#define QUALIFIERS static inline
#include <cstdint>

#include <vector_types.h>

#include <curand_philox4x32_x.h>

extern "C" void sp_curand_philox(const uint32_t counter[4], const uint32_t key[2], uint32_t out[4]);

void sp_curand_philox(const uint32_t counter[4], const uint32_t key[2], uint32_t out[4])
{
    uint4 c = {counter[0], counter[1], counter[2], counter[3]};
    uint2 k = {key[0], key[1]};
    uint4 block = curand_Philox4x32_10(c, k);
    out[0] = block.x;
    out[1] = block.y;
    out[2] = block.z;
    out[3] = block.w;
}
