#include "cli/settings.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/setup.h"

enum { MOST_METHODS = 32, WORD = 64 };

typedef struct methods {
    const sp_method *items[MOST_METHODS];
    size_t count;
} methods;

/* The next of a list separated by commas; false at its end. */
static bool next_word(const char **list, char word[WORD])
{
    if (*list == NULL) return false;
    size_t length = strcspn(*list, ",");
    snprintf(word, WORD, "%.*s", (int)length, *list);
    *list = (*list)[length] == ',' ? *list + length + 1 : NULL;
    return true;
}

static sp_status add_method(methods *to, const char *name, bool continuous, sp_error *err)
{
    const sp_method *method = sp_method_find(name, continuous);
    if (method == NULL)
        return SP_FAIL(err, SP_EARG, "--methods: '%.80s' is not a method of models with %s tokens; see specular eval "
                       "--help", name, continuous ? "continuous" : "discrete");
    for (size_t i = 0; i < to->count; i++)
        if (to->items[i] == method) return SP_OK;
    if (to->count == MOST_METHODS) return SP_FAIL(err, SP_EARG, "--methods: more than %d; give fewer", MOST_METHODS);
    to->items[to->count++] = method;
    return SP_OK;
}

static sp_status read_methods(methods *out, const char *list, bool continuous, sp_error *err)
{
    char word[WORD];
    SP_TRY(add_method(out, "ar", continuous, err));
    while (next_word(&list, word)) SP_TRY(add_method(out, word, continuous, err));
    return SP_OK;
}

static sp_status add_setting(sp_settings *to, const sp_options *options, const sp_method *method, size_t baseline,
                             sp_error *err)
{
    if (to->count == SP_MOST_SETTINGS)
        return SP_FAIL(err, SP_EARG, "--methods and --sweep make more than %d settings; give fewer",
                       (int)SP_MOST_SETTINGS);
    sp_setting *setting = &to->items[to->count];
    *setting = (sp_setting){.method = method->name, .exactness = method->exactness, .option = "",
                            .baseline = baseline};
    snprintf(setting->name, sizeof setting->name, "%s", method->name);
    sp_options *own = &to->options[to->count++];
    *own = *options;
    own->command = SP_COMMAND_GENERATE;
    own->method = method->name;
    own->given[SP_OPTION_method] = true;
    return SP_OK;
}

static sp_status set_value(sp_settings *to, const sp_option *option, const char *value, sp_error *err)
{
    size_t i = to->count - 1;
    sp_setting *setting = &to->items[i];
    setting->option = option->name;
    snprintf(setting->value, sizeof setting->value, "%s", value);
    snprintf(setting->name, sizeof setting->name, "%s-%s-%s", setting->method, option->name, value);
    for (char *c = setting->name; *c != '\0'; c++)
        if (!isalnum((unsigned char)*c) && *c != '.' && *c != '-') *c = '_';
    for (size_t other = 0; other < i; other++)
        if (strcmp(to->items[other].name, setting->name) == 0)
            return SP_FAIL(err, SP_EARG, "--sweep: %s %s is given twice for %s", option->name, setting->value,
                           setting->method);
    sp_options *own = &to->options[i];
    own->given[option - sp_option_table] = true;
    return sp_options_set(own, option, setting->value, err);
}

/* Only options that a picture is made with, and that have several values to draw a curve of. A session's size is not of
 * a picture. */
static const sp_option *find_option(const char *name)
{
    if (strcmp(name, sp_option_table[SP_OPTION_batch_size].name) == 0) return NULL;
    for (const sp_option *o = sp_option_table; o < sp_option_table + SP_N_OPTIONS; o++) {
        bool kind = o->type == SP_INTEGER || o->type == SP_REAL || o->type == SP_CHOICE;
        bool group = o->group == SP_GROUP_SPEED || o->group == SP_GROUP_SAMPLING;
        if (kind && group && sp_option_serves(o, SP_COMMAND_GENERATE) && o != &sp_option_table[SP_OPTION_method] &&
            strcmp(o->name, name) == 0)
            return o;
    }
    return NULL;
}

/* Whether text is one of words, which are separated by spaces; words may be NULL. */
static bool is_word(const char *words, const char *text)
{
    size_t length = strlen(text);
    for (const char *at = words; at != NULL && (at = strstr(at, text)) != NULL; at += length)
        if ((at == words || at[-1] == ' ') && (at[length] == ' ' || at[length] == '\0')) return true;
    return false;
}

/* Options that some methods claim as theirs mean nothing to the others. */
static bool reads(const sp_method *method, const sp_option *option)
{
    bool claimed = false;
    for (const sp_method *other = sp_methods(); other->name != NULL; other++)
        claimed = claimed || is_word(other->settings, option->name);
    return !claimed || is_word(method->settings, option->name);
}

/* [METHOD:]OPTION=VALUES */
static sp_status split_sweep(const char *text, const methods *all, methods *chosen, const sp_option **option,
                             const char **values, sp_error *err)
{
    char name[WORD];
    const char *equals = strchr(text, '='), *colon = strchr(text, ':');
    if (equals == NULL || equals[1] == '\0')
        return SP_FAIL(err, SP_EARG, "--sweep: '%.80s' is not OPTION=A,B,C", text);
    *values = equals + 1;
    *chosen = *all;
    if (colon != NULL && colon < equals) {
        snprintf(name, sizeof name, "%.*s", (int)(colon - text), text);
        *chosen = (methods){.count = 0};
        for (size_t i = 0; i < all->count; i++)
            if (strcmp(all->items[i]->name, name) == 0) chosen->items[chosen->count++] = all->items[i];
        if (chosen->count == 0) return SP_FAIL(err, SP_EARG, "--sweep: '%.80s' is not one of --methods", name);
        text = colon + 1;
    }
    snprintf(name, sizeof name, "%.*s", (int)(equals - text), text);
    *option = find_option(name);
    if (*option != NULL) return SP_OK;
    return SP_FAIL(err, SP_EARG, "--sweep: '%.80s' is not an option of sampling or speed with several values; see "
                   "specular generate --help", name);
}

static sp_status add_value(sp_settings *to, const sp_options *options, const sp_method *method, size_t baseline,
                           const sp_option *option, const char *value, sp_error *err)
{
    SP_TRY(add_setting(to, options, method, baseline, err));
    return set_value(to, option, value, err);
}

static sp_status add_sweep(sp_settings *to, const sp_options *options, const methods *all, const char *text,
                           sp_error *err)
{
    methods chosen;
    const sp_option *option;
    const char *values;
    char value[WORD];
    SP_TRY(split_sweep(text, all, &chosen, &option, &values, err));
    size_t first = to->count;
    bool law = option->group == SP_GROUP_SAMPLING;
    for (const char *list = values; law && next_word(&list, value);)
        SP_TRY(add_value(to, options, all->items[0], to->count, option, value, err));
    for (size_t m = 0; m < chosen.count; m++) {
        size_t n = 0;
        if (chosen.items[m] == all->items[0] || !reads(chosen.items[m], option)) continue;
        for (const char *list = values; next_word(&list, value); n++)
            SP_TRY(add_value(to, options, chosen.items[m], law ? first + n : 0, option, value, err));
    }
    if (to->count > first) return SP_OK;
    return SP_FAIL(err, SP_EARG, "--sweep: none of the methods reads --%s; add one to --methods", option->name);
}

sp_status sp_settings_make(sp_settings *settings, const sp_options *options, const sp_engine *engine, sp_error *err)
{
    methods all = {.count = 0};
    *settings = (sp_settings){.options = calloc(SP_MOST_SETTINGS, sizeof *settings->options)};
    if (settings->options == NULL) return SP_FAIL(err, SP_ENOMEM, "no memory for the settings; free some");
    const char *list = options->methods != NULL ? options->methods : sp_request_defaults(engine).method;
    SP_TRY(read_methods(&all, list, sp_engine_info(engine).continuous, err));
    for (size_t i = 0; i < all.count; i++) SP_TRY(add_setting(settings, options, all.items[i], 0, err));
    for (size_t i = 0; i < options->sweep.count; i++)
        SP_TRY(add_sweep(settings, options, &all, options->sweep.items[i], err));
    return SP_OK;
}

void sp_settings_free(sp_settings *settings)
{
    free(settings->options);
    *settings = (sp_settings){0};
}

sp_request sp_settings_request(const sp_settings *settings, size_t i, const sp_engine *engine)
{
    return sp_setup_request(&settings->options[i], engine);
}

/* Options of sampling and speed, and the drafter, as --config names them. */
static json_t *options_of(const sp_options *options)
{
    json_t *all = sp_options_json(options), *out = json_object();
    for (const sp_option *o = sp_option_table; o < sp_option_table + SP_N_OPTIONS; o++) {
        char key[WORD];
        bool drafter = o == &sp_option_table[SP_OPTION_drafter];
        if (o->group != SP_GROUP_SPEED && o->group != SP_GROUP_SAMPLING && !drafter) continue;
        snprintf(key, sizeof key, "%s", o->name);
        for (char *c = key; *c != '\0'; c++)
            if (*c == '-') *c = '_';
        json_t *value = json_object_get(all, key);
        if (value != NULL) json_object_set(out, key, value);
    }
    json_decref(all);
    return out;
}

json_t *sp_settings_json(const sp_settings *settings)
{
    json_t *list = json_array();
    for (size_t i = 0; i < settings->count; i++) {
        json_t *object = json_pack("{ss so}", "name", settings->items[i].name, "options",
                                   options_of(&settings->options[i]));
        if (json_array_append_new(list, object) != 0) {
            json_decref(list);
            return NULL;
        }
    }
    return list;
}
