#ifndef SP_PROMPTS_H
#define SP_PROMPTS_H
/* Prompt files. A .txt has a prompt a line, and blank lines are skipped; a .jsonl has an object a line:
 *
 *     {"prompt": "red heart", "id": "heart", "seed": 7, "n": 4, "cfg_scale": 3.5}
 *
 * Other names and "-" (stdin) are JSONL when the first byte that is not a space is '{'. A byte order mark and CRLF are
 * accepted; null is the same as an absent key. A bad line does not stop the others: it becomes an item whose error
 * says why.
 *
 *     sp_prompts prompts;
 *     SP_TRY(sp_prompts_read(&prompts, "prompts.jsonl", err));
 *     for (size_t i = 0; i < prompts.count; i++) {
 *         const sp_prompt *p = &prompts.items[i];
 *         if (p->error) report(p->line, p->error);
 *         else draw(p->id, p->prompt, p->has & SP_PROMPT_SEED ? p->seed : default_seed);
 *     }
 *     sp_prompts_free(&prompts);  */
#include <stdint.h>

#include "base/error.h"

enum { SP_PROMPT_LINE_LIMIT = 1 << 20, SP_PROMPT_FILE_LIMIT = 1 << 30 }; /* bytes */

/* Which numbers a line sets. */
enum {
    SP_PROMPT_SEED = 1,
    SP_PROMPT_N = 2,
    SP_PROMPT_WINDOW = 4,
    SP_PROMPT_CFG_SCALE = 8,
    SP_PROMPT_TEMPERATURE = 16,
    SP_PROMPT_TOP_K = 32,
    SP_PROMPT_TOP_P = 64
};

typedef struct sp_prompt {
    size_t line;      /* from 1 */
    char *error;      /* NULL, or why the line is bad, without file and line; then only line is set */
    char *id;         /* a safe file stem: [A-Za-z0-9._-], 1 to 100 characters, no leading '.'; unique in the file;
                         by default the line number in six digits */
    char *prompt;     /* UTF-8, not empty */
    char *method;     /* NULL: not set; the name is not checked here */
    char *draft_init; /* NULL: not set; the name is not checked here */
    unsigned has;     /* SP_PROMPT_... of the numbers below */
    uint64_t seed;    /* a JSON integer, or a string of decimal digits for 2^63 and above */
    uint32_t n;       /* images, at least 1 */
    int window;       /* 0 for "auto" */
    float cfg_scale, temperature, top_p; /* finite; ranges are those of sp_request_check */
    int top_k;
} sp_prompt;

typedef struct sp_prompts {
    size_t count;
    sp_prompt *items; /* in the order of the file */
} sp_prompts;

/* SP_EFORMAT when the file as a whole cannot be read. */
SP_CHECK sp_status sp_prompts_read(sp_prompts *out, const char *path, sp_error *err);

/* The same from memory; the end of name decides on the format as above. */
SP_CHECK sp_status sp_prompts_parse(sp_prompts *out, const char *name, const char *text, size_t size, sp_error *err);
void sp_prompts_free(sp_prompts *prompts);

#endif
