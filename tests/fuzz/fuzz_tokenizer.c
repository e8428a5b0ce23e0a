/* A tokenizer.json, a zero byte, and a text: whatever is accepted encodes the text to ids of its vocabulary. With no
 * zero byte the whole input is a text for a tokenizer that is known to be good. */
#include <stdlib.h>
#include <string.h>

#include "text/tokenizer.h"

enum { CAPACITY = 64, TEXT_LIMIT = 4096 };

static const char good[] =
    "{\"added_tokens\":[{\"id\":9,\"content\":\"<s>\"},{\"id\":10,\"content\":\"<s>>\",\"normalized\":true}],"
    "\"normalizer\":{\"type\":\"Sequence\",\"normalizers\":[{\"type\":\"NFC\"},{\"type\":\"Lowercase\"},"
    "{\"type\":\"Replace\",\"pattern\":{\"Regex\":\"[^a-z \\\\p{L}\\\\p{N}]+\"},\"content\":\" \"},"
    "{\"type\":\"Strip\",\"strip_left\":true,\"strip_right\":true},{\"type\":\"Prepend\",\"prepend\":\" \"}]},"
    "\"pre_tokenizer\":{\"type\":\"Sequence\",\"pretokenizers\":[{\"type\":\"Digits\",\"individual_digits\":true},"
    "{\"type\":\"Punctuation\"},{\"type\":\"ByteLevel\",\"add_prefix_space\":true,\"use_regex\":true}]},"
    "\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":0,\"b\":1,\"c\":2,\"\\u0120\":3,\"ab\":4,\"abc\":5,\"\\u0120a\":6,"
    "\"bc\":7,\"\\u0120abc\":8},\"merges\":[\"b c\",\"a bc\",[\"a\",\"b\"],\"\\u0120 a\",\"\\u0120 abc\"]}}";

static void require(int condition)
{
    if (!condition) abort();
}

static void encode(const sp_tokenizer *tokenizer, const char *text, size_t size)
{
    int32_t ids[CAPACITY];
    size_t count, again;
    sp_error err = {0};
    if (sp_tokenizer_encode(tokenizer, text, size, ids, CAPACITY, &count, &err) != SP_OK) {
        require(err.message[0] && err.status != SP_EBUG && count == 0);
        return;
    }
    for (size_t i = 0; i < count && i < CAPACITY; i++)
        require(ids[i] >= 0 && (size_t)ids[i] < sp_tokenizer_vocab(tokenizer));
    require(sp_tokenizer_encode(tokenizer, text, size, NULL, 0, &again, NULL) == SP_OK && again == count);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static sp_tokenizer *known;
    const char *text = (const char *)data;
    const char *zero = memchr(text, 0, size);
    size_t skip = zero ? (size_t)(zero - text) + 1 : 0;
    sp_tokenizer *tokenizer;
    sp_error err = {0};
    if (size - skip > TEXT_LIMIT) return 0;
    if (!zero) {
        if (!known) require(sp_tokenizer_parse(&known, "good", good, sizeof good - 1, NULL) == SP_OK);
        encode(known, text, size);
    } else if (sp_tokenizer_parse(&tokenizer, "fuzz", text, skip - 1, &err) == SP_OK) {
        encode(tokenizer, text + skip, size - skip);
        sp_tokenizer_close(tokenizer);
    } else {
        require(!tokenizer && err.message[0] && err.status != SP_EBUG);
    }
    return 0;
}
