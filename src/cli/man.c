#include "cli/man.h"

#include <stdio.h>

#include "cli/help.h"
#include "specular.h"

/* Text with what roff would take for itself escaped: backslash, hyphen, and a dot or quote that starts a line. */
static void put_text(const char *text)
{
    if (*text == '.' || *text == '\'') fputs("\\&", stdout);
    for (; *text != '\0'; text++) {
        if (*text == '\\')
            fputs("\\e", stdout);
        else if (*text == '-')
            fputs("\\-", stdout);
        else
            putchar(*text);
    }
}

static void put_term(const char *term, const char *meaning)
{
    fputs(".TP\n\\fB", stdout);
    put_text(term);
    fputs("\\fR\n", stdout);
    put_text(meaning);
    putchar('\n');
}

static void put_option(const sp_option *option)
{
    char usage[64], text[512];
    sp_help_usage(option, usage, sizeof usage);
    sp_help_describe(option, text, sizeof text);
    put_term(usage, text);
    fputs(".br\nIn ", stdout);
    bool first = true, everywhere = true;
    for (int command = 0; command < SP_N_COMMANDS; command++)
        everywhere = everywhere && sp_option_serves(option, (sp_command_id)command);
    for (int command = 0; command < SP_N_COMMANDS && !everywhere; command++) {
        if (!sp_option_serves(option, (sp_command_id)command)) continue;
        printf("%s\\fI%s\\fR", first ? "" : ", ", sp_commands[command].name);
        first = false;
    }
    puts(everywhere ? "all commands." : ".");
}

void sp_man_write(void)
{
    puts(".TH SPECULAR 1 \"\" \"specular " SP_VERSION "\" \"User Commands\"\n.SH NAME\n"
         "specular \\- images from visual autoregressive models, fast\n.SH SYNOPSIS");
    for (const sp_command *command = sp_commands; command->name != NULL; command++)
        printf("%s\\fBspecular %s\\fR [\\fIoption\\fR]...%s%s\n", command == sp_commands ? "" : ".br\n", command->name,
               *command->operands ? " " : "", command->operands);
    puts(".SH DESCRIPTION\nDrafts many tokens of a picture at a time, checks them in one pass of the model, keeps what "
         "the model would have said, and writes a PNG that holds everything needed to make it again. "
         "Standard output has data only; messages and progress go to standard error.\n.SH COMMANDS");
    for (const sp_command *command = sp_commands; command->name != NULL; command++)
        put_term(command->name, command->summary);
    puts(".SH OPTIONS");
    for (int group = 0; group < SP_N_GROUPS; group++) {
        printf(".SS %s\n", sp_option_groups[group]);
        for (const sp_option *option = sp_option_table; option < sp_option_table + SP_N_OPTIONS; option++)
            if ((int)option->group == group) put_option(option);
    }
    puts(".SH METHODS");
    for (const sp_method *method = sp_methods(); method->name != NULL; method++) {
        char text[256];
        if (method->continuous && sp_method_find(method->name, false) != NULL) continue;
        snprintf(text, sizeof text, "%s (%s%s)", method->summary, sp_exactness_name(method->exactness),
                 method->continuous ? "; continuous tokens" : "");
        put_term(method->name, text);
    }
    puts(".SH ENVIRONMENT");
    for (const sp_help_entry *entry = sp_help_variables; entry->name != NULL; entry++)
        put_term(entry->name, entry->meaning);
    puts(".SH EXIT STATUS");
    for (const sp_exit_code *exit_code = sp_exit_codes; exit_code->meaning != NULL; exit_code++) {
        char code[16];
        snprintf(code, sizeof code, "%d", exit_code->code);
        put_term(code, exit_code->meaning);
    }
    puts(".SH EXAMPLES\n.nf\nspecular generate \\-\\-prompt \"red heart\" \\-\\-show\n"
         "specular render \\-f prompts.txt \\-\\-output\\-dir out\n"
         "specular bench \\-\\-methods pathwise \\-\\-window 16,32,auto\n"
         "specular inspect red\\-heart.png \\-\\-as\\-command\n.fi");
}
