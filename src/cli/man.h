#ifndef SP_MAN_H
#define SP_MAN_H
/* The manual page specular(1) as roff on standard output. */

void sp_man_write(void);

#endif
