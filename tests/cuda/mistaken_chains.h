#ifndef SP_MISTAKEN_CHAINS_H
#define SP_MISTAKEN_CHAINS_H
/* Couplings of chains as a device works them out (kernels/cuda/chain.cuh), each a block's, and after them, if it is
 * asked for, a mistake: to see that the laws of the chains tell.
 *
 *     SP_TEST_OK(sp_mistaken_chains_open(&device, max_numbers, err));
 *     SP_TEST_OK(sp_mistaken_couple(device, &steps, SP_COUPLES_RIGHTLY, err));
 *     sp_mistaken_chains_close(device); */
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"

/* Those of exactness/wrong_chain.h that a coupling on a device can make. */
typedef enum sp_wrong_coupling {
    SP_COUPLES_RIGHTLY,
    SP_MOVES_BY_P,         /* a chain that has to move is drawn from p instead of the residual */
    SP_KEEPS_HIGH_RATIOS,  /* a state stays when its own ratio is high, without a coin, and is drawn anew otherwise */
    SP_KEEPS_OLD_NOISE,    /* the record keeps the noise of a state that stayed */
    SP_KEEPS_OLD_MEAN,     /* the record keeps the mean of the first chain */
    SP_SHARES_NOISE,       /* states that do not meet share the noise, which is not reflected */
    SP_TOSSES_ONE_COIN,    /* the coin of the first pass is used in every pass */
    SP_IGNORES_DEVIATION   /* both laws are taken to have the new deviation */
} sp_wrong_coupling;

/* Step k of n chains at positions first, first + 1, ..; arrays [n, dim] in host memory, the last four move on. */
typedef struct sp_mistaken_steps {
    size_t n, dim, k;
    uint64_t seed;
    uint32_t first, pass;
    const float *mean, *deviation;
    float *path[4]; /* states, means, deviations, noise */
} sp_mistaken_steps;

typedef struct sp_mistaken_chains sp_mistaken_chains;

#ifdef __cplusplus
extern "C" {
#endif
/* max_numbers: of n dim. */
sp_status sp_mistaken_chains_open(sp_mistaken_chains **out, size_t max_numbers, sp_error *err);
void sp_mistaken_chains_close(sp_mistaken_chains *device);
sp_status sp_mistaken_couple(sp_mistaken_chains *device, const sp_mistaken_steps *steps, sp_wrong_coupling mistake,
                             sp_error *err);
#ifdef __cplusplus
}
#endif

#endif
