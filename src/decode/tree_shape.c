#include "decode/tree_shape.h"

/* How often the guess of a rank is the one that passes when its parent did, as measured on the sample model. */
static const double passes[SP_TREE_WIDTH] = {0.40, 0.11, 0.07, 0.045, 0.037, 0.030, 0.024, 0.019};

typedef struct node {
    double value; /* how often the walk gets here */
    int32_t parent, depth, rank, children;
} node;

/* Adds the child that the walk would most often get to. False when no node takes another. */
static int add_best(node *nodes, size_t n, size_t width)
{
    size_t best = n;
    double most = 0;
    for (size_t i = 0; i < n; i++) {
        if ((size_t)nodes[i].children == width || nodes[i].depth == (width == 1 ? SP_MAX_WINDOW : SP_TREE_DEPTH))
            continue;
        double value = nodes[i].value * passes[nodes[i].children];
        if (value <= most) continue;
        most = value;
        best = i;
    }
    if (best == n) return 0;
    nodes[n] = (node){most, (int32_t)best, nodes[best].depth + 1, nodes[best].children++, 0};
    return 1;
}

void sp_tree_shape_make(sp_tree_shape *shape, size_t n, size_t width)
{
    node nodes[SP_MAX_WINDOW] = {{.value = 1}};
    size_t made = 1;
    while (made < n && add_best(nodes, made, width)) made++;
    *shape = (sp_tree_shape){.width = width, .children = {nodes[0].children}};
    /* Level by level, each in the order of the parents' places: a queue of nodes whose children come next. */
    int32_t queue[SP_MAX_WINDOW] = {0};
    size_t placed = 1;
    for (size_t head = 0; head < placed; head++)
        for (int32_t rank = 0; rank < nodes[queue[head]].children; rank++)
            for (size_t i = 1; i < made; i++) {
                if (nodes[i].parent != queue[head] || nodes[i].rank != rank) continue;
                shape->parent[placed] = (int32_t)head;
                shape->depth[placed] = nodes[i].depth;
                shape->children[placed] = nodes[i].children;
                queue[placed++] = (int32_t)i;
            }
    shape->n = placed;
}
