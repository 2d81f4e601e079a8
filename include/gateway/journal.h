/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Records by key, in a file that survives the end of the process, however it comes: nothing is synced to the disk, so after
 * a crash of the whole machine the last of them may be missing.
 */
#ifndef GATEWAY_JOURNAL_H
#define GATEWAY_JOURNAL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/err.h"
#include "common/str.h"

struct journal;

enum {
	JOURNAL_RECORD_MAX_BYTES =
		4096 /* key and value together; how many records there are is the caller's to bound */
};

/*
 * Opens the file, making it with mode 0600, and calls on_record for each record in it, oldest change first, before it returns; both
 * texts are borrowed for the call. A line that was cut short by the end of the process is cut off; any other that cannot be
 * read is skipped, counted and logged. Blocks: for start-up. 0 and *out, or a negative errno: -EINVAL when the path is no
 * regular file.
 */
MUST_CHECK int journal_open(const char *path, void (*on_record)(void *arg, struct str key, struct str value), void *arg,
			    struct journal **out);
/* Writes what is still owed to the file, if it can. NULL is fine. */
void journal_free(struct journal *j);

/*
 * Adds or replaces a record. What could not be written is kept in memory and written before anything that comes later; it is
 * logged when that begins and when it ends. 0, or -errno: it is (for now) in memory only. But for -EINVAL (an empty key),
 * -EMSGSIZE (too long) and -ENOMEM: then nothing has changed.
 */
int journal_put(struct journal *j, struct str key, struct str value);
/* Forgets a record; one that is not there is fine. 0, or -errno as above. */
int journal_drop(struct journal *j, struct str key);
/* Tries again to write what is owed. 0 when nothing is owed any more, or -errno. */
int journal_retry(struct journal *j);

/* Records in memory, and lines that could not be read when it was opened. */
size_t journal_count(const struct journal *j);
uint64_t journal_damaged(const struct journal *j);
/* Whether something is owed to the file. */
bool journal_owes(const struct journal *j);

#endif
