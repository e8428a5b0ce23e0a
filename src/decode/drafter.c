#include "decode/drafter.h"

#include <string.h>

#define SP_DRAFTER(name) #name,
static const char *const names[] = {
#include "decode/drafters.def"
    NULL};
#undef SP_DRAFTER

#define SP_DRAFTER(name) sp_draft_##name,
static sp_drafter *const drafters[] = {
#include "decode/drafters.def"
};
#undef SP_DRAFTER

const char *const *sp_drafter_names(void) { return names; }

sp_drafter *sp_drafter_find(const char *name)
{
    for (size_t i = 0; names[i]; i++)
        if (strcmp(names[i], name) == 0) return drafters[i];
    return NULL;
}
