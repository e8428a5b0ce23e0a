#ifndef SP_DRAFTER_H
#define SP_DRAFTER_H
/* How a position that enters the window starts. drafters.def lists them; each is a pure function. */
#include "acceptance/accept.h"

typedef struct sp_draft_query {
    const int32_t *tokens; /* [position] final tokens, then drafts */
    size_t position, columns, n_codes;
    const sp_sampling *sampling;
} sp_draft_query;

typedef struct sp_draft {
    int32_t token;
    sp_law_kind kind; /* SP_LAW_UNIFORM: drawn by the position's own bits; SP_LAW_POINT: follows from tokens before */
    size_t copy_of;   /* of SP_LAW_POINT: 1 + the position whose token it always is; 0: it is more than a copy, and a
                       * device that cannot work it out leaves the loop to the host */
} sp_draft;

/* The token of an earlier position. */
static inline sp_draft sp_draft_copy(const sp_draft_query *query, size_t from)
{
    return (sp_draft){query->tokens[from], SP_LAW_POINT, from + 1};
}

typedef sp_draft sp_drafter(const sp_draft_query *query);

/* NULL when there is no such drafter. */
sp_drafter *sp_drafter_find(const char *name);
const char *const *sp_drafter_names(void); /* NULL at the end; the first is the default */

#define SP_DRAFTER(name) sp_drafter sp_draft_##name;
#include "decode/drafters.def"
#undef SP_DRAFTER

#endif
