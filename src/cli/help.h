#ifndef SP_HELP_H
#define SP_HELP_H
/* Texts made from options.def and commands.def, on standard output. */
#include <stdio.h>

#include "cli/options.h"

void sp_help_program(void);
void sp_help_command(sp_command_id command);

/* Help of an option with its values and default: "threads; ... (auto or 1..1024; default auto)". */
void sp_help_describe(const sp_option *option, char *text, size_t size);

typedef struct sp_exit_code {
    int code;
    const char *meaning;
} sp_exit_code;

extern const sp_exit_code sp_exit_codes[]; /* meaning NULL at the end */

typedef struct sp_help_entry {
    const char *name, *meaning;
} sp_help_entry;

extern const sp_help_entry sp_help_variables[]; /* environment; name NULL at the end */

/* "-m, --model DIR" */
void sp_help_usage(const sp_option *option, char *text, size_t size);

#endif
