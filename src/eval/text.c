#include "eval/text.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/arena.h"
#include "base/base64.h"
#include "base/file.h"

static void append(sp_text *text, const void *bytes, size_t size)
{
    if (!text->failed) text->failed = !sp_buffer_append(&text->buffer, bytes, size);
}

void sp_text_add(sp_text *text, const char *bytes) { append(text, bytes, strlen(bytes)); }

void sp_text_format(sp_text *text, const char *format, ...)
{
    char short_text[512];
    va_list arguments, again;
    va_start(arguments, format);
    va_copy(again, arguments);
    int length = vsnprintf(short_text, sizeof short_text, format, arguments);
    va_end(arguments);
    if (length < 0) {
        text->failed = true;
    } else if ((size_t)length < sizeof short_text) {
        append(text, short_text, (size_t)length);
    } else {
        char *whole = sp_alloc((size_t)length + 1, 1);
        if (whole) {
            vsnprintf(whole, (size_t)length + 1, format, again);
            append(text, whole, (size_t)length);
        }
        text->failed |= whole == NULL;
        sp_release(whole);
    }
    va_end(again);
}

void sp_text_html(sp_text *text, const char *content)
{
    for (const char *c = content; *c; c++) {
        switch (*c) {
        case '&': sp_text_add(text, "&amp;"); break;
        case '<': sp_text_add(text, "&lt;"); break;
        case '>': sp_text_add(text, "&gt;"); break;
        case '"': sp_text_add(text, "&quot;"); break;
        case '\'': sp_text_add(text, "&#39;"); break;
        default:
            if ((unsigned char)*c < 32 && *c != '\n' && *c != '\t')
                sp_text_add(text, "\xEF\xBF\xBD");
            else
                append(text, c, 1);
        }
    }
}

void sp_text_csv(sp_text *text, const char *field)
{
    size_t length = strlen(field);
    bool blank = length > 0 && (field[0] == ' ' || field[length - 1] == ' ');
    if (!blank && strpbrk(field, ",\"\r\n") == NULL) {
        sp_text_add(text, field);
        return;
    }
    append(text, "\"", 1);
    for (const char *c = field; *c; c++) append(text, *c == '"' ? "\"\"" : c, *c == '"' ? 2 : 1);
    append(text, "\"", 1);
}

void sp_text_base64(sp_text *text, const void *data, size_t size)
{
    enum { PART = 768 };
    char letters[PART / 3 * 4];
    const unsigned char *bytes = data;
    for (size_t i = 0; i < size; i += PART) {
        size_t part = size - i < PART ? size - i : PART;
        sp_base64(bytes + i, part, letters);
        append(text, letters, sp_base64_size(part));
    }
}

static int take_json(const char *bytes, size_t size, void *user)
{
    append(user, bytes, size);
    return 0;
}

void sp_text_json(sp_text *text, const json_t *value)
{
    if (json_dump_callback(value, take_json, text, JSON_INDENT(1) | JSON_REAL_PRECISION(9)) != 0) text->failed = true;
    append(text, "\n", 1);
}

sp_status sp_text_write(const sp_text *text, const char *path, sp_error *err)
{
    if (text->failed) return SP_FAIL(err, SP_ENOMEM, "no memory for the text of %s; free some", path);
    return sp_file_write(path, text->buffer.data, text->buffer.size, err);
}

void sp_text_free(sp_text *text)
{
    sp_buffer_free(&text->buffer);
    *text = (sp_text){0};
}
