#include "cli/commands.h"
#include "cli/completions.h"

sp_status sp_cmd_completions(const sp_options *options, bool *some_failed, sp_error *err)
{
    (void)some_failed;
    return sp_completions_write(options->operand, err);
}
