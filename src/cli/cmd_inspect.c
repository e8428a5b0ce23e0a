#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/commands.h"
#include "cli/metadata.h"
#include "cli/number.h"
#include "cli/setup.h"

/* A word for the shell. Pictures come from anywhere: control characters are spelled out, so that no picture can steer
 * the terminal on which the command is read. */
static void put_word(FILE *to, const char *text)
{
    bool controls = false, plain = *text != '\0';
    for (const char *c = text; *c != '\0'; c++) {
        controls = controls || (unsigned char)*c < 32 || *c == 127;
        plain = plain && strchr("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._/+-", *c) != NULL;
    }
    if (plain) {
        fputs(text, to);
        return;
    }
    fputs(controls ? "$'" : "'", to);
    for (const char *c = text; *c != '\0'; c++) {
        if (controls && ((unsigned char)*c < 32 || *c == 127))
            fprintf(to, "\\x%02x", (unsigned)*c);
        else if (controls && (*c == '\'' || *c == '\\'))
            fprintf(to, "\\%c", *c);
        else if (*c == '\'')
            fputs("'\\''", to);
        else
            fputc(*c, to);
    }
    fputc('\'', to);
}

static void put_option(FILE *to, const char *name, const char *value)
{
    fprintf(to, " --%s=", name);
    put_word(to, value);
}

static sp_status put_text(FILE *to, const json_t *settings, const char *file, const char *key, const char *name,
                          sp_error *err)
{
    const char *value = json_string_value(json_object_get(settings, key));
    if (value == NULL) return SP_FAIL(err, SP_EFORMAT, "%s: its settings have no text '%s'", file, key);
    put_option(to, name, value);
    return SP_OK;
}

static sp_status put_number(FILE *to, const json_t *settings, const char *file, const char *key, const char *name,
                            sp_error *err)
{
    const json_t *value = json_object_get(settings, key);
    if (!json_is_number(value)) return SP_FAIL(err, SP_EFORMAT, "%s: its settings have no number '%s'", file, key);
    char text[64];
    if (json_is_integer(value))
        snprintf(text, sizeof text, "%" JSON_INTEGER_FORMAT, json_integer_value(value));
    else
        snprintf(text, sizeof text, "%.9g", json_real_value(value));
    put_option(to, name, text);
    return SP_OK;
}

static sp_status put_seed(FILE *to, const json_t *settings, const char *file, sp_error *err)
{
    uint64_t seed;
    if (!sp_json_seed_value(json_object_get(settings, "seed"), &seed))
        return SP_FAIL(err, SP_EFORMAT, "%s: its settings have no seed", file);
    fprintf(to, " --seed=%" PRIu64, seed);
    return SP_OK;
}

/* Settings of a method whose tokens are those of ar are left out: any such method makes the same picture, and the
 * default of models with discrete tokens is one. */
static sp_status put_method(FILE *to, const json_t *settings, const char *file, sp_error *err)
{
    const char *exactness = json_string_value(json_object_get(settings, "exactness"));
    bool continuous = json_is_true(json_object_get(settings, "continuous"));
    if (exactness != NULL && strcmp(exactness, sp_exactness_name(SP_IDENTICAL)) == 0)
        return continuous ? put_text(to, settings, file, "method", "method", err) : SP_OK;
    SP_TRY(put_text(to, settings, file, "method", "method", err));
    SP_TRY(put_text(to, settings, file, "draft_init", "draft-init", err));
    if (json_integer_value(json_object_get(settings, "window")) > 0)
        SP_TRY(put_number(to, settings, file, "window", "window", err));
    const char *method = json_string_value(json_object_get(settings, "method"));
    for (const sp_method *known = sp_methods(); known->name != NULL; known++) {
        char name[64], key[64];
        if (strcmp(known->name, method) != 0 || known->continuous != continuous) continue;
        for (const char *rest = known->settings;
             (rest = sp_metadata_next_setting(rest, name, key, sizeof name)) != NULL;) {
            bool is_text = json_is_string(json_object_get(settings, key));
            SP_TRY((is_text ? put_text : put_number)(to, settings, file, key, name, err));
        }
    }
    if (json_object_get(settings, "drafter") == NULL) return SP_OK;
    return put_text(to, settings, file, "drafter", "drafter", err);
}

static sp_status put_command(FILE *to, const sp_options *options, const json_t *settings, sp_error *err)
{
    const char *file = options->operand, *slash = strrchr(file, '/');
    fputs("specular generate", to);
    if (options->model != NULL) put_option(to, "model", options->model);
    SP_TRY(put_text(to, settings, file, "prompt", "prompt", err));
    SP_TRY(put_seed(to, settings, file, err));
    SP_TRY(put_number(to, settings, file, "image", "image-index", err));
    SP_TRY(put_number(to, settings, file, "cfg_scale", "cfg-scale", err));
    SP_TRY(put_number(to, settings, file, "temperature", "temperature", err));
    SP_TRY(put_number(to, settings, file, "top_k", "top-k", err));
    SP_TRY(put_number(to, settings, file, "top_p", "top-p", err));
    if (json_object_get(settings, "passes") != NULL)
        SP_TRY(put_number(to, settings, file, "passes", "passes", err));
    SP_TRY(put_text(to, settings, file, "dtype", "dtype", err));
    SP_TRY(put_text(to, settings, file, "kernels", "kernels", err));
    SP_TRY(put_method(to, settings, file, err));
    put_option(to, "output", slash != NULL ? slash + 1 : file);
    return SP_OK;
}

/* The command is whole or not printed: half of one, pasted, would draw another picture. */
static sp_status print_command(const sp_options *options, const json_t *settings, sp_error *err)
{
    char *text = NULL;
    size_t size;
    FILE *to = open_memstream(&text, &size);
    if (to == NULL) return SP_FAIL(err, SP_ENOMEM, "no memory for a command; free some");
    sp_status status = put_command(to, options, settings, err);
    if (fclose(to) != 0 && status == SP_OK) status = SP_FAIL(err, SP_ENOMEM, "no memory for a command; free some");
    if (status == SP_OK) puts(text);
    free(text);
    const char *model = json_string_value(json_object_get(settings, "model"));
    const char *fingerprint = json_string_value(json_object_get(settings, "model_fingerprint"));
    if (status == SP_OK && options->model == NULL && model != NULL && fingerprint != NULL)
        sp_setup_note(options, "made by model %s, fingerprint %s; give --model DIR unless it is the default", model,
                      fingerprint);
    return status;
}

sp_status sp_cmd_inspect(const sp_options *options, bool *some_failed, sp_error *err)
{
    (void)some_failed;
    json_t *settings;
    SP_TRY(sp_metadata_read(options->operand, &settings, err));
    sp_status status = options->as_command ? print_command(options, settings, err)
                                           : sp_setup_write_json("-", settings, JSON_INDENT(2), err);
    json_decref(settings);
    return status;
}
