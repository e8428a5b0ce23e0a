#ifndef SP_BASE64_H
#define SP_BASE64_H
/* Base64 of RFC 4648, with padding. */
#include <stddef.h>

static inline size_t sp_base64_size(size_t size) { return (size + 2) / 3 * 4; }

/* text [sp_base64_size(size)], without a terminating zero. */
static inline void sp_base64(const unsigned char *data, size_t size, char *text)
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    for (size_t i = 0; i < size; i += 3) {
        unsigned long group = (unsigned long)data[i] << 16;
        if (i + 1 < size) group |= (unsigned long)data[i + 1] << 8;
        if (i + 2 < size) group |= data[i + 2];
        *text++ = digits[group >> 18 & 63];
        *text++ = digits[group >> 12 & 63];
        *text++ = i + 1 < size ? digits[group >> 6 & 63] : '=';
        *text++ = i + 2 < size ? digits[group & 63] : '=';
    }
}

#endif
