/* The token above; in the first row the one to the left. */
#include "decode/drafter.h"

int32_t sp_draft_above(const sp_draft_query *q)
{
    if (q->position >= q->columns) return q->tokens[q->position - q->columns];
    return q->position > 0 ? q->tokens[q->position - 1] : sp_draft_uniform(q);
}
