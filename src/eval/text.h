#ifndef SP_TEXT_H
#define SP_TEXT_H
/* Text under construction: CSV, HTML, SVG. Failures are remembered and told once, by sp_text_write.
 *
 *     sp_text page = {0};
 *     sp_text_format(&page, "<p>%zu pictures of ", count);
 *     sp_text_html(&page, prompt);
 *     status = sp_text_write(&page, "out/report.html", err);
 *     sp_text_free(&page);  */
#include <jansson.h>
#include <stdbool.h>

#include "base/error.h"
#include "io/buffer.h"

typedef struct sp_text {
    sp_buffer buffer;
    bool failed; /* memory ran out */
} sp_text;

void sp_text_add(sp_text *text, const char *bytes);
void sp_text_format(sp_text *text, const char *format, ...) SP_PRINTF(2, 3);

/* As the content of an HTML element or of a quoted attribute; control characters become U+FFFD. */
void sp_text_html(sp_text *text, const char *content);

/* A field of CSV (RFC 4180): quoted when it holds a comma, a quote, a line end, or begins or ends with a blank. */
void sp_text_csv(sp_text *text, const char *field);

/* Indented, with a line end. */
void sp_text_json(sp_text *text, const json_t *value);
void sp_text_base64(sp_text *text, const void *data, size_t size);

/* Atomically. */
SP_CHECK sp_status sp_text_write(const sp_text *text, const char *path, sp_error *err);
void sp_text_free(sp_text *text);

#endif
