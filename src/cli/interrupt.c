#include "cli/interrupt.h"

#include <signal.h>
#include <string.h>

/* A signal handler can only speak through an object of static storage. */
static volatile sig_atomic_t received;

static void remember(int signal_number) { received = signal_number; }

/* A signal that the parent ignores, as a shell does for SIGINT of what runs in the background, stays ignored. */
static void install(int signal_number)
{
    struct sigaction action, before;
    if (sigaction(signal_number, NULL, &before) != 0 || before.sa_handler == SIG_IGN) return;
    memset(&action, 0, sizeof action);
    action.sa_handler = remember;
    /* Reset to the default action, so that the second signal ends a process that does not get to the end of a pass. */
    action.sa_flags = (int)SA_RESETHAND;
    sigaction(signal_number, &action, NULL);
}

void sp_interrupt_install(void)
{
    install(SIGINT);
    install(SIGTERM);
}

int sp_interrupt_signal(void) { return received; }
