#ifndef SP_MAP_H
#define SP_MAP_H
/* A picture of when each token was settled: dark early, bright late; below it a legend from pass 1 to the last. */
#include "specular.h"

/* passes [rows * columns] from 1. Written as PNG or JPEG, each token a square, at least 256 pixels wide. */
SP_CHECK sp_status sp_pass_map_write(const char *path, const int32_t *passes, size_t rows, size_t columns,
                                    sp_error *err);

#endif
