#ifndef SP_NAMING_H
#define SP_NAMING_H
/* File names. Both return memory of the caller (free), or NULL when it ran out. */
#include <stddef.h>

/* "A red heart!" gives "a-red-heart.png": ASCII letters and digits in lower case, other UTF-8 as it is, the rest one
 * '-'; at most 64 bytes before the end. */
char *sp_naming_of_prompt(const char *prompt);

/* The k-th of several files: "heart.png", then "heart-2.png" for k = 1 and so on. */
char *sp_naming_numbered(const char *path, size_t k);

#endif
