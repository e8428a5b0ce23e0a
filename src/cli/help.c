#include "cli/help.h"

#include <string.h>

#include "specular.h"

enum { INDENT = 28, WIDTH = 100 };

const sp_exit_code sp_exit_codes[] = {
    {0, "done"},
    {1, "some pictures failed; the journal names them, and the others were drawn"},
    {2, "wrong use: an option, a value, or a file that would be replaced without --force"},
    {3, "an input file is missing, unreadable or malformed"},
    {4, "writing failed: disk full, no permission, closed output"},
    {5, "a device failed or has no memory"},
    {6, "no memory"},
    {7, "a model or feature that this build does not know"},
    {70, "an internal error; please report it with the line on standard error"},
    {130, "interrupted by SIGINT; render resumes"},
    {143, "interrupted by SIGTERM; render resumes"},
    {0, NULL}};

const sp_help_entry sp_help_variables[] = {
    {"SPECULAR_MODEL", "checkpoint folder when there is no --model"},
    {"SLURM_PROCID, SLURM_NTASKS", "shard of render: one a task of srun"},
    {"SLURM_ARRAY_TASK_ID, SLURM_ARRAY_TASK_MIN, SLURM_ARRAY_TASK_STEP, SLURM_ARRAY_TASK_COUNT",
     "shard of render: (ID - MIN) / STEP of COUNT. With several tasks a job, shard ((ID - MIN) / STEP) x NTASKS + "
     "PROCID of COUNT x NTASKS"},
    {"OMPI_COMM_WORLD_RANK, OMPI_COMM_WORLD_SIZE", "shard of render when Slurm's variables are absent"},
    {"NO_COLOR", "no colour in the progress bar, and --show blocks draws characters"},
    {"TERM, TERM_PROGRAM, KITTY_WINDOW_ID, TMUX", "what --show auto draws with"},
    {NULL, NULL}};

static void append(char *text, size_t size, const char *more)
{
    size_t used = strlen(text);
    snprintf(text + used, size - used, "%s", more);
}

void sp_help_describe(const sp_option *option, char *text, size_t size)
{
    char name[64];
    snprintf(text, size, "%s", option->help);
    bool has_fallback = *option->fallback != '\0', has_range = *option->range != '\0';
    if (!has_range && !has_fallback) return;
    append(text, size, " (");
    for (size_t n = 0; sp_option_choice(option, n, name, sizeof name); n++) {
        if (n > 0) append(text, size, ", ");
        append(text, size, name);
    }
    if (strstr(option->range, "..") != NULL) {
        bool is_auto = strncmp(option->range, "auto|", 5) == 0;
        append(text, size, is_auto ? "auto or " : "");
        append(text, size, option->range + (is_auto ? 5 : 0));
    }
    if (has_fallback) append(text, size, has_range ? "; default " : "default ");
    append(text, size, option->fallback);
    append(text, size, ")");
}

void sp_help_usage(const sp_option *option, char *text, size_t size)
{
    char letter[8] = "";
    if (option->letter != 0) snprintf(letter, sizeof letter, "-%c, ", option->letter);
    const char *argument = option->argument;
    bool optional = option->type == SP_SHOW;
    snprintf(text, size, "%s--%s%s%s%s", letter, option->name, optional ? "[=" : *argument != '\0' ? " " : "", argument,
             optional ? "]" : "");
}

/* Words from column INDENT on; the first line starts at column. */
static void put_wrapped(const char *text, size_t column)
{
    if (column + 2 > INDENT) {
        putchar('\n');
        column = 0;
    }
    printf("%*s", (int)(INDENT - column), "");
    column = INDENT;
    while (*text != '\0') {
        size_t length = strcspn(text, " ");
        bool first = column == INDENT, fits = column + 1 + length <= WIDTH;
        if (!first) column = fits ? column + 1 : INDENT;
        if (!first && fits) putchar(' ');
        if (!first && !fits) printf("\n%*s", INDENT, "");
        printf("%.*s", (int)length, text);
        column += length;
        text += length + (text[length] != '\0');
    }
    putchar('\n');
}

static void put_methods(void)
{
    puts("\nMethods:");
    for (const sp_method *method = sp_methods(); method->name != NULL; method++) {
        char text[256];
        if (method->continuous && sp_method_find(method->name, false) != NULL) continue;
        snprintf(text, sizeof text, "%s (%s%s)", method->summary, sp_exactness_name(method->exactness),
                 method->continuous ? "; continuous tokens" : "");
        put_wrapped(text, (size_t)printf("  %s", method->name));
    }
}

void sp_help_command(sp_command_id command)
{
    const sp_command *about = &sp_commands[command];
    bool speaks_of_methods = false;
    printf("usage: specular %s [option]...%s%s\n%s\n", about->name, *about->operands ? " " : "", about->operands,
           about->summary);
    for (int group = 0; group < SP_N_GROUPS; group++) {
        bool titled = false;
        for (const sp_option *option = sp_option_table; option < sp_option_table + SP_N_OPTIONS; option++) {
            if ((int)option->group != group || !sp_option_serves(option, command)) continue;
            if (!titled) printf("\n%s:\n", sp_option_groups[group]);
            titled = true;
            speaks_of_methods = speaks_of_methods || strncmp(option->name, "method", 6) == 0;
            char usage[64], text[512];
            sp_help_usage(option, usage, sizeof usage);
            sp_help_describe(option, text, sizeof text);
            put_wrapped(text, (size_t)printf("  %s%s", option->letter != 0 ? "" : "    ", usage));
        }
    }
    if (speaks_of_methods) put_methods();
}

void sp_help_program(void)
{
    puts("usage: specular COMMAND [option]...\nimages from visual autoregressive models, fast\n\nCommands:");
    for (const sp_command *command = sp_commands; command->name != NULL; command++)
        put_wrapped(command->summary, (size_t)printf("  %s %s", command->name, command->operands));
    puts("\nFirst steps:\n  specular generate --prompt \"red heart\"\n  specular COMMAND --help\n  specular --version");
}
