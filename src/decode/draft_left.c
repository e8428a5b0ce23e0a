/* The token to the left; in the first column the one above. */
#include "decode/drafter.h"

int32_t sp_draft_left(const sp_draft_query *q)
{
    if (q->position % q->columns > 0) return q->tokens[q->position - 1];
    return q->position >= q->columns ? q->tokens[q->position - q->columns] : sp_draft_uniform(q);
}
