/* SPDX-License-Identifier: Apache-2.0 */
/* Takes a stream of server-sent events apart while it arrives, every byte of it kept for who passes it on. */
#ifndef GATEWAY_SSE_H
#define GATEWAY_SSE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/buf.h"
#include "common/err.h"
#include "common/str.h"

enum {
	SSE_MAX_BYTES = 256 * 1024 /* a longer event is skipped */
};

/*
 * An event with the blank line behind it, a comment that stands outside of one, or a blank line alone. All raws together
 * are the stream, but for skipped events and an unfinished end. Borrowed for the call.
 */
struct sse_event {
	struct str raw;
	bool has_data;   /* false: a client sees no event in it */
	struct str data; /* the values of its data lines, joined by line feeds */
};

typedef void sse_on_event(void *arg, const struct sse_event *event);

/* Embedded; fields are the module's own but for the counts. */
struct sse {
	sse_on_event *on_event;
	void *arg;        /* borrowed; for on_event */
	struct buf raw;   /* owned; the event so far */
	struct buf data;  /* owned; its data lines */
	size_t line;      /* where in raw the current line begins */
	bool has_fields;  /* the event has a line that is no comment */
	bool has_data;    /* it has a data line */
	bool behind_cr;   /* a line feed that comes now belongs to the line end before it */
	bool too_long;    /* the event is being skipped */
	bool empty_line;  /* while too_long: the current line has no byte so far */
	uint64_t seen;    /* events given on */
	uint64_t skipped; /* events longer than SSE_MAX_BYTES */
};

void sse_init(struct sse *s, sse_on_event *on_event, void *arg);
void sse_fini(struct sse *s);

/*
 * The next bytes, cut anywhere; lines end with CR, LF or CRLF. Calls on_event for each event and comment that is then
 * complete; nothing waits for the line feed that may follow a CR: one that comes with a later call is the first byte of
 * the next raw. 0 or -ENOMEM, then and in every later call.
 */
MUST_CHECK int sse_feed(struct sse *s, struct str bytes);

/* Whether the stream stops within an event, which then reaches nobody. For tests: what is passed on is whole events. */
bool sse_is_unfinished(const struct sse *s);

#endif
