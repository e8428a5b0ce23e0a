#ifndef SP_SHARD_H
#define SP_SHARD_H
/* Which part of a list this process draws: items whose number modulo count is index.
 *
 * text is I/N, or auto, which takes the first of these that the environment has:
 * 1. Slurm: SLURM_ARRAY_TASK_ID, _MIN (0), _STEP (1) and _COUNT for the job array, SLURM_PROCID and SLURM_NTASKS for
 *    the tasks of srun; with both, index = (ID - MIN) / STEP * NTASKS + PROCID of COUNT * NTASKS.
 * 2. Open MPI: OMPI_COMM_WORLD_RANK of OMPI_COMM_WORLD_SIZE.
 * 3. neither: 0 of 1. */
#include <stddef.h>

#include "base/error.h"

typedef struct sp_run_shard {
    size_t index, count;
    const char *origin; /* what decided: "--shard", "Slurm", "Open MPI" or NULL */
} sp_run_shard;

SP_CHECK sp_status sp_run_shard_parse(const char *text, sp_run_shard *out, sp_error *err);

#endif
