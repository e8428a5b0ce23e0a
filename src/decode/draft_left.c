/* The token to the left; in the first column the one above. */
#include "decode/drafter.h"

sp_draft sp_draft_left(const sp_draft_query *q)
{
    if (q->position % q->columns > 0) return (sp_draft){q->tokens[q->position - 1], SP_LAW_POINT};
    return q->position >= q->columns ? (sp_draft){q->tokens[q->position - q->columns], SP_LAW_POINT}
                                     : sp_draft_uniform(q);
}
