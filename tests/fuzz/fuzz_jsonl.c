/* A prompt file; its first byte chooses the name. Every item is either an error or a prompt that is safe to use. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/utf8.h"
#include "io/prompts.h"

static void require(int condition)
{
    if (!condition) abort();
}

static void check(const sp_prompt *p)
{
    if (p->error) {
        require(p->error[0] && !p->id && !p->prompt && !p->method && !p->draft_init && !p->has);
        return;
    }
    require(p->id && p->id[0] && p->id[0] != '.' && strlen(p->id) <= 100 && !strpbrk(p->id, "/\\ \n"));
    require(p->prompt && p->prompt[0] && sp_utf8_invalid(p->prompt, strlen(p->prompt)) == strlen(p->prompt));
    require(isfinite(p->cfg_scale) && isfinite(p->temperature) && isfinite(p->top_p));
    require(!(p->has & SP_PROMPT_N) || p->n > 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const char *const names[] = {"f.txt", "f.jsonl", "-"};
    if (size == 0) return 0;
    sp_prompts prompts;
    require(sp_prompts_parse(&prompts, names[data[0] % 3], (const char *)data + 1, size - 1, NULL) == SP_OK);
    for (size_t i = 0; i < prompts.count; i++) {
        const sp_prompt *p = &prompts.items[i];
        require(p->line > (i ? p[-1].line : 0));
        check(p);
        for (size_t j = 0; j < i && j < 20; j++)
            require(p->error || prompts.items[j].error || strcmp(p->id, prompts.items[j].id) != 0);
    }
    sp_prompts_free(&prompts);
    return 0;
}
