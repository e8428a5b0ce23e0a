/* The token above; in the first row the one to the left. */
#include "decode/drafter.h"

sp_draft sp_draft_above(const sp_draft_query *q)
{
    if (q->position >= q->columns) return sp_draft_copy(q, q->position - q->columns);
    return q->position > 0 ? sp_draft_copy(q, q->position - 1) : sp_draft_uniform(q);
}
