/* SPDX-License-Identifier: Apache-2.0 */
/* A directory below $TMPDIR for one test's files: made, filled, looked into, and removed with all that is in it. */
#ifndef LIB_SCRATCH_H
#define LIB_SCRATCH_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#include "common/buf.h"

struct scratch {
	char path[64]; /* absolute; short, since sockets lie in it */
};

/* Makes it with mode 0711, so that another uid reaches what the test opens to it. Fails the test if it cannot. */
void scratch_init(struct scratch *s);
/* Removes everything, following no link. Harmless when it was removed already. */
void scratch_fini(struct scratch *s);

/* An absolute path below it: of up to 16 such results the oldest is overwritten by the next call. */
const char *scratch_path(const struct scratch *s, const char *fmt, ...) PRINTF_LIKE(2, 3);

/* Writes a whole file with these permission bits and returns scratch_path(name). */
const char *scratch_file(const struct scratch *s, const char *name, mode_t mode, const char *content, size_t n);
const char *scratch_text(const struct scratch *s, const char *name, mode_t mode, const char *content);

/* Reads a whole file; empty when there is none. The buffer is the caller's. */
struct buf scratch_read(const char *path);

/* Whether the bytes occur in the buffer. */
bool buf_contains(const struct buf *b, const char *needle);

#endif
