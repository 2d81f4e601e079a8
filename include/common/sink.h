/* SPDX-License-Identifier: Apache-2.0 */
/* Where lines are written: stderr, a file or the journal; it never waits for a reader, and counts what it lost. */
#ifndef COMMON_SINK_H
#define COMMON_SINK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/err.h"
#include "common/str.h"

struct loop;
struct sink;

enum sink_kind {
	SINK_STDERR,
	SINK_JOURNAL,
	SINK_FILE,
};

#define SINK_JOURNAL_SOCKET "/run/systemd/journal/socket"

enum {
	SINK_QUEUE_MAX_BYTES = 262144 /* held back for a slow reader of stderr; what comes on top is lost */
};

/* Lines of one writer; several may share a sink. Lives as long as the sink. */
struct sink_count {
	uint64_t written;
	uint64_t dropped;
};

struct sink_line {
	struct str text;     /* with its newline; for the journal the message, without */
	unsigned priority;   /* of syslog(3); for the journal */
	struct str fields;   /* further KEY=value lines, each with newline, values without; for the journal */
	const char *program; /* for the journal */
};

/*
 * Opens one; the caller's reference. `path` is the file, or the journal's socket (SINK_JOURNAL_SOCKET but in a test). A file is
 * made with mode 0640 when it is not there; it must be a regular one and no symbolic link. A journal that is not there is no
 * error, now or later. 0 or negative errno, -EINVAL: not a regular file.
 */
MUST_CHECK int sink_open(struct loop *loop, enum sink_kind kind, const char *path, struct sink **out);
struct sink *sink_ref(struct sink *s);
/* The last reference writes what it can of what was held back and counts the rest. NULL is fine. */
void sink_unref(struct sink *s);

/* Whether sink_open could open that file, without making it. 0 or negative errno. */
MUST_CHECK int sink_check_file(const char *path);

/* Writes a line now, or later, or counts it as lost. A file takes it now or loses it. */
void sink_write(struct sink *s, const struct sink_line *line, struct sink_count *count);

/* Whether nothing is held back. */
bool sink_flows(const struct sink *s);

/* Opens the file anew, for who has renamed it. On failure the old one goes on. 0 or negative errno. */
MUST_CHECK int sink_reopen(struct sink *s);

enum sink_kind sink_kind(const struct sink *s);
/* The file or socket; NULL for stderr. */
const char *sink_path(const struct sink *s);

#endif
