#include "cli/options.h"

#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include "cli/nearest.h"
#include "cli/number.h"
#include "io/json.h"
#include "specular.h"

const sp_command sp_commands[SP_N_COMMANDS + 1] = {
#define SP_COMMAND(name, NAME, operands, summary) {#name, operands, summary},
#include "cli/commands.def"
#undef SP_COMMAND
    {NULL, NULL, NULL}};

enum {
#define SP_COMMAND(name, NAME, operands, summary) NAME = 1 << SP_COMMAND_##NAME,
#include "cli/commands.def"
#undef SP_COMMAND
    ALL = (1 << SP_N_COMMANDS) - 1
};

const char *const sp_option_groups[SP_N_GROUPS] = {"Model", "Prompt", "Output", "Sampling", "Speed", "General"};

const sp_option sp_option_table[SP_N_OPTIONS] = {
#define SP_OPTION(field, type, name, letter, argument, range, fallback, group, commands, help) \
    {name, letter, SP_##type, argument, range, fallback, SP_GROUP_##group, commands, help, offsetof(sp_options, field)},
#include "cli/options.def"
#undef SP_OPTION
};

static bool takes_value(const sp_option *option) { return option->type != SP_FLAG && option->type != SP_COUNT; }

static bool is_number(const sp_option *option)
{
    return option->type == SP_INTEGER || option->type == SP_SEED || option->type == SP_REAL;
}

static void *field_of(const sp_options *options, const sp_option *option)
{
    return (char *)(uintptr_t)options + option->offset;
}

static bool copy_name(const char *text, size_t length, char *name, size_t size)
{
    if (length >= size) length = size - 1;
    memcpy(name, text, length);
    name[length] = '\0';
    return true;
}

static bool nth_in_list(const char *const *list, size_t n, char *name, size_t size)
{
    while (*list != NULL && n > 0) {
        list++;
        n--;
    }
    return *list != NULL && copy_name(*list, strlen(*list), name, size);
}

/* A name that stands for methods of both kinds of tokens is one choice. */
static bool is_again(const sp_method *method)
{
    return method->continuous && sp_method_find(method->name, false) != NULL;
}

bool sp_option_choice(const sp_option *option, size_t n, char *name, size_t size)
{
    const char *range = option->range;
    if (strcmp(range, "@kernels") == 0)
        return n == 0 ? copy_name("auto", 4, name, size) : nth_in_list(sp_kernel_names(), n - 1, name, size);
    if (strcmp(range, "@draft-inits") == 0) return nth_in_list(sp_draft_inits(), n, name, size);
    if (strcmp(range, "@methods") == 0) {
        const sp_method *method = sp_methods();
        while (method->name != NULL && (n > 0 || is_again(method))) {
            n -= !is_again(method);
            method++;
        }
        return method->name != NULL && copy_name(method->name, strlen(method->name), name, size);
    }
    if (option->type != SP_CHOICE && option->type != SP_SHOW) return false;
    for (; n > 0; n--) {
        range = strchr(range, '|');
        if (range == NULL) return false;
        range++;
    }
    return copy_name(range, strcspn(range, "|"), name, size);
}

static bool is_choice(const sp_option *option, const char *text)
{
    char name[64];
    for (size_t n = 0; sp_option_choice(option, n, name, sizeof name); n++)
        if (strcmp(name, text) == 0) return true;
    return false;
}

static sp_status refuse_choice(const sp_option *option, const char *text, sp_error *err)
{
    char name[64], list[256] = "";
    for (size_t n = 0; sp_option_choice(option, n, name, sizeof name); n++) {
        size_t used = strlen(list);
        snprintf(list + used, sizeof list - used, "%s%s", n ? ", " : "", name);
    }
    return SP_FAIL(err, SP_EARG, "--%s: '%.80s' is not one of %s", option->name, text, list);
}

/* The numbers of low..high, which may follow "auto|". */
static void split_range(const sp_option *option, char *low, char *high, size_t size)
{
    const char *range = option->range;
    if (strncmp(range, "auto|", 5) == 0) range += 5;
    const char *dots = strstr(range, "..");
    copy_name(range, (size_t)(dots - range), low, size);
    copy_name(dots + 2, strlen(dots + 2), high, size);
}

static sp_status set_number(sp_options *options, const sp_option *option, const char *text, sp_error *err)
{
    char low[32], high[32];
    split_range(option, low, high, sizeof low);
    bool is_auto = strncmp(option->range, "auto|", 5) == 0, valid;
    if (option->type == SP_SEED) {
        valid = sp_number_unsigned(text, field_of(options, option));
    } else if (option->type == SP_INTEGER) {
        int64_t least = 0, most = 0, value = 0;
        valid = sp_number_integer(low, INT64_MIN, INT64_MAX, &least) &&
                sp_number_integer(high, INT64_MIN, INT64_MAX, &most) &&
                ((is_auto && strcmp(text, "auto") == 0) || sp_number_integer(text, least, most, &value));
        if (valid) *(int64_t *)field_of(options, option) = value;
    } else {
        double least = 0, most = 0, value = 0;
        valid = sp_number_real(low, -1e300, 1e300, &least) && sp_number_real(high, -1e300, 1e300, &most) &&
                sp_number_real(text, least, most, &value);
        if (valid) *(double *)field_of(options, option) = value;
    }
    if (valid) return SP_OK;
    return SP_FAIL(err, SP_EARG, "--%s: '%.80s' is not %sa %s from %s to %s", option->name, text,
                   is_auto ? "auto or " : "", option->type == SP_REAL ? "number" : "whole number", low, high);
}

static sp_status add_text(sp_texts *list, const sp_option *option, const char *text, sp_error *err)
{
    if (*text == '\0') return SP_FAIL(err, SP_EARG, "--%s: empty; give a %s", option->name, option->argument);
    if (list->count == SP_MOST_TEXTS)
        return SP_FAIL(err, SP_EARG, "--%s is given more than %d times; give fewer", option->name, (int)SP_MOST_TEXTS);
    list->items[list->count++] = text;
    return SP_OK;
}

sp_status sp_options_set(sp_options *options, const sp_option *option, const char *text, sp_error *err)
{
    switch (option->type) {
    case SP_FLAG: *(bool *)field_of(options, option) = strcmp(text, "true") == 0; break;
    case SP_COUNT: *(int64_t *)field_of(options, option) += 1; break;
    case SP_CHOICE:
    case SP_SHOW:
        if (!is_choice(option, text)) return refuse_choice(option, text, err);
        *(const char **)field_of(options, option) = text;
        break;
    case SP_TEXT:
        if (*text == '\0') return SP_FAIL(err, SP_EARG, "--%s: empty; give a %s", option->name, option->argument);
        *(const char **)field_of(options, option) = text;
        break;
    case SP_LIST: return add_text(field_of(options, option), option, text, err);
    case SP_SEED:
    case SP_INTEGER:
    case SP_REAL: SP_TRY(set_number(options, option, text, err)); break;
    }
    return SP_OK;
}

static const sp_option *find_name(sp_command_id command, const char *name, size_t length)
{
    for (const sp_option *option = sp_option_table; option < sp_option_table + SP_N_OPTIONS; option++)
        if (sp_option_serves(option, command) && strlen(option->name) == length &&
            memcmp(option->name, name, length) == 0)
            return option;
    return NULL;
}

static const sp_option *find_letter(sp_command_id command, char letter)
{
    for (const sp_option *option = sp_option_table; option < sp_option_table + SP_N_OPTIONS; option++)
        if (sp_option_serves(option, command) && option->letter == letter) return option;
    return NULL;
}

static sp_status refuse_name(sp_command_id command, const char *name, sp_error *err)
{
    sp_nearest nearest = {.word = name, .distance = SIZE_MAX};
    for (const sp_option *option = sp_option_table; option < sp_option_table + SP_N_OPTIONS; option++) {
        if (sp_option_serves(option, command)) {
            sp_nearest_offer(&nearest, option->name);
        } else if (strcmp(option->name, name) == 0) {
            return SP_FAIL(err, SP_EARG, "--%s is not an option of %s; see specular %s --help", name,
                           sp_commands[command].name, sp_commands[command].name);
        }
    }
    return SP_FAIL(err, SP_EARG, "unknown option --%.80s of %s; did you mean --%s?", name, sp_commands[command].name,
                   nearest.best);
}

typedef struct arguments {
    int count, next;
    char **text;
} arguments;

static sp_status take_long(sp_options *options, arguments *rest, const char *text, sp_error *err)
{
    const char *equals = strchr(text, '='), *value = equals != NULL ? equals + 1 : NULL;
    size_t length = equals != NULL ? (size_t)(equals - text) : strlen(text);
    char name[64];
    copy_name(text, length, name, sizeof name);
    const sp_option *option = find_name(options->command, text, length);
    bool turn_off = option == NULL && strncmp(name, "no-", 3) == 0;
    if (turn_off) option = find_name(options->command, text + 3, length - 3);
    if (option == NULL || (turn_off && option->type != SP_FLAG)) return refuse_name(options->command, name, err);
    if (!takes_value(option)) {
        if (value != NULL) return SP_FAIL(err, SP_EARG, "--%s takes no value, found '%.80s'", name, value);
        value = turn_off ? "false" : "true";
    } else if (value == NULL) {
        const char *following = rest->next < rest->count ? rest->text[rest->next] : NULL;
        if (option->type == SP_SHOW && (following == NULL || !is_choice(option, following))) {
            value = "auto";
        } else if (following == NULL) {
            return SP_FAIL(err, SP_EARG, "--%s needs a value: %s", option->name, option->argument);
        } else {
            value = following;
            rest->next++;
        }
    }
    options->given[option - sp_option_table] = true;
    return sp_options_set(options, option, value, err);
}

static sp_status take_letters(sp_options *options, arguments *rest, const char *text, sp_error *err)
{
    for (; *text != '\0'; text++) {
        const sp_option *option = find_letter(options->command, *text);
        if (option == NULL)
            return SP_FAIL(err, SP_EARG, "unknown option -%c of %s; see specular %s --help", *text,
                           sp_commands[options->command].name, sp_commands[options->command].name);
        options->given[option - sp_option_table] = true;
        if (!takes_value(option)) {
            SP_TRY(sp_options_set(options, option, "true", err));
            continue;
        }
        if (text[1] != '\0') return sp_options_set(options, option, text + 1, err);
        if (rest->next == rest->count)
            return SP_FAIL(err, SP_EARG, "-%c needs a value: %s", *text, option->argument);
        return sp_options_set(options, option, rest->text[rest->next++], err);
    }
    return SP_OK;
}

static sp_status take_operand(sp_options *options, const char *text, sp_error *err)
{
    const sp_command *command = &sp_commands[options->command];
    if (*command->operands == '\0' || options->operand != NULL)
        return SP_FAIL(err, SP_EARG, "unexpected '%.80s' after %s; several words need quotes", text, command->name);
    options->operand = text;
    return SP_OK;
}

/* The text a JSON value would have on the command line, in buffer when it is not a string; NULL if it is neither a
 * scalar nor of the option's kind. */
static const char *text_of_json(const sp_option *option, const json_t *value, char *buffer, size_t size)
{
    if (json_is_string(value)) return takes_value(option) ? json_string_value(value) : NULL;
    if (option->type == SP_FLAG && json_is_boolean(value)) return json_is_true(value) ? "true" : "false";
    if ((is_number(option) || option->type == SP_COUNT) && json_is_integer(value))
        snprintf(buffer, size, "%" JSON_INTEGER_FORMAT, json_integer_value(value));
    else if (option->type == SP_REAL && json_is_real(value))
        snprintf(buffer, size, "%.17g", json_real_value(value));
    else
        return NULL;
    return buffer;
}

static void name_to_key(const char *name, char *key, size_t size)
{
    snprintf(key, size, "%s", name);
    for (char *c = key; *c != '\0'; c++)
        if (*c == '-') *c = '_';
}

static bool in_configuration(const sp_option *option)
{
    size_t index = (size_t)(option - sp_option_table);
    return index != SP_OPTION_config && index != SP_OPTION_print_config && index != SP_OPTION_help;
}

static const sp_option *find_key(sp_command_id command, const char *key)
{
    char name[64];
    for (const sp_option *option = sp_option_table; option < sp_option_table + SP_N_OPTIONS; option++) {
        name_to_key(option->name, name, sizeof name);
        if (sp_option_serves(option, command) && in_configuration(option) && strcmp(name, key) == 0) return option;
    }
    return NULL;
}

static sp_status take_json(sp_options *options, const sp_option *option, const char *key, const json_t *value,
                           sp_error *err)
{
    char buffer[64];
    const char *text = text_of_json(option, value, buffer, sizeof buffer);
    if (text == NULL)
        return SP_FAIL(err, SP_EFORMAT, "%s: %s has a value of the wrong type; see --print-config", options->config,
                       key);
    return sp_options_set(options, option, text, err);
}

static sp_status take_configuration(sp_options *options, sp_error *err)
{
    const char *file = options->config, *key;
    SP_TRY(sp_json_load(&options->configuration, file, SP_JSON_LIMIT, err));
    if (!json_is_object(options->configuration))
        return SP_FAIL(err, SP_EFORMAT, "%s: not a JSON object of options; see --print-config", file);
    json_t *value;
    json_object_foreach(options->configuration, key, value)
    {
        const sp_option *option = find_key(options->command, key);
        if (option == NULL)
            return SP_FAIL(err, SP_EFORMAT, "%s: '%.80s' is not an option of %s; see --print-config", file, key,
                           sp_commands[options->command].name);
        if (options->given[option - sp_option_table]) continue;
        options->given[option - sp_option_table] = true;
        if (option->type == SP_COUNT) options->verbose = json_integer_value(value) - 1;
        size_t count = option->type == SP_LIST && json_is_array(value) ? json_array_size(value) : 1;
        for (size_t i = 0; i < count; i++)
            SP_TRY(take_json(options, option, key, json_is_array(value) ? json_array_get(value, i) : value, err));
    }
    return SP_OK;
}

static sp_status find_command(const char *word, sp_command_id *out, sp_error *err)
{
    sp_nearest nearest = {.word = word, .distance = SIZE_MAX};
    for (int i = 0; i < SP_N_COMMANDS; i++) {
        if (strcmp(sp_commands[i].name, word) == 0) {
            *out = (sp_command_id)i;
            return SP_OK;
        }
        sp_nearest_offer(&nearest, sp_commands[i].name);
    }
    if (*word == '-')
        return SP_FAIL(err, SP_EARG, "%.80s before a command; write specular generate %.80s", word, word);
    return SP_FAIL(err, SP_EARG, "unknown command '%.80s'; did you mean %s? See specular --help", word, nearest.best);
}

static sp_status take_arguments(sp_options *options, arguments *rest, sp_error *err)
{
    bool only_operands = false;
    while (rest->next < rest->count) {
        const char *text = rest->text[rest->next++];
        if (only_operands || text[0] != '-' || text[1] == '\0')
            SP_TRY(take_operand(options, text, err));
        else if (strcmp(text, "--") == 0)
            only_operands = true;
        else if (text[1] == '-')
            SP_TRY(take_long(options, rest, text + 2, err));
        else
            SP_TRY(take_letters(options, rest, text + 1, err));
    }
    return SP_OK;
}

sp_status sp_options_parse(sp_options *options, int argc, char **argv, sp_error *err)
{
    *options = (sp_options){.command = SP_N_COMMANDS};
    if (argc < 2) return SP_FAIL(err, SP_EARG, "no command; see specular --help");
    options->help = strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0 || strcmp(argv[1], "help") == 0;
    options->version = strcmp(argv[1], "--version") == 0;
    if (options->help || options->version) return SP_OK;
    SP_TRY(find_command(argv[1], &options->command, err));
    arguments rest = {argc, 2, argv};
    SP_TRY(take_arguments(options, &rest, err));
    if (options->help) return SP_OK;
    if (options->config != NULL) SP_TRY(take_configuration(options, err));
    for (const sp_option *option = sp_option_table; option < sp_option_table + SP_N_OPTIONS; option++)
        if (!options->given[option - sp_option_table] && *option->fallback != '\0')
            SP_TRY(sp_options_set(options, option, option->fallback, err));
    const sp_command *command = &sp_commands[options->command];
    if (*command->operands != '\0' && options->operand == NULL)
        return SP_FAIL(err, SP_EARG, "%s needs a %s; see specular %s --help", command->name, command->operands,
                       command->name);
    return SP_OK;
}

void sp_options_free(sp_options *options)
{
    json_decref(options->configuration);
    options->configuration = NULL;
}

static json_t *json_of_list(const sp_texts *list)
{
    json_t *array = json_array();
    for (size_t i = 0; i < list->count; i++) json_array_append_new(array, json_string(list->items[i]));
    return array;
}

static json_t *json_of_value(const sp_options *options, const sp_option *option)
{
    const void *field = field_of(options, option);
    switch (option->type) {
    case SP_FLAG: return json_boolean(*(const bool *)field);
    case SP_REAL: return json_real(*(const double *)field);
    case SP_COUNT: return json_integer(*(const int64_t *)field);
    case SP_SEED: return sp_json_seed(*(const uint64_t *)field);
    case SP_INTEGER:
        if (*(const int64_t *)field == 0 && strncmp(option->range, "auto|", 5) == 0) return json_string("auto");
        return json_integer(*(const int64_t *)field);
    case SP_LIST: return json_of_list(field);
    case SP_TEXT:
    case SP_CHOICE:
    case SP_SHOW: return json_string(*(const char *const *)field);
    }
    return NULL;
}

json_t *sp_options_json(const sp_options *options)
{
    json_t *object = json_object();
    for (const sp_option *option = sp_option_table; option < sp_option_table + SP_N_OPTIONS; option++) {
        bool has_value = options->given[option - sp_option_table] || *option->fallback != '\0';
        if (!has_value || !in_configuration(option) || !sp_option_serves(option, options->command)) continue;
        char key[64];
        name_to_key(option->name, key, sizeof key);
        if (json_object_set_new(object, key, json_of_value(options, option)) != 0) {
            json_decref(object);
            return NULL;
        }
    }
    return object;
}
