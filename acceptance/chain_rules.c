#include <string.h>

#include "acceptance/chain.h"

#define SP_CHAIN(name) extern const sp_chain_ops sp_chain_##name;
#include "acceptance/chains.def"
#undef SP_CHAIN

#define SP_CHAIN(name) &sp_chain_##name,
static const sp_chain_ops *const rules[] = {
#include "acceptance/chains.def"
    NULL};
#undef SP_CHAIN

const sp_chain_ops *const *sp_chain_all(void) { return rules; }

const sp_chain_ops *sp_chain_find(const char *name)
{
    for (size_t i = 0; rules[i]; i++)
        if (strcmp(rules[i]->name, name) == 0) return rules[i];
    return NULL;
}

size_t sp_commit_first_change(const bool *kept, size_t n)
{
    size_t n_final = 1;
    while (n_final < n && kept[n_final - 1]) n_final++;
    return n_final;
}

size_t sp_commit_all(const bool *kept, size_t n)
{
    (void)kept;
    return n;
}
