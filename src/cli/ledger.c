#include "cli/ledger.h"

#include <dirent.h>
#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "io/json.h"

enum { JOURNAL_LIMIT = 1 << 30 };

char *sp_ledger_journal(const char *folder, sp_run_shard shard)
{
    char *path = NULL;
    int length = shard.count == 1 ? asprintf(&path, "%s/journal.jsonl", folder)
                                  : asprintf(&path, "%s/journal-%zu-of-%zu.jsonl", folder, shard.index, shard.count);
    return length < 0 ? NULL : path;
}

static bool is_journal(const char *name)
{
    const char *end = strrchr(name, '.');
    return strncmp(name, "journal", 7) == 0 && (name[7] == '.' || name[7] == '-') && end != NULL &&
           strcmp(end, ".jsonl") == 0;
}

static sp_status remember(json_t *ledger, json_t *record, sp_error *err)
{
    char line[48];
    const char *key = json_string_value(json_object_get(record, "file"));
    if (key == NULL) {
        snprintf(line, sizeof line, "line %lld", (long long)json_integer_value(json_object_get(record, "line")));
        key = line;
    }
    if (json_object_set(ledger, key, record) == 0) return SP_OK;
    return SP_FAIL(err, SP_ENOMEM, "no memory for the journal; free some");
}

static sp_status read_journal(const char *path, json_t *ledger, sp_error *err)
{
    sp_bytes bytes;
    SP_TRY(sp_file_read(path, JOURNAL_LIMIT, &bytes, err));
    sp_status status = SP_OK;
    const char *text = (const char *)bytes.data, *limit = text + bytes.size, *end;
    for (; status == SP_OK && (end = memchr(text, '\n', (size_t)(limit - text))) != NULL; text = end + 1) {
        json_t *record;
        status = sp_json_parse(&record, path, text, (size_t)(end - text), err);
        if (status != SP_OK) break;
        status = remember(ledger, record, err);
        json_decref(record);
    }
    sp_bytes_free(&bytes);
    return status;
}

sp_status sp_ledger_read(const char *folder, json_t **out, sp_error *err)
{
    DIR *list = opendir(folder);
    if (list == NULL)
        return SP_FAIL_ERRNO(err, SP_EOUTPUT, errno, "%s: %s; name a folder that can be read", folder, strerror(errno));
    json_t *ledger = json_object();
    sp_status status = ledger != NULL ? SP_OK : SP_FAIL(err, SP_ENOMEM, "no memory for the journal; free some");
    for (struct dirent *entry; status == SP_OK && (entry = readdir(list)) != NULL;) {
        if (!is_journal(entry->d_name)) continue;
        char *path = NULL;
        if (asprintf(&path, "%s/%s", folder, entry->d_name) < 0)
            status = SP_FAIL(err, SP_ENOMEM, "no memory for a file name; free some");
        else
            status = read_journal(path, ledger, err);
        free(path);
    }
    closedir(list);
    if (status == SP_OK)
        *out = ledger;
    else
        json_decref(ledger);
    return status;
}
