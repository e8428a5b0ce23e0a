#include "cli/interrupt.h"

#include <signal.h>
#include <string.h>

/* A signal handler can only speak through an object of static storage. */
static volatile sig_atomic_t received;

static void remember(int signal_number) { received = signal_number; }

void sp_interrupt_install(void)
{
    struct sigaction action;
    memset(&action, 0, sizeof action);
    action.sa_handler = remember;
    /* Reset to the default action, so that the second signal ends a process that does not get to the end of a pass. */
    action.sa_flags = (int)SA_RESETHAND;
    sigaction(SIGINT, &action, NULL);
    sigaction(SIGTERM, &action, NULL);
}

int sp_interrupt_signal(void) { return received; }
