#ifndef SP_COMMANDS_H
#define SP_COMMANDS_H
/* The functions of commands.def. Each does one run; data goes to standard output, which main flushes and checks.
 * *some_failed is set when the run is done but an item of it is not. SP_ECANCELLED after SIGINT or SIGTERM. */
#include "cli/options.h"

typedef sp_status sp_command_run(const sp_options *options, bool *some_failed, sp_error *err);

#define SP_COMMAND(name, NAME, operands, summary) sp_command_run sp_cmd_##name;
#include "cli/commands.def"
#undef SP_COMMAND

#endif
