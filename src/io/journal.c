#include "io/journal.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/arena.h"
#include "base/file.h"
#include "io/buffer.h"
#include "io/json.h"

struct sp_journal {
    int descriptor;
    size_t size; /* of the whole records */
    size_t torn; /* bytes after them */
    char *path;
};

/* The whole records end at the last newline; it is looked for from the end, so a long journal opens at once. */
static sp_status find_end(sp_journal *journal, sp_error *err)
{
    char block[4096];
    struct stat info;
    if (fstat(journal->descriptor, &info) != 0)
        return SP_FAIL_ERRNO(err, SP_EFORMAT, errno, "%s: fstat: %s", journal->path, strerror(errno));
    if (!S_ISREG(info.st_mode))
        return SP_FAIL(err, SP_EOUTPUT, "%s: is a folder, device or pipe, expected a regular file", journal->path);
    size_t file = (size_t)info.st_size, end = file;
    while (end > 0) {
        size_t part = end < sizeof block ? end : sizeof block;
        ssize_t got = pread(journal->descriptor, block, part, (off_t)(end - part));
        if (got < 0 && errno == EINTR) continue;
        if (got != (ssize_t)part)
            return SP_FAIL_ERRNO(err, SP_EFORMAT, errno, "%s: cannot be read: %s", journal->path,
                                 got < 0 ? strerror(errno) : "it shrank");
        while (part > 0 && block[part - 1] != '\n') {
            part--;
            end--;
        }
        if (part > 0) break;
    }
    journal->size = end;
    journal->torn = file - end;
    return SP_OK;
}

static sp_status open_locked(sp_journal *journal, sp_error *err)
{
    do journal->descriptor = open(journal->path, O_RDWR | O_CREAT | O_APPEND | O_CLOEXEC | O_NONBLOCK, 0666);
    while (journal->descriptor < 0 && errno == EINTR);
    if (journal->descriptor < 0)
        return SP_FAIL_ERRNO(err, SP_EOUTPUT, errno, "%s: cannot be opened: %s", journal->path, strerror(errno));
    int locked;
    do locked = flock(journal->descriptor, LOCK_EX | LOCK_NB);
    while (locked != 0 && errno == EINTR);
    if (locked != 0)
        return SP_FAIL_ERRNO(err, SP_EOUTPUT, errno, "%s: %s; wait for it or choose another folder", journal->path,
                             errno == EWOULDBLOCK ? "another process is writing here" : strerror(errno));
    return find_end(journal, err);
}

sp_status sp_journal_open(sp_journal **out, const char *path, sp_error *err)
{
    *out = NULL;
    sp_journal *journal = sp_alloc(1, sizeof *journal);
    char *copy = sp_alloc(strlen(path) + 1, 1);
    if (!journal || !copy) {
        sp_release(journal);
        sp_release(copy);
        return SP_FAIL(err, SP_ENOMEM, "%s: no memory to open it", path);
    }
    memcpy(copy, path, strlen(path));
    *journal = (sp_journal){.descriptor = -1, .path = copy};
    sp_status status = open_locked(journal, err);
    if (status == SP_OK)
        *out = journal;
    else
        sp_journal_close(journal);
    return status;
}

void sp_journal_close(sp_journal *journal)
{
    if (!journal) return;
    if (journal->descriptor >= 0) close(journal->descriptor);
    sp_release(journal->path);
    sp_release(journal);
}

size_t sp_journal_torn(const sp_journal *journal) { return journal->torn; }

sp_status sp_journal_each(sp_journal *journal, sp_journal_visit *visit, void *user, sp_error *err)
{
    sp_map map;
    SP_TRY(sp_map_open(journal->path, &map, err));
    sp_status status = SP_OK;
    size_t end = journal->size < map.size ? journal->size : map.size;
    for (size_t at = 0, line = 1, length; status == SP_OK && at < end; at += length + 1, line++) {
        const char *text = (const char *)map.data + at;
        const char *newline = memchr(text, '\n', end - at);
        length = newline ? (size_t)(newline - text) : end - at;
        json_t *record = NULL;
        status = sp_json_parse(&record, journal->path, text, length, NULL);
        if (status == SP_ENOMEM)
            status = SP_FAIL(err, status, "%s: no memory for line %zu", journal->path, line);
        else if (!json_is_object(record))
            status = SP_FAIL(err, SP_EFORMAT, "%s: line %zu is not a JSON object; remove that line and run again",
                             journal->path, line);
        else
            status = visit(user, record, err);
        json_decref(record);
    }
    sp_map_close(&map);
    return status;
}

/* Cuts the file back to its whole records. */
static sp_status cut(sp_journal *journal, sp_error *err)
{
    int result;
    do result = ftruncate(journal->descriptor, (off_t)journal->size);
    while (result != 0 && errno == EINTR);
    if (result != 0)
        return SP_FAIL_ERRNO(err, SP_EOUTPUT, errno, "%s: cannot be cut: %s", journal->path, strerror(errno));
    journal->torn = 0;
    return SP_OK;
}

static int collect(const char *bytes, size_t size, void *buffer)
{
    return sp_buffer_append(buffer, bytes, size) ? 0 : -1;
}

sp_status sp_journal_append(sp_journal *journal, const json_t *record, sp_error *err)
{
    if (!json_is_object(record)) return SP_FAIL(err, SP_EBUG, "%s: a record is not a JSON object", journal->path);
    if (journal->torn) SP_TRY(cut(journal, err));
    sp_buffer line = {0};
    sp_status status = SP_OK;
    if (json_dump_callback(record, collect, &line, JSON_COMPACT | JSON_PRESERVE_ORDER) != 0 ||
        !sp_buffer_append(&line, "\n", 1)) {
        status = SP_FAIL(err, SP_ENOMEM, "%s: no memory for a record", journal->path);
        goto out;
    }
    ssize_t put;
    do put = write(journal->descriptor, line.data, line.size);
    while (put < 0 && errno == EINTR);
    if (put != (ssize_t)line.size || fdatasync(journal->descriptor) != 0) {
        int number = put < 0 || put == (ssize_t)line.size ? errno : ENOSPC;
        status = SP_FAIL_ERRNO(err, SP_EOUTPUT, number, "%s: writing failed: %s; free some space and run again",
                               journal->path, strerror(number));
        if (put > 0) (void)!cut(journal, NULL);
        goto out;
    }
    journal->size += line.size;
out:
    sp_buffer_free(&line);
    return status;
}
