#include "cli/shard.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/number.h"

enum { MOST = 1000000 };

static sp_status read_variable(const char *name, int64_t low, int64_t fallback, int64_t *out, sp_error *err)
{
    const char *text = getenv(name);
    *out = fallback;
    if (text == NULL || sp_number_integer(text, low, INT32_MAX, out)) return SP_OK;
    return SP_FAIL(err, SP_EARG, "%s: '%.80s' is not a whole number from %d to %d; unset it or give --shard I/N", name,
                   text, (int)low, (int)INT32_MAX);
}

static sp_status set_shard(sp_run_shard *out, int64_t index, int64_t count, const char *origin, sp_error *err)
{
    if (index >= count || count > MOST)
        return SP_FAIL(err, SP_EARG, "%s: shard %lld of %lld, expected 0 to %lld of at most %d; give --shard I/N",
                       origin, (long long)index, (long long)count, (long long)count - 1, (int)MOST);
    *out = (sp_run_shard){(size_t)index, (size_t)count, origin};
    return SP_OK;
}

static sp_status from_slurm(sp_run_shard *out, sp_error *err)
{
    int64_t id, least, step, jobs, task, tasks;
    SP_TRY(read_variable("SLURM_ARRAY_TASK_MIN", 0, 0, &least, err));
    SP_TRY(read_variable("SLURM_ARRAY_TASK_ID", least, least, &id, err));
    SP_TRY(read_variable("SLURM_ARRAY_TASK_STEP", 1, 1, &step, err));
    SP_TRY(read_variable("SLURM_ARRAY_TASK_COUNT", 1, 1, &jobs, err));
    SP_TRY(read_variable("SLURM_PROCID", 0, 0, &task, err));
    SP_TRY(read_variable("SLURM_NTASKS", 1, 1, &tasks, err));
    return set_shard(out, (id - least) / step * tasks + task, jobs * tasks, "Slurm", err);
}

sp_status sp_run_shard_parse(const char *text, sp_run_shard *out, sp_error *err)
{
    *out = (sp_run_shard){0, 1, NULL};
    if (strcmp(text, "auto") == 0) {
        if ((getenv("SLURM_ARRAY_TASK_ID") && getenv("SLURM_ARRAY_TASK_COUNT")) ||
            (getenv("SLURM_PROCID") && getenv("SLURM_NTASKS")))
            return from_slurm(out, err);
        if (getenv("OMPI_COMM_WORLD_RANK") == NULL || getenv("OMPI_COMM_WORLD_SIZE") == NULL) return SP_OK;
        int64_t rank, size;
        SP_TRY(read_variable("OMPI_COMM_WORLD_RANK", 0, 0, &rank, err));
        SP_TRY(read_variable("OMPI_COMM_WORLD_SIZE", 1, 1, &size, err));
        return set_shard(out, rank, size, "Open MPI", err);
    }
    char index[32];
    const char *slash = strchr(text, '/');
    size_t length = slash != NULL ? (size_t)(slash - text) : sizeof index;
    int64_t i, n;
    if (length < sizeof index) {
        memcpy(index, text, length);
        index[length] = '\0';
        if (sp_number_integer(index, 0, MOST - 1, &i) && sp_number_integer(slash + 1, 1, MOST, &n) && i < n)
            return set_shard(out, i, n, "--shard", err);
    }
    return SP_FAIL(err, SP_EARG, "--shard: '%.80s' is not auto or I/N with I from 0 to N - 1 and N at most %d", text,
                   (int)MOST);
}
