/* SPDX-License-Identifier: Apache-2.0 */
/* HTTP/1.1 as tests read it: on purpose not the code under test, and only for messages that are well-formed. */
#ifndef LIB_WIRE_H
#define LIB_WIRE_H

#include <stdbool.h>
#include <stddef.h>

#include "common/buf.h"
#include "common/str.h"

/* Bytes of the head with its empty line, or 0 while it is incomplete. */
size_t wire_head_bytes(struct str s);

/* The first line, without its end. */
struct str wire_first_line(struct str head);
/* Of a response; 0 when that is not what it is. */
unsigned wire_status(struct str head);
/* Of a request: the second word of the first line. */
struct str wire_target(struct str head);

/* How many lines have this name, and the value of the nth (0 the first; n is 0 and p NULL without one). */
unsigned wire_count(struct str head, const char *name);
struct str wire_header(struct str head, const char *name, unsigned nth);
bool wire_header_is(struct str head, const char *name, const char *value);

enum wire_extent {
	WIRE_MORE,
	WIRE_COMPLETE,
	WIRE_BROKEN,
};

/* Takes chunked framing off: *used is how many bytes of `raw` were taken; body bytes are added to `out`. */
enum wire_extent wire_dechunk(struct str raw, size_t *used, struct buf *out);

/*
 * The body behind a head, from everything that has been received after it. `bodiless`: none is expected. Without
 * framing a request has no body, and a response's goes on until the end (`ended`).
 */
enum wire_extent wire_body(struct str head, struct str raw, bool bodiless, bool ended, size_t *used, struct buf *out);

#endif
