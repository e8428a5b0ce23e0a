#ifndef SP_JOURNAL_H
#define SP_JOURNAL_H
/* An append-only file of one JSON object a line, held by one process at a time.
 *
 *     sp_journal *journal;
 *     SP_TRY(sp_journal_open(&journal, "out/journal.jsonl", err));
 *     SP_TRY(sp_journal_each(journal, remember, &done, err));        // what earlier runs finished
 *     SP_TRY(sp_journal_append(journal, record, err));               // on the disk when it returns
 *     sp_journal_close(journal);
 *
 * A record is one write followed by fdatasync, so a killed run leaves at most one unfinished last line: it is not
 * visited, sp_journal_torn tells its size, and the next append removes it. Not thread-safe. */
#include <jansson.h>

#include "base/error.h"

typedef struct sp_journal sp_journal;

/* Creates the file if need be and locks it; SP_EOUTPUT if another process holds it. */
SP_CHECK sp_status sp_journal_open(sp_journal **out, const char *path, sp_error *err);
void sp_journal_close(sp_journal *journal);

size_t sp_journal_torn(const sp_journal *journal); /* bytes of an unfinished last line, 0 for none */

/* record is borrowed for the call; a failure ends the walk and is returned. */
typedef sp_status sp_journal_visit(void *user, const json_t *record, sp_error *err);

/* Every whole record, oldest first. SP_EFORMAT names the line that is not a JSON object. */
SP_CHECK sp_status sp_journal_each(sp_journal *journal, sp_journal_visit *visit, void *user, sp_error *err);

/* record is borrowed, a JSON object. After SP_EOUTPUT the file is as it was before. */
SP_CHECK sp_status sp_journal_append(sp_journal *journal, const json_t *record, sp_error *err);

#endif
