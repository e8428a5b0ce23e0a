#ifndef SP_FILE_H
#define SP_FILE_H
/* Files: read whole, map, and replace atomically (temporary in the same folder, write, fsync, close, rename, fsync of
 * the folder, each checked). A reader sees the old file or the whole new one. A killed process leaves at most a
 * temporary ".<name>.<process id>.part" beside the file. */
#include <stdbool.h>
#include <stdio.h>

#include "base/error.h"

typedef struct sp_bytes {
    unsigned char *data; /* owned; data[size] is a zero byte */
    size_t size;
} sp_bytes;

/* Whole regular file of at most limit bytes; "-" is stdin. Free with sp_bytes_free. */
SP_CHECK sp_status sp_file_read(const char *path, size_t limit, sp_bytes *out, sp_error *err);
void sp_bytes_free(sp_bytes *bytes);

typedef struct sp_map {
    const unsigned char *data; /* read-only pages of the file until sp_map_close; NULL for an empty file */
    size_t size;
} sp_map;

SP_CHECK sp_status sp_map_open(const char *path, sp_map *out, sp_error *err);
void sp_map_drop(const sp_map *map); /* gives its memory back; what is read again is read from the file again */
void sp_map_close(sp_map *map);

/* An atomic write in pieces. commit or discard ends it; after a failed write call discard. Character devices such as
 * /dev/full and pipes are written in place, since they cannot be renamed over. One writer a path at a time. */
typedef struct sp_writer {
    int descriptor;
    bool in_place;
    char *path;      /* owned */
    char *temporary; /* owned */
} sp_writer;

SP_CHECK sp_status sp_writer_open(sp_writer *writer, const char *path, sp_error *err);
SP_CHECK sp_status sp_writer_write(sp_writer *writer, const void *data, size_t size, sp_error *err);
SP_CHECK sp_status sp_writer_commit(sp_writer *writer, sp_error *err);
void sp_writer_discard(sp_writer *writer);

/* Makes a folder unless it is there; the one above it must be. */
SP_CHECK sp_status sp_folder_make(const char *path, sp_error *err);

/* open, write, commit in one. */
SP_CHECK sp_status sp_file_write(const char *path, const void *data, size_t size, sp_error *err);

#endif
