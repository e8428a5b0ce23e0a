#include "cli/completions.h"

#include <stdio.h>
#include <string.h>

#include "cli/options.h"

typedef enum { NOTHING, FILES, FOLDERS, NAMES } completion;

static completion kind_of(const sp_option *option)
{
    char name[64];
    if (sp_option_choice(option, 0, name, sizeof name)) return NAMES;
    if (strcmp(option->argument, "DIR") == 0) return FOLDERS;
    if (strcmp(option->argument, "FILE") == 0) return FILES;
    return NOTHING;
}

static void put_names(const sp_option *option, const char *separator)
{
    char name[64];
    for (size_t n = 0; sp_option_choice(option, n, name, sizeof name); n++)
        printf("%s%s", n > 0 ? separator : "", name);
}

static void bash_command(sp_command_id command)
{
    printf("    %s)\n        case $before in\n", sp_commands[command].name);
    for (const sp_option *option = sp_option_table; option < sp_option_table + SP_N_OPTIONS; option++) {
        if (!sp_option_serves(option, command) || *option->argument == '\0') continue;
        printf("        --%s", option->name);
        if (option->letter != 0) printf("|-%c", option->letter);
        fputs(") ", stdout);
        switch (kind_of(option)) {
        case NAMES:
            fputs("COMPREPLY=($(compgen -W '", stdout);
            put_names(option, " ");
            fputs("' -- \"$word\"));", stdout);
            break;
        case FILES: fputs("COMPREPLY=($(compgen -f -- \"$word\"));", stdout); break;
        case FOLDERS: fputs("COMPREPLY=($(compgen -d -- \"$word\"));", stdout); break;
        case NOTHING: break;
        }
        puts(" return;;");
    }
    fputs("        esac\n        options='", stdout);
    for (const sp_option *option = sp_option_table; option < sp_option_table + SP_N_OPTIONS; option++)
        if (sp_option_serves(option, command)) printf("--%s ", option->name);
    puts("';;");
}

static void write_bash(void)
{
    puts("_specular()\n{\n    local word=${COMP_WORDS[COMP_CWORD]} before=${COMP_WORDS[COMP_CWORD-1]} options=\n"
         "    COMPREPLY=()");
    fputs("    if [ \"$COMP_CWORD\" -eq 1 ]; then\n        COMPREPLY=($(compgen -W '", stdout);
    for (const sp_command *command = sp_commands; command->name != NULL; command++) printf("%s ", command->name);
    puts("--help --version' -- \"$word\"))\n        return\n    fi\n    case ${COMP_WORDS[1]} in");
    for (int command = 0; command < SP_N_COMMANDS; command++) bash_command((sp_command_id)command);
    puts("    esac\n    case $word in\n    -*) COMPREPLY=($(compgen -W \"$options\" -- \"$word\"));;\n"
         "    *) COMPREPLY=($(compgen -f -- \"$word\"));;\n    esac\n}\ncomplete -o filenames -F _specular specular");
}

/* Text inside single quotes; zsh's option specifications also give meaning to brackets and colons. */
static void put_quoted(const char *text, const char *escaped)
{
    for (; *text != '\0'; text++) {
        if (*text == '\'')
            fputs("'\\''", stdout);
        else if (strchr(escaped, *text) != NULL)
            printf("\\%c", *text);
        else
            putchar(*text);
    }
}

static void zsh_option(const sp_option *option)
{
    if (option->letter != 0)
        printf(" \\\n        '(-%c --%s)'{-%c,--%s%s}'[", option->letter, option->name, option->letter, option->name,
               *option->argument != '\0' ? "=" : "");
    else
        printf(" \\\n        '--%s%s[", option->name, *option->argument != '\0' ? "=" : "");
    put_quoted(option->help, "[]:\\");
    putchar(']');
    if (*option->argument != '\0') printf("%s:%s:", option->type == SP_SHOW ? ":" : "", option->argument);
    if (*option->argument != '\0') {
        switch (kind_of(option)) {
        case NAMES:
            putchar('(');
            put_names(option, " ");
            putchar(')');
            break;
        case FILES: fputs("_files", stdout); break;
        case FOLDERS: fputs("_files -/", stdout); break;
        case NOTHING: break;
        }
    }
    putchar('\'');
}

static void write_zsh(void)
{
    puts("#compdef specular\n_specular()\n{\n    local -a commands=(");
    for (const sp_command *command = sp_commands; command->name != NULL; command++) {
        printf("        '%s:", command->name);
        put_quoted(command->summary, ":\\");
        puts("'");
    }
    puts("    )\n    if (( CURRENT == 2 )); then\n        _describe command commands\n        return\n    fi\n"
         "    local command=$words[2]\n    shift words\n    (( CURRENT-- ))\n    case $command in");
    for (int command = 0; command < SP_N_COMMANDS; command++) {
        printf("    %s)\n        _arguments -s", sp_commands[command].name);
        for (const sp_option *option = sp_option_table; option < sp_option_table + SP_N_OPTIONS; option++)
            if (sp_option_serves(option, (sp_command_id)command)) zsh_option(option);
        puts(*sp_commands[command].operands != '\0' ? " \\\n        '*:FILE:_files';;" : ";;");
    }
    puts("    esac\n}\n_specular \"$@\"");
}

static void write_fish(void)
{
    for (int command = 0; command < SP_N_COMMANDS; command++) {
        const sp_command *about = &sp_commands[command];
        printf("complete -c specular -n __fish_use_subcommand -a %s -d '", about->name);
        put_quoted(about->summary, "\\");
        puts("'");
        for (const sp_option *option = sp_option_table; option < sp_option_table + SP_N_OPTIONS; option++) {
            if (!sp_option_serves(option, (sp_command_id)command)) continue;
            printf("complete -c specular -n '__fish_seen_subcommand_from %s' -l %s", about->name, option->name);
            if (option->letter != 0) printf(" -s %c", option->letter);
            completion kind = kind_of(option);
            if (*option->argument != '\0') fputs(kind == FILES || kind == FOLDERS ? " -r" : " -x", stdout);
            if (kind == NAMES) {
                fputs(" -a '", stdout);
                put_names(option, " ");
                putchar('\'');
            }
            fputs(" -d '", stdout);
            put_quoted(option->help, "\\");
            puts("'");
        }
    }
}

sp_status sp_completions_write(const char *shell, sp_error *err)
{
    if (strcmp(shell, "bash") == 0)
        write_bash();
    else if (strcmp(shell, "zsh") == 0)
        write_zsh();
    else if (strcmp(shell, "fish") == 0)
        write_fish();
    else
        return SP_FAIL(err, SP_EARG, "completions: '%.80s' is not one of bash, zsh, fish", shell);
    return SP_OK;
}
