#ifndef SP_OPTIONS_H
#define SP_OPTIONS_H
/* The command line, driven by options.def and commands.def.
 *
 *     sp_options options;
 *     if (sp_options_parse(&options, argc, argv, &err) == SP_OK) run(options.command, &options);
 *     sp_options_free(&options);
 *
 * Values come from the command line, else from --config, else from options.def. Text is borrowed from argv or owned by
 * the configuration that options keep. */
#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"

typedef enum {
#define SP_COMMAND(name, NAME, operands, summary) SP_COMMAND_##NAME,
#include "cli/commands.def"
#undef SP_COMMAND
    SP_N_COMMANDS
} sp_command_id;

typedef struct sp_command {
    const char *name, *operands, *summary;
} sp_command;

extern const sp_command sp_commands[SP_N_COMMANDS + 1]; /* name NULL at the end */

typedef enum { SP_FLAG, SP_COUNT, SP_TEXT, SP_LIST, SP_CHOICE, SP_SHOW, SP_INTEGER, SP_SEED, SP_REAL } sp_option_type;
typedef enum {
    SP_GROUP_MODEL,
    SP_GROUP_PROMPT,
    SP_GROUP_OUTPUT,
    SP_GROUP_SAMPLING,
    SP_GROUP_SPEED,
    SP_GROUP_GENERAL,
    SP_N_GROUPS
} sp_option_group;

extern const char *const sp_option_groups[SP_N_GROUPS]; /* titles */

enum {
#define SP_OPTION(field, type, name, letter, argument, range, fallback, group, commands, help) SP_OPTION_##field,
#include "cli/options.def"
#undef SP_OPTION
    SP_N_OPTIONS
};

typedef struct sp_option {
    const char *name;
    char letter; /* 0: none */
    sp_option_type type;
    const char *argument; /* as help names it; "" for none */
    const char *range;    /* "" for any */
    const char *fallback; /* "" for unset */
    sp_option_group group;
    unsigned commands; /* bit 1 << sp_command_id */
    const char *help;
    size_t offset; /* of its field in sp_options */
} sp_option;

extern const sp_option sp_option_table[SP_N_OPTIONS];

enum { SP_MOST_TEXTS = 16 };

typedef struct sp_texts {
    const char *items[SP_MOST_TEXTS];
    size_t count;
} sp_texts;

typedef bool sp_field_FLAG;
typedef int64_t sp_field_COUNT;
typedef const char *sp_field_TEXT;
typedef sp_texts sp_field_LIST;
typedef const char *sp_field_CHOICE;
typedef const char *sp_field_SHOW;
typedef int64_t sp_field_INTEGER;
typedef uint64_t sp_field_SEED;
typedef double sp_field_REAL;

typedef struct sp_options {
    sp_command_id command;
    bool version;
    const char *operand; /* NULL: none */
#define SP_OPTION(field, type, name, letter, argument, range, fallback, group, commands, help) sp_field_##type field;
#include "cli/options.def"
#undef SP_OPTION
    bool given[SP_N_OPTIONS]; /* on the command line or in the configuration */
    json_t *configuration;    /* owned; keeps its texts alive */
} sp_options;

/* SP_EARG names the option, its value and its range, or the nearest option; SP_EFORMAT a bad configuration file. */
SP_CHECK sp_status sp_options_parse(sp_options *options, int argc, char **argv, sp_error *err);
void sp_options_free(sp_options *options);

/* Gives an option a value as the command line does; text is borrowed. SP_EARG as sp_options_parse. */
SP_CHECK sp_status sp_options_set(sp_options *options, const sp_option *option, const char *text, sp_error *err);

static inline bool sp_option_serves(const sp_option *option, sp_command_id command)
{
    return (option->commands >> command & 1u) != 0;
}

/* The n-th name of a choice, copied to name; false after the last or when the range is none of names. */
bool sp_option_choice(const sp_option *option, size_t n, char *name, size_t size);

/* Options that have a value as a JSON object that --config takes; new reference, NULL when memory ran out. */
json_t *sp_options_json(const sp_options *options);

#endif
