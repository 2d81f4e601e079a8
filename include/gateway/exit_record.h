/* SPDX-License-Identifier: Apache-2.0 */
/* Takes the exit record out of an NDJSON stream, so that it can be sent last. */
#ifndef GATEWAY_EXIT_RECORD_H
#define GATEWAY_EXIT_RECORD_H

#include <stdbool.h>

#include "common/buf.h"
#include "common/str.h"

enum {
	EXIT_RECORD_MAX_BYTES = 4096
};

struct exit_record {
	struct buf line; /* the line that may be one, as far as it has come; later the record without its line end */
	bool in_line;    /* within a line that is none */
	bool found;
};

/* Harmless on zeroed memory. */
void exit_record_fini(struct exit_record *r);

/* The next bytes of the stream, cut anywhere; appends to `out` what is no exit record. */
void exit_record_feed(struct exit_record *r, struct str bytes, struct buf *out);
/* The stream has ended: appends what was held back and is none; afterwards a line has always ended. */
void exit_record_end(struct exit_record *r, struct buf *out);

#endif
