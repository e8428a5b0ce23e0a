#ifndef SP_LEDGER_H
#define SP_LEDGER_H
/* What earlier runs and other shards did in an output folder: every record of journal.jsonl and
 * journal-<i>-of-<n>.jsonl, the newest within a journal. When two journals speak of one file either may be found, so
 * a record that does not fit is to be checked against the picture itself.
 *
 * A picture that is done: {"id", "line", "k", "seed", "file", "bytes", "settings", "report"}; settings is the
 * fingerprint of its metadata. A line or picture that failed: {"id", "line", "k", "error"}, id and k where known. */
#include <jansson.h>

#include "cli/shard.h"

/* The journal of a shard in a folder; owned by the caller (free), NULL when memory ran out. */
char *sp_ledger_journal(const char *folder, sp_run_shard shard);

/* *out is a new object {file name or "line <n>": record}. Journals of live processes are read too; a line that is being
 * written is left out. */
SP_CHECK sp_status sp_ledger_read(const char *folder, json_t **out, sp_error *err);

#endif
