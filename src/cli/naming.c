#include "cli/naming.h"

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { LONGEST = 64 };

char *sp_naming_of_prompt(const char *prompt)
{
    char stem[LONGEST + 1];
    size_t length = 0;
    bool gap = false;
    for (const char *c = prompt; *c != '\0'; c++) {
        bool letter = (*c >= 'a' && *c <= 'z') || (*c >= 'A' && *c <= 'Z'), keep = letter ||
            (*c >= '0' && *c <= '9') || (unsigned char)*c >= 128;
        if (keep && length + gap >= LONGEST) break;
        if (keep && gap) stem[length++] = '-';
        if (keep) stem[length++] = letter ? (char)(*c | 32) : *c;
        gap = !keep && length > 0;
    }
    /* A cut inside a character leaves its first bytes: step back to the last whole one. */
    size_t start = length;
    while (start > 0 && ((unsigned char)stem[start - 1] & 0xC0u) == 0x80u) start--;
    if (start > 0 && (unsigned char)stem[start - 1] >= 0xC0u) {
        unsigned char lead = (unsigned char)stem[start - 1];
        size_t expected = lead >= 0xF0u ? 4 : lead >= 0xE0u ? 3 : 2;
        if (length - (start - 1) < expected) length = start - 1;
    }
    stem[length] = '\0';
    char *name = NULL;
    return asprintf(&name, "%s.png", length > 0 ? stem : "picture") < 0 ? NULL : name;
}

char *sp_naming_numbered(const char *path, size_t k)
{
    if (k == 0) return strdup(path);
    const char *slash = strrchr(path, '/'), *dot = strrchr(path, '.');
    if (dot == NULL || dot == path || (slash != NULL && dot <= slash + 1)) dot = path + strlen(path);
    char *name = NULL;
    return asprintf(&name, "%.*s-%zu%s", (int)(dot - path), path, k + 1, dot) < 0 ? NULL : name;
}
