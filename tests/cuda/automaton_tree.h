#ifndef SP_AUTOMATON_TREE_H
#define SP_AUTOMATON_TREE_H
/* The enumerable model (exactness/enumerable.h) as an automaton: a context is a node of its tree. */
#include "cuda/automaton.h"
#include "exactness/enumerable.h"

enum { SP_TREE_NODES = 341 };

static inline sp_automaton sp_automaton_tree(void)
{
    static int32_t next[SP_TREE_NODES * SP_ENUM_CODES], context_at[SP_ENUM_POSITIONS];
    static float logits[2 * SP_TREE_NODES * SP_ENUM_CODES];
    int32_t tokens[SP_ENUM_POSITIONS] = {0};
    size_t context = 0;
    for (size_t n = 0, width = 1; n < SP_ENUM_POSITIONS; n++, width *= SP_ENUM_CODES)
        for (size_t node = 0; node < width; node++, context++) {
            for (size_t i = n, rest = node; i-- > 0; rest /= SP_ENUM_CODES) tokens[i] = (int32_t)(rest % SP_ENUM_CODES);
            for (size_t v = 0; v < SP_ENUM_CODES; v++) {
                next[context * SP_ENUM_CODES + v] = (int32_t)(context * SP_ENUM_CODES + v + 1);
                for (uint32_t s = 0; s < 2; s++)
                    logits[(s * SP_TREE_NODES + context) * SP_ENUM_CODES + v] = sp_enum_logit(tokens, n, (int32_t)v, s);
            }
        }
    assert_int_equal(context, SP_TREE_NODES);
    return (sp_automaton){SP_ENUM_CODES, SP_ENUM_POSITIONS, SP_ENUM_POSITIONS, SP_TREE_NODES,
                          2, next, logits, context_at, false};
}

#endif
