/* The token to the left; in the first column the one above. */
#include "decode/drafter.h"

sp_draft sp_draft_left(const sp_draft_query *q)
{
    if (q->position % q->columns > 0) return sp_draft_copy(q, q->position - 1);
    return q->position >= q->columns ? sp_draft_copy(q, q->position - q->columns) : sp_draft_uniform(q);
}
