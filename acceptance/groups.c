#include "acceptance/groups.h"

enum { NONE = -1 };

/* The limit nearest codes so far, the nearest first. */
typedef struct nearest {
    int32_t code[SP_MAX_GROUP];
    float distance[SP_MAX_GROUP];
    size_t n, limit;
} nearest;

static void offer(nearest *list, int32_t code, float distance)
{
    size_t at = list->n < list->limit ? list->n++ : list->limit;
    for (; at > 0 && list->distance[at - 1] > distance; at--) {
        if (at == list->limit) continue;
        list->code[at] = list->code[at - 1];
        list->distance[at] = list->distance[at - 1];
    }
    if (at == list->limit) return;
    list->code[at] = code;
    list->distance[at] = distance;
}

void sp_groups_build(const float *codes, size_t n_codes, size_t code_dim, size_t size, int32_t *group_of)
{
    int32_t groups = 0;
    for (size_t i = 0; i < n_codes; i++) group_of[i] = NONE;
    for (size_t first = 0; first < n_codes; first++) {
        if (group_of[first] != NONE) continue;
        nearest list;
        list.n = 0;
        list.limit = size - 1;
        for (size_t i = first + 1; i < n_codes; i++)
            if (group_of[i] == NONE)
                offer(&list, (int32_t)i, sp_code_distance(codes + first * code_dim, codes + i * code_dim, code_dim));
        group_of[first] = groups;
        for (size_t i = 0; i < list.n; i++) group_of[list.code[i]] = groups;
        groups++;
    }
}
