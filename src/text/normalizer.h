#ifndef SP_NORMALIZER_H
#define SP_NORMALIZER_H
/* The "normalizer" of a tokenizer.json: Sequence, Lowercase, Replace, Strip, Prepend and NFC. NFC is not computed: a
 * text that it might change is refused.
 *
 *     SP_TRY(sp_normalizer_open(&normalizer, "tokenizer.json", json_object_get(root, "normalizer"), err));
 *     SP_TRY(sp_normalizer_apply(normalizer, &matcher, &text, err));  */
#include "io/buffer.h"
#include "text/pattern.h"

typedef struct sp_normalizer sp_normalizer; /* read-only, shared by threads */

/* json NULL or null: text stays as it is. SP_EUNSUPPORTED names what is not known. */
SP_CHECK sp_status sp_normalizer_open(sp_normalizer **out, const char *file, const json_t *json, sp_error *err);
void sp_normalizer_close(sp_normalizer *normalizer);

/* text is valid UTF-8 and is replaced. */
SP_CHECK sp_status sp_normalizer_apply(const sp_normalizer *normalizer, sp_matcher *matcher, sp_buffer *text,
                                       sp_error *err);

#endif
