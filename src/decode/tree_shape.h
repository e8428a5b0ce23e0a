#ifndef SP_TREE_SHAPE_H
#define SP_TREE_SHAPE_H
/* The static shape of a tree of drafts: how many guesses follow each guess, by rank alone. Nothing that was drafted
 * enters it, so the law of what is drawn stays what it was drawn from.
 *
 *     sp_tree_shape shape;
 *     sp_tree_shape_make(&shape, 16, 4);   // the root and 15 guesses, at most 4 after any
 *
 * Node 0 is the root. Nodes stand in order of depth, then of their parents, then of rank. Width 1 gives a chain. */
#include <stddef.h>
#include <stdint.h>

#include "specular.h"

enum { SP_TREE_WIDTH = 8, SP_TREE_DEPTH = 8, SP_TREE_ROWS = 16 };

typedef struct sp_tree_shape {
    size_t n, width;
    int32_t parent[SP_MAX_WINDOW];
    int32_t depth[SP_MAX_WINDOW];
    int32_t children[SP_MAX_WINDOW];
} sp_tree_shape;

/* n from 1 to SP_MAX_WINDOW, width from 1 to SP_TREE_WIDTH. A tree stays smaller when it is as deep and wide as it can
 * be. */
void sp_tree_shape_make(sp_tree_shape *shape, size_t n, size_t width);

#endif
