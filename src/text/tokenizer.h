#ifndef SP_TOKENIZER_H
#define SP_TOKENIZER_H
/* Text to ids by byte-level BPE, as tokenizer.json (Hugging Face tokenizers) spells it out. Any part of the file that
 * is not known here is refused by name, never guessed.
 *
 *     sp_tokenizer *tokenizer;
 *     SP_TRY(sp_tokenizer_open(&tokenizer, "tokenizer.json", err));
 *     SP_TRY(sp_tokenizer_encode(tokenizer, "red heart", 9, ids, 16, &n, err));
 *
 * Read-only after opening, shared by threads. */
#include <stdint.h>

#include "base/error.h"

typedef struct sp_tokenizer sp_tokenizer;

SP_CHECK sp_status sp_tokenizer_open(sp_tokenizer **out, const char *path, sp_error *err);
SP_CHECK sp_status sp_tokenizer_parse(sp_tokenizer **out, const char *name, const char *text, size_t size,
                                      sp_error *err);
void sp_tokenizer_close(sp_tokenizer *tokenizer);
size_t sp_tokenizer_vocab(const sp_tokenizer *tokenizer); /* one more than the largest id */

/* ids [capacity] gets the first min(*count, capacity); *count is how many the whole text has. text is UTF-8 of size
 * bytes, at most SP_TEXT_LIMIT; invalid UTF-8 is SP_EARG with the byte's offset. */
enum { SP_TEXT_LIMIT = 1 << 20 };
SP_CHECK sp_status sp_tokenizer_encode(const sp_tokenizer *tokenizer, const char *text, size_t size, int32_t *ids,
                                       size_t capacity, size_t *count, sp_error *err);

#endif
