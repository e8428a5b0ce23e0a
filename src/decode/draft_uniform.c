/* A uniform code, a function of seed and position. */
#include "base/philox.h"
#include "decode/drafter.h"

sp_draft sp_draft_uniform(const sp_draft_query *q)
{
    sp_philox_block block = sp_philox(q->sampling->seed, 0, (uint32_t)q->position, SP_DRAW_INIT, q->sampling->image);
    return (sp_draft){(int32_t)((uint64_t)block.word[0] * q->n_codes >> 32), SP_LAW_UNIFORM, 0};
}
