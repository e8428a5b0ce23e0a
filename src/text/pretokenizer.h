#ifndef SP_PRETOKENIZER_H
#define SP_PRETOKENIZER_H
/* The "pre_tokenizer" of a tokenizer.json: Sequence, Split (Isolated or Removed), Digits, Punctuation, and ByteLevel,
 * which has to come last. It cuts a normalized text into the words that the model encodes one by one.
 *
 *     SP_TRY(sp_pretokenizer_open(&p, "tokenizer.json", json_object_get(root, "pre_tokenizer"), err));
 *     SP_TRY(sp_pretokenizer_each(p, &matcher, text, size, encode_word, &state, err));  */
#include "text/pattern.h"

typedef struct sp_pretokenizer sp_pretokenizer; /* read-only, shared by threads */

/* SP_EUNSUPPORTED names what is not known. */
SP_CHECK sp_status sp_pretokenizer_open(sp_pretokenizer **out, const char *file, const json_t *json, sp_error *err);
void sp_pretokenizer_close(sp_pretokenizer *pretokenizer);

/* word [size] is borrowed for the call and not empty; a failure ends the walk and is returned. */
typedef sp_status sp_word_call(void *user, const char *word, size_t size, sp_error *err);

/* Every word of text [size], valid UTF-8, from left to right. */
SP_CHECK sp_status sp_pretokenizer_each(const sp_pretokenizer *pretokenizer, sp_matcher *matcher, const char *text,
                                        size_t size, sp_word_call *call, void *user, sp_error *err);

#endif
