#include "model/sampler.h"

#include <string.h>

#define SP_SAMPLER(name) extern const sp_sampler sp_sampler_##name;
#include "model/samplers.def"
#undef SP_SAMPLER

#define SP_SAMPLER(name) &sp_sampler_##name,
static const sp_sampler *const samplers[] = {
#include "model/samplers.def"
    NULL};
#undef SP_SAMPLER

#define SP_SAMPLER(name) #name,
static const char *const names[] = {
#include "model/samplers.def"
    NULL};
#undef SP_SAMPLER

const sp_sampler *sp_sampler_find(const char *name)
{
    for (size_t i = 0; samplers[i]; i++)
        if (strcmp(samplers[i]->name, name) == 0) return samplers[i];
    return NULL;
}

const char *const *sp_sampler_names(void) { return names; }
