#include <string.h>

#include "acceptance/accept.h"

#define SP_ACCEPT(name) extern const sp_accept_ops sp_accept_##name;
#include "acceptance/acceptance.def"
#undef SP_ACCEPT

#define SP_ACCEPT(name) &sp_accept_##name,
static const sp_accept_ops *const rules[] = {
#include "acceptance/acceptance.def"
    NULL};
#undef SP_ACCEPT

const sp_accept_ops *const *sp_accept_all(void) { return rules; }

const sp_accept_ops *sp_accept_find(const char *name)
{
    for (size_t i = 0; rules[i]; i++)
        if (strcmp(rules[i]->name, name) == 0) return rules[i];
    return NULL;
}
