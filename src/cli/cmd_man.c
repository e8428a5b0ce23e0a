#include "cli/commands.h"
#include "cli/man.h"

sp_status sp_cmd_man(const sp_options *options, bool *some_failed, sp_error *err)
{
    (void)options;
    (void)some_failed;
    (void)err;
    sp_man_write();
    return SP_OK;
}
