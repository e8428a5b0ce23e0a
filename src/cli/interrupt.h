#ifndef SP_INTERRUPT_H
#define SP_INTERRUPT_H
/* SIGINT and SIGTERM: the first asks the run to stop after the current pass, a second of its kind ends the process. */

void sp_interrupt_install(void);
int sp_interrupt_signal(void); /* the signal that came, or 0 */

#endif
