/* Runs a fuzz target over every file of its committed corpus. */
#include <dirent.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int main(void)
{
    DIR *folder = opendir(SP_CORPUS);
    int count = 0;
    if (!folder) return perror(SP_CORPUS), 1;
    for (struct dirent *entry; (entry = readdir(folder));) {
        if (entry->d_name[0] == '.') continue;
        char path[4096];
        snprintf(path, sizeof path, "%s/%s", SP_CORPUS, entry->d_name);
        sp_bytes bytes;
        sp_error err = {0};
        if (sp_file_read(path, 1 << 20, &bytes, &err) != SP_OK) return fprintf(stderr, "%s\n", err.message), 1;
        /* A copy of the exact size: the sanitizer sees the first byte that is read beyond it. */
        uint8_t *exact = malloc(bytes.size ? bytes.size : 1);
        if (!exact) return 1;
        memcpy(exact, bytes.data, bytes.size);
        LLVMFuzzerTestOneInput(exact, bytes.size);
        free(exact);
        sp_bytes_free(&bytes);
        count++;
    }
    closedir(folder);
    printf("%d inputs\n", count);
    return count > 0 ? 0 : 1;
}
