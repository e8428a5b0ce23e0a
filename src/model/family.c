#include "model/family.h"

#include <string.h>

#define SP_FAMILY(name) extern const sp_family sp_family_##name;
#include "model/models.def"
#undef SP_FAMILY

#define SP_FAMILY(name) &sp_family_##name,
static const sp_family *const families[] = {
#include "model/models.def"
    NULL};
#undef SP_FAMILY

const sp_family *sp_family_find(const char *name)
{
    for (size_t i = 0; families[i]; i++)
        if (strcmp(families[i]->name, name) == 0) return families[i];
    return NULL;
}

const char *sp_family_names(void)
{
#define SP_FAMILY(name) #name " "
    return
#include "model/models.def"
        ;
#undef SP_FAMILY
}
