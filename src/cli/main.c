/* specular COMMAND: parses, runs the command, turns its status into one line and an exit code. */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "cli/commands.h"
#include "cli/help.h"
#include "cli/interrupt.h"
#include "cli/setup.h"

static sp_command_run *const runs[SP_N_COMMANDS] = {
#define SP_COMMAND(name, NAME, operands, summary) sp_cmd_##name,
#include "cli/commands.def"
#undef SP_COMMAND
};

static int exit_code_of(sp_status status)
{
    switch (status) {
    case SP_OK: return 0;
    case SP_EARG: return 2;
    case SP_EFORMAT: return 3;
    case SP_EOUTPUT: return 4;
    case SP_EDEVICE: return 5;
    case SP_ENOMEM: return 6;
    case SP_EUNSUPPORTED: return 7;
    case SP_ECANCELLED: return 128 + sp_interrupt_signal();
    case SP_EBUG: return 70;
    }
    return 70;
}

static sp_status print_configuration(const sp_options *options, sp_error *err)
{
    json_t *object = sp_options_json(options);
    if (object == NULL) return SP_FAIL(err, SP_EARG, "--print-config: an option is not UTF-8, which JSON needs");
    sp_status status = sp_setup_write_json("-", object, JSON_INDENT(2), err);
    json_decref(object);
    return status;
}

static sp_status run(const sp_options *options, bool *some_failed, sp_error *err)
{
    if (options->version) {
        puts("specular " SP_VERSION);
        return SP_OK;
    }
    if (options->help) {
        if (options->command == SP_N_COMMANDS)
            sp_help_program();
        else
            sp_help_command(options->command);
        return SP_OK;
    }
    if (options->print_config) return print_configuration(options, err);
    return runs[options->command](options, some_failed, err);
}

int main(int argc, char **argv)
{
    sp_error err = {0};
    sp_options options;
    bool some_failed = false;
    sp_interrupt_install();
    sp_status status = sp_options_parse(&options, argc, argv, &err);
    if (status == SP_OK) status = run(&options, &some_failed, &err);
    /* Data that did not arrive is a failure even when everything else went well. */
    if ((fflush(stdout) != 0 || ferror(stdout)) && status == SP_OK)
        status = SP_FAIL_ERRNO(&err, SP_EOUTPUT, errno, "standard output: %s; see where it leads", strerror(errno));
    if (status == SP_ECANCELLED) {
        fputs("specular: interrupted\n", stderr);
    } else if (status != SP_OK) {
        const char *message = err.message[0] != '\0' ? err.message : sp_status_text(status);
        fprintf(stderr, "specular: error: %s\n", message);
    }
    sp_options_free(&options);
    return status == SP_OK && some_failed ? 1 : exit_code_of(status);
}
