#include "base/file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/arena.h"
#include "base/size.h"

/* O_NONBLOCK keeps a FIFO without a writer from blocking; it means nothing to a regular file. */
static sp_status open_regular(const char *path, int *descriptor, size_t *size, sp_error *err)
{
    int opened;
    do opened = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    while (opened < 0 && errno == EINTR);
    if (opened < 0)
        return SP_FAIL_ERRNO(err, SP_EFORMAT, errno, "%s: cannot be opened: %s; check the name", path, strerror(errno));
    struct stat info;
    sp_status status = SP_OK;
    if (fstat(opened, &info) != 0)
        status = SP_FAIL_ERRNO(err, SP_EFORMAT, errno, "%s: fstat: %s", path, strerror(errno));
    else if (!S_ISREG(info.st_mode))
        status = SP_FAIL(err, SP_EFORMAT, "%s: is %s, expected a regular file", path,
                         S_ISDIR(info.st_mode) ? "a folder" : "a device or pipe");
    else if ((uintmax_t)info.st_size > SIZE_MAX / 4)
        status = SP_FAIL(err, SP_EFORMAT, "%s: is too large for this machine", path);
    if (status != SP_OK) {
        close(opened);
        return status;
    }
    *descriptor = opened;
    *size = (size_t)info.st_size;
    return SP_OK;
}

/* Until end of file or limit + 1 bytes, so that the caller sees an excess; the stated size is only a first guess,
 * because a pipe has none and a file may grow. */
static sp_status read_all(const char *path, int descriptor, size_t guess, size_t limit, sp_bytes *out, sp_error *err)
{
    size_t capacity = guess + 2;
    unsigned char *data = sp_alloc(capacity, 1);
    size_t used = 0;
    sp_status status = SP_OK;
    while (data) {
        if (used + 1 == capacity) {
            unsigned char *larger = sp_alloc(capacity, 2);
            if (larger) memcpy(larger, data, used);
            sp_release(data);
            data = larger;
            capacity *= 2;
            continue;
        }
        ssize_t got = read(descriptor, data + used, capacity - used - 1);
        if (got < 0 && errno == EINTR) continue;
        if (got < 0)
            status = SP_FAIL_ERRNO(err, SP_EFORMAT, errno, "%s: cannot be read: %s", path, strerror(errno));
        else
            used += (size_t)got;
        if (got <= 0) break;
        if (used > limit) {
            status =
                SP_FAIL(err, SP_EFORMAT, "%s: has more than %zu bytes, which is the most for such a file", path, limit);
            break;
        }
    }
    if (!data) return SP_FAIL(err, SP_ENOMEM, "%s: no memory to read it", path);
    if (status != SP_OK) {
        sp_release(data);
        return status;
    }
    data[used] = 0;
    *out = (sp_bytes){data, used};
    return SP_OK;
}

sp_status sp_file_read(const char *path, size_t limit, sp_bytes *out, sp_error *err)
{
    *out = (sp_bytes){0};
    if (strcmp(path, "-") == 0) return read_all("standard input", STDIN_FILENO, 4096, limit, out, err);
    int descriptor;
    size_t size;
    SP_TRY(open_regular(path, &descriptor, &size, err));
    sp_status status = size <= limit
                           ? read_all(path, descriptor, size, limit, out, err)
                           : SP_FAIL(err, SP_EFORMAT, "%s: has %zu bytes, expected at most %zu", path, size, limit);
    close(descriptor);
    return status;
}

void sp_bytes_free(sp_bytes *bytes)
{
    sp_release(bytes->data);
    *bytes = (sp_bytes){0};
}

sp_status sp_map_open(const char *path, sp_map *out, sp_error *err)
{
    *out = (sp_map){0};
    int descriptor;
    size_t size;
    SP_TRY(open_regular(path, &descriptor, &size, err));
    void *data = size ? mmap(NULL, size, PROT_READ, MAP_PRIVATE, descriptor, 0) : NULL;
    int number = errno;
    close(descriptor);
    if (data == MAP_FAILED)
        return SP_FAIL_ERRNO(err, number == ENOMEM ? SP_ENOMEM : SP_EFORMAT, number, "%s: cannot be mapped: %s", path,
                             strerror(number));
    *out = (sp_map){data, size};
    return SP_OK;
}

void sp_map_drop(const sp_map *map)
{
    if (map->data) madvise((void *)(uintptr_t)map->data, map->size, MADV_DONTNEED);
}

void sp_map_close(sp_map *map)
{
    /* The pages came from mmap, so removing const is lawful. */
    if (map->data) munmap((void *)(uintptr_t)map->data, map->size);
    *map = (sp_map){0};
}

static size_t folder_length(const char *path)
{
    const char *slash = strrchr(path, '/');
    return slash ? (size_t)(slash - path) + 1 : 0;
}

/* path is copied with its links resolved, so that a link keeps pointing at what it names; temporary beside it. */
static sp_status name_files(sp_writer *writer, const char *path, sp_error *err)
{
    char *resolved = realpath(path, NULL);
    const char *target = resolved ? resolved : path;
    size_t length = strlen(target), folder = folder_length(target), room = length + 32;
    writer->path = sp_alloc(length + 1, 1);
    writer->temporary = sp_alloc(room, 1);
    if (writer->path && writer->temporary) {
        memcpy(writer->path, target, length);
        snprintf(writer->temporary, room, "%.*s.%s.%ld.part", (int)folder, target, target + folder, (long)getpid());
    }
    free(resolved);
    if (!writer->path || !writer->temporary) return SP_FAIL(err, SP_ENOMEM, "%s: no memory for its name", path);
    return SP_OK;
}

static int open_retry(const char *path, int flags, mode_t mode)
{
    int descriptor;
    do descriptor = open(path, flags, mode);
    while (descriptor < 0 && errno == EINTR);
    return descriptor;
}

sp_status sp_writer_open(sp_writer *writer, const char *path, sp_error *err)
{
    *writer = (sp_writer){.descriptor = -1};
    struct stat info;
    bool exists = stat(path, &info) == 0;
    if (exists && S_ISDIR(info.st_mode))
        return SP_FAIL_ERRNO(err, SP_EOUTPUT, EISDIR, "%s: is a folder, expected a file to write", path);
    if (strlen(path) > INT16_MAX || !*path)
        return SP_FAIL(err, SP_EOUTPUT, "output name of %zu characters; expected 1 to %d", strlen(path), INT16_MAX);
    sp_status status;
    SP_GO(name_files(writer, path, err));
    writer->in_place = exists && !S_ISREG(info.st_mode);
    if (writer->in_place) {
        writer->descriptor = open_retry(path, O_WRONLY | O_CLOEXEC, 0);
    } else {
        int flags = O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC;
        mode_t mode = exists ? info.st_mode & 0777 : 0666;
        writer->descriptor = open_retry(writer->temporary, flags, mode);
        /* A leftover of a dead process whose number this one was given: nobody else uses this name. */
        if (writer->descriptor < 0 && errno == EEXIST && unlink(writer->temporary) == 0)
            writer->descriptor = open_retry(writer->temporary, flags, mode);
    }
    if (writer->descriptor < 0)
        status = SP_FAIL_ERRNO(err, SP_EOUTPUT, errno, "%s: cannot be written: %s; check the folder and its rights",
                               path, strerror(errno));
out:
    if (status != SP_OK) sp_writer_discard(writer);
    return status;
}

sp_status sp_writer_write(sp_writer *writer, const void *data, size_t size, sp_error *err)
{
    const unsigned char *bytes = data;
    while (size > 0) {
        ssize_t put = write(writer->descriptor, bytes, size);
        if (put < 0 && errno == EINTR) continue;
        if (put <= 0)
            return SP_FAIL_ERRNO(err, SP_EOUTPUT, errno, "%s: writing failed: %s; free some space and run again",
                                 writer->path, put < 0 ? strerror(errno) : "no progress");
        bytes += put;
        size -= (size_t)put;
    }
    return SP_OK;
}

static int sync_retry(int descriptor)
{
    int result;
    do result = fsync(descriptor);
    while (result != 0 && errno == EINTR);
    return result;
}

/* Makes the rename last. A file system that has no fsync for folders says EINVAL. */
static sp_status sync_folder(const char *path, sp_error *err)
{
    size_t length = folder_length(path);
    char *folder = sp_alloc(length + 2, 1);
    if (!folder) return SP_FAIL(err, SP_ENOMEM, "%s: no memory for its folder's name", path);
    memcpy(folder, length ? path : "./", length ? length : 2);
    int descriptor = open_retry(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC, 0);
    sp_release(folder);
    int result = descriptor < 0 ? -1 : sync_retry(descriptor), number = errno;
    if (descriptor >= 0) close(descriptor);
    if (result != 0 && number != EINVAL)
        return SP_FAIL_ERRNO(err, SP_EOUTPUT, number, "%s: its folder cannot be synced: %s", path, strerror(number));
    return SP_OK;
}

sp_status sp_writer_commit(sp_writer *writer, sp_error *err)
{
    sp_status status = SP_OK;
    if (!writer->in_place && sync_retry(writer->descriptor) != 0)
        status = SP_FAIL_ERRNO(err, SP_EOUTPUT, errno, "%s: fsync: %s", writer->path, strerror(errno));
    /* After EINTR the descriptor is closed all the same, and fsync has already told of lost data. */
    int closed = close(writer->descriptor);
    writer->descriptor = -1;
    if (status == SP_OK && closed != 0 && errno != EINTR)
        status = SP_FAIL_ERRNO(err, SP_EOUTPUT, errno, "%s: close: %s", writer->path, strerror(errno));
    if (status == SP_OK && !writer->in_place) {
        if (rename(writer->temporary, writer->path) != 0) {
            status = SP_FAIL_ERRNO(err, SP_EOUTPUT, errno, "%s: cannot be renamed to %s: %s", writer->temporary,
                                   writer->path, strerror(errno));
        } else {
            sp_release(writer->temporary);
            writer->temporary = NULL;
            status = sync_folder(writer->path, err);
        }
    }
    sp_writer_discard(writer);
    return status;
}

void sp_writer_discard(sp_writer *writer)
{
    if (writer->descriptor >= 0) close(writer->descriptor);
    if (writer->temporary && !writer->in_place) unlink(writer->temporary);
    sp_release(writer->path);
    sp_release(writer->temporary);
    *writer = (sp_writer){.descriptor = -1};
}

sp_status sp_file_write(const char *path, const void *data, size_t size, sp_error *err)
{
    sp_writer writer;
    SP_TRY(sp_writer_open(&writer, path, err));
    sp_status status;
    SP_GO(sp_writer_write(&writer, data, size, err));
    return sp_writer_commit(&writer, err);
out:
    sp_writer_discard(&writer);
    return status;
}

sp_status sp_folder_make(const char *path, sp_error *err)
{
    struct stat info;
    if (mkdir(path, 0777) == 0) return SP_OK;
    int number = errno;
    if (number == EEXIST && stat(path, &info) == 0 && S_ISDIR(info.st_mode)) return SP_OK;
    return SP_FAIL_ERRNO(err, SP_EOUTPUT, number, "cannot make the folder %s: %s; name another", path,
                         strerror(number));
}
