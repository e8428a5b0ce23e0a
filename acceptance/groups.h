#ifndef SP_GROUPS_H
#define SP_GROUPS_H
/* Static groups of codes for gsd: disjoint, of near codes. */
#include "acceptance/accept.h"

/* group_of [n_codes] from codes [n_codes, code_dim]: code 0 and the size - 1 codes nearest to it are group 0; the first
 * code left and its nearest among those left are group 1, and so on; the last group may be smaller. Near is by
 * sp_code_distance, the smaller code first among equals. 1 <= size <= SP_MAX_GROUP. */
void sp_groups_build(const float *codes, size_t n_codes, size_t code_dim, size_t size, int32_t *group_of);

#endif
