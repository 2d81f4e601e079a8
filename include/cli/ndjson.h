/* SPDX-License-Identifier: Apache-2.0 */
/* Cuts a stream of NDJSON into its lines, however the bytes arrive. */
#ifndef CLI_NDJSON_H
#define CLI_NDJSON_H

#include "common/buf.h"
#include "common/err.h"
#include "common/str.h"

/* A longer line is an error: the server sends pieces of a few KiB. */
enum {
	NDJSON_LINE_MAX = 8 << 20
};

struct ndjson {
	struct buf partial; /* owned; the line that has not ended yet */
};

#define NDJSON_EMPTY ((struct ndjson){0})

/* Called for each line without its end; blank ones (keep-alives) are left out. 0, or a negative value to
 * stop. */
typedef int (*ndjson_line_fn)(void *user, struct str line);

void ndjson_fini(struct ndjson *n);

/* 0, what the callback returned, -EMSGSIZE for a line that is too long, -ENOMEM. */
MUST_CHECK int ndjson_feed(struct ndjson *n, struct str bytes, ndjson_line_fn on_line, void *user);

/* The stream has ended; a last line needs no newline. */
MUST_CHECK int ndjson_finish(struct ndjson *n, ndjson_line_fn on_line, void *user);

#endif
