#ifndef SP_ROPE_H
#define SP_ROPE_H
/* Rotary angles as tables, one row a sequence position: every kind of RoPE is the making of a table.
 * 2-D: of the head_dim / 2 pairs the first half turns by row * f_i, the second by column * f_i,
 * f_i = base^(-4i / head_dim) (LlamaGen), or the other way round, rows and columns counted from an origin (SphereAR);
 * 1-D: pair i turns by position * base^(-2i / head_dim). */
#include "model/config.h"

/* cosine, sine: [prefix_length + rows * columns, head_dim / 2], out. */
void sp_rope_tables(const sp_model_config *config, float *cosine, float *sine);

#endif
