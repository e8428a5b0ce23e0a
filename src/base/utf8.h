#ifndef SP_UTF8_H
#define SP_UTF8_H
/* UTF-8 as RFC 3629 defines it: no overlong forms, no surrogates, at most U+10FFFF.
 *
 *     size_t bad = sp_utf8_invalid(text, size);
 *     if (bad < size) ... byte bad starts no valid character
 *     for (size_t i = 0; i < size; i += n) n = sp_utf8_decode(text + i, size - i, &code);  */
#include <stddef.h>
#include <stdint.h>

/* Bytes of the character at text, or 0 if there is none; *code is its code point. */
static inline size_t sp_utf8_decode(const char *text, size_t size, uint32_t *code)
{
    const unsigned char *s = (const unsigned char *)text;
    if (size == 0) return 0;
    if (s[0] < 0x80) {
        *code = s[0];
        return 1;
    }
    size_t length = s[0] >= 0xF0 ? 4 : s[0] >= 0xE0 ? 3 : 2;
    if (s[0] < 0xC2 || s[0] > 0xF4 || size < length) return 0;
    uint32_t value = s[0] & (0x7Fu >> length);
    for (size_t i = 1; i < length; i++) {
        if ((s[i] & 0xC0) != 0x80) return 0;
        value = value << 6 | (s[i] & 0x3Fu);
    }
    if ((length == 3 && value < 0x800) || (length == 4 && value < 0x10000) || value > 0x10FFFF ||
        (value >= 0xD800 && value <= 0xDFFF))
        return 0;
    *code = value;
    return length;
}

/* Writes the character of a valid code point; returns its bytes, 1 to 4. */
static inline size_t sp_utf8_encode(uint32_t code, char out[4])
{
    if (code < 0x80) {
        out[0] = (char)code;
        return 1;
    }
    size_t length = code < 0x800 ? 2 : code < 0x10000 ? 3 : 4;
    for (size_t i = length - 1; i > 0; i--) {
        out[i] = (char)(0x80 | (code & 0x3F));
        code >>= 6;
    }
    out[0] = (char)((0xF00u >> length & 0xF0u) | code);
    return length;
}

/* Offset of the first byte that is not part of a valid character; size if there is none. */
static inline size_t sp_utf8_invalid(const char *text, size_t size)
{
    size_t i = 0, length = 0;
    uint32_t code;
    for (; i < size; i += length) {
        length = sp_utf8_decode(text + i, size - i, &code);
        if (length == 0) break;
    }
    return i;
}

#endif
